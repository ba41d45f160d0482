package tokenize

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Names of the files of a tokenizer in a model's folder.
const (
	FileName   = "tokenizer.json"
	ConfigName = "tokenizer_config.json"
	vocabName  = "vocab.json"
	mergesName = "merges.txt"
)

// Files are the contents of a tokenizer's files, nil where a file is missing. A checkpoint copies them.
type Files struct {
	Tokenizer []byte // tokenizer.json
	Config    []byte // tokenizer_config.json
	Vocab     []byte // vocab.json, used without tokenizer.json only
	Merges    []byte // merges.txt, likewise
}

// ReadFiles reads a tokenizer's files from a model's folder.
func ReadFiles(dir string) (Files, error) {
	var f Files
	for name, into := range map[string]*[]byte{FileName: &f.Tokenizer, ConfigName: &f.Config, vocabName: &f.Vocab, mergesName: &f.Merges} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return Files{}, fmt.Errorf("tokenizer: %w", err)
		}
		*into = content
	}
	return f, nil
}

// Contents returns the files that are there by name, to be written into another folder.
func (f Files) Contents() map[string][]byte {
	out := map[string][]byte{}
	for name, content := range map[string][]byte{FileName: f.Tokenizer, ConfigName: f.Config, vocabName: f.Vocab, mergesName: f.Merges} {
		if content != nil {
			out[name] = content
		}
	}
	return out
}

// Open reads the tokenizer of a model's folder: tokenizer.json, or vocab.json with merges.txt; the roles of
// special tokens come from tokenizer_config.json.
func Open(dir string) (*Tokenizer, error) {
	f, err := ReadFiles(dir)
	if err != nil {
		return nil, err
	}
	return f.Open(dir)
}

// Open makes the tokenizer; dir is used in errors.
func (f Files) Open(dir string) (*Tokenizer, error) {
	var config config
	if f.Config != nil {
		if err := unmarshal(f.Config, &config); err != nil {
			return nil, fmt.Errorf("tokenizer %s: %w", filepath.Join(dir, ConfigName), err)
		}
	}
	var t *Tokenizer
	var err error
	switch {
	case f.Tokenizer != nil:
		t, err = Parse(filepath.Join(dir, FileName), f.Tokenizer)
	case f.Vocab != nil && f.Merges != nil:
		t, err = parseVocabMerges(dir, f, &config)
	default:
		err = fmt.Errorf("tokenizer: %s has neither %s nor %s with %s", dir, FileName, vocabName, mergesName)
	}
	if err != nil {
		return nil, err
	}
	t.specials = Specials{t.role(config.BOS), t.role(config.EOS), t.role(config.Pad), t.role(config.Mask), t.role(config.Unknown)}
	return t, nil
}

// config is the part of tokenizer_config.json that we use.
type config struct {
	Class       string                `json:"tokenizer_class"`
	Added       map[string]addedToken `json:"added_tokens_decoder"` // by id, in decimal
	PrefixSpace bool                  `json:"add_prefix_space"`
	BOS         tokenName             `json:"bos_token"`
	EOS         tokenName             `json:"eos_token"`
	Pad         tokenName             `json:"pad_token"`
	Mask        tokenName             `json:"mask_token"`
	Unknown     tokenName             `json:"unk_token"`
}

// tokenName is a token's content, stored plainly or inside an object.
type tokenName string

// UnmarshalJSON implements json.Unmarshaler.
func (n *tokenName) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte("{")) {
		var object struct{ Content string }
		err := json.Unmarshal(text, &object)
		*n = tokenName(object.Content)
		return err
	}
	return json.Unmarshal(text, (*string)(n))
}

func (t *Tokenizer) role(name tokenName) int32 {
	if id, ok := t.ids[string(name)]; ok && name != "" {
		return id
	}
	return -1
}

// qwenPattern is the pre-tokeniser of Qwen2, Qwen2.5, Qwen3 and Dream, for folders without tokenizer.json.
const qwenPattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

// parseVocabMerges reads the slow tokenizers' form. Its rules are code in transformers, chosen by tokenizer_class.
func parseVocabMerges(dir string, f Files, c *config) (*Tokenizer, error) {
	def := &definition{}
	if err := unmarshal(f.Vocab, &def.vocab); err != nil {
		return nil, fmt.Errorf("tokenizer %s: %w", filepath.Join(dir, vocabName), err)
	}
	if def.vocab == nil {
		return nil, fmt.Errorf("tokenizer %s: not an object of tokens and ids", filepath.Join(dir, vocabName))
	}
	var err error
	if def.merges, err = parseMergesText(string(f.Merges)); err != nil {
		return nil, fmt.Errorf("tokenizer %s: %w", filepath.Join(dir, mergesName), err)
	}
	switch strings.TrimSuffix(c.Class, "Fast") {
	case "", "GPT2Tokenizer":
		def.preTokenizer = json.RawMessage(fmt.Sprintf(`{"type":"ByteLevel","add_prefix_space":%t}`, c.PrefixSpace))
	case "Qwen2Tokenizer", "DreamTokenizer":
		pattern, _ := json.Marshal(qwenPattern) // a string always encodes
		def.normalizer = json.RawMessage(`{"type":"NFC"}`)
		def.preTokenizer = json.RawMessage(fmt.Sprintf(`{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":%s},"behavior":"Isolated"},
			{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]}`, pattern))
	default:
		return nil, fmt.Errorf("tokenizer %s: tokenizer_class %q without %s is not supported (GPT2Tokenizer, Qwen2Tokenizer and DreamTokenizer are)", dir, c.Class, FileName)
	}
	def.decoder = json.RawMessage(`{"type":"ByteLevel"}`)
	if def.added, err = c.addedTokens(def.vocab); err != nil {
		return nil, fmt.Errorf("tokenizer %s: %w", filepath.Join(dir, ConfigName), err)
	}
	t, err := def.build()
	if err != nil {
		return nil, fmt.Errorf("tokenizer %s: %w", dir, err)
	}
	t.digest = digest(f.Vocab, f.Merges, f.Config)
	return t, nil
}

// addedTokens returns those that the configuration lists, by id, and GPT-2's own end of text.
func (c *config) addedTokens(vocab map[string]int64) ([]addedToken, error) {
	var out []addedToken
	for text, token := range c.Added {
		id, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("added_tokens_decoder: %q is not an id", text)
		}
		token.ID = id
		out = append(out, token)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	const end = "<|endoftext|>"
	if id, ok := vocab[end]; ok && len(out) == 0 {
		out = append(out, addedToken{ID: id, Content: end, Special: true})
	}
	return out, nil
}

// parseMergesText reads lines "left right" behind an optional #version line.
func parseMergesText(text string) ([][2]string, error) {
	var out [][2]string
	line := 0
	for text != "" {
		var current string
		current, text, _ = strings.Cut(text, "\n")
		line++
		current = strings.TrimSuffix(current, "\r")
		if current == "" || line == 1 && strings.HasPrefix(current, "#version") {
			continue
		}
		left, right, ok := strings.Cut(current, " ")
		if !ok || left == "" || right == "" || strings.Contains(right, " ") {
			return nil, fmt.Errorf("line %d, %.60q, is not two tokens with a blank between", line, current)
		}
		out = append(out, [2]string{left, right})
	}
	return out, nil
}
