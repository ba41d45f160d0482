package tokenize

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// file is tokenizer.json. Unknown keys are ignored; unknown types of parts are refused when they are built.
type file struct {
	Truncation    json.RawMessage `json:"truncation"`
	Padding       json.RawMessage `json:"padding"`
	AddedTokens   []addedToken    `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Model         json.RawMessage `json:"model"`
}

type modelFile struct {
	Type         *string          `json:"type"`
	Vocab        map[string]int64 `json:"vocab"`
	Merges       json.RawMessage  `json:"merges"`
	Dropout      *float64         `json:"dropout"`
	UnkToken     *string          `json:"unk_token"`
	Prefix       *string          `json:"continuing_subword_prefix"`
	Suffix       *string          `json:"end_of_word_suffix"`
	FuseUnk      bool             `json:"fuse_unk"`
	ByteFallback bool             `json:"byte_fallback"`
	IgnoreMerges bool             `json:"ignore_merges"`
}

// definition is a tokenizer as read from either form of files, before it is built.
type definition struct {
	vocab        map[string]int64
	merges       [][2]string
	added        []addedToken
	unknown      string // "" = none
	fuseUnknown  bool
	byteFallback bool
	ignoreMerges bool

	normalizer, preTokenizer, postProcessor, decoder json.RawMessage
	truncation, padding                              json.RawMessage
}

// Parse reads the content of a tokenizer.json; name is used in errors.
func Parse(name string, content []byte) (*Tokenizer, error) {
	def, err := parseFile(content)
	if err != nil {
		return nil, fmt.Errorf("tokenizer %s: %w", name, err)
	}
	t, err := def.build()
	if err != nil {
		return nil, fmt.Errorf("tokenizer %s: %w", name, err)
	}
	t.digest = digest(content)
	return t, nil
}

func parseFile(content []byte) (*definition, error) {
	var f file
	if err := unmarshal(content, &f); err != nil {
		return nil, err
	}
	if isNull(f.Model) {
		return nil, errors.New("model is missing")
	}
	var m modelFile
	var kind struct {
		Type *string `json:"type"`
	}
	if err := json.Unmarshal(f.Model, &kind); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if kind.Type != nil && *kind.Type != "BPE" {
		return nil, fmt.Errorf("model type %q is not supported (BPE is)", *kind.Type)
	}
	if err := json.Unmarshal(f.Model, &m); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	return m.definition(&f)
}

func (m *modelFile) definition(f *file) (*definition, error) {
	if m.Vocab == nil {
		return nil, errors.New("model.vocab is missing")
	}
	if isNull(m.Merges) {
		return nil, errors.New("model.merges is missing")
	}
	for key, value := range map[string]*string{"continuing_subword_prefix": m.Prefix, "end_of_word_suffix": m.Suffix} {
		if value != nil && *value != "" {
			return nil, fmt.Errorf("model.%s %q is not supported", key, *value)
		}
	}
	if d := m.Dropout; d != nil && *d != 0 {
		return nil, fmt.Errorf("model.dropout is %g: only 0 is supported, since ids must not be random", *d)
	}
	merges, err := parseMerges(m.Merges)
	if err != nil {
		return nil, fmt.Errorf("model.merges: %w", err)
	}
	def := &definition{
		vocab: m.Vocab, merges: merges, added: f.AddedTokens,
		fuseUnknown: m.FuseUnk, byteFallback: m.ByteFallback, ignoreMerges: m.IgnoreMerges,
		normalizer: f.Normalizer, preTokenizer: f.PreTokenizer, postProcessor: f.PostProcessor, decoder: f.Decoder,
		truncation: f.Truncation, padding: f.Padding,
	}
	if m.UnkToken != nil {
		def.unknown = *m.UnkToken
		if _, ok := m.Vocab[def.unknown]; !ok {
			return nil, fmt.Errorf("model.unk_token %q is not in the vocabulary", def.unknown)
		}
	}
	return def, nil
}

// parseMerges reads either form, strings "a b" or pairs ["a", "b"], all of one form.
func parseMerges(text json.RawMessage) ([][2]string, error) {
	inner := bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(text), []byte("[")))
	if bytes.HasPrefix(inner, []byte(`"`)) {
		var lines []string
		if err := json.Unmarshal(text, &lines); err != nil {
			return nil, err
		}
		out := make([][2]string, len(lines))
		for i, line := range lines {
			left, right, ok := strings.Cut(line, " ")
			if !ok || left == "" || right == "" || strings.Contains(right, " ") {
				return nil, fmt.Errorf("entry %d, %q, is not two tokens with a blank between", i, line)
			}
			out[i] = [2]string{left, right}
		}
		return out, nil
	}
	var pairs [][]string // not [][2]string, which would drop a third part silently
	if err := json.Unmarshal(text, &pairs); err != nil {
		return nil, err
	}
	out := make([][2]string, len(pairs))
	for i, p := range pairs {
		if len(p) != 2 {
			return nil, fmt.Errorf("entry %d, %q, has %d parts, want 2", i, p, len(p))
		}
		out[i] = [2]string{p[0], p[1]}
	}
	return out, nil
}

// unmarshal decodes a whole file and says where it is broken and what it is instead.
func unmarshal(content []byte, into any) error {
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	trimmed := bytes.TrimSpace(content)
	switch {
	case len(trimmed) == 0:
		return errors.New("the file is empty")
	case bytes.HasPrefix(trimmed, []byte("version https://git-lfs")):
		return errors.New("this is a Git LFS pointer, not the file it points to (git lfs pull)")
	case trimmed[0] == '<':
		return errors.New("this looks like an HTML page, not JSON")
	case !utf8.Valid(content):
		return errors.New("not valid UTF-8")
	}
	err := json.Unmarshal(content, into)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		before := content[:min(int(syntax.Offset), len(content))]
		return fmt.Errorf("line %d, byte %d: %w", 1+bytes.Count(before, []byte("\n")), syntax.Offset, err)
	}
	return err
}

func isNull(text json.RawMessage) bool {
	return len(text) == 0 || string(text) == "null"
}
