// Package tokenize reads Hugging Face tokenizers (tokenizer.json, or vocab.json with merges.txt) and turns text
// into exactly the ids that the reference implementation gives: byte-level BPE as GPT-2, Qwen, Llama-3 and
// SmolLM2 use it, and SentencePiece-style BPE. What a file asks for and this package lacks is refused by name.
package tokenize

import (
	"strings"
	"sync"
	"unicode/utf8"
)

// Tokenizer turns text into ids and back. It is immutable and safe for concurrent use.
type Tokenizer struct {
	raw        *addedSet // added tokens found in the text as it is
	normalized *addedSet // those found after normalisation
	normalizer normalizer
	stages     []stage
	model      *bpe
	template   template
	decoder    decoder
	batch      Batch // as the file says

	tokens   []string // by id; "" where missing
	present  []bool
	ids      map[string]int32
	special  []bool
	normal   map[int32]string // added tokens as normalised, which is how they decode
	specials Specials
	digest   string
	scratch  sync.Pool // *[]span
}

// Specials are the ids of the tokens with a role, -1 where tokenizer_config.json names none.
type Specials struct{ BOS, EOS, Pad, Mask, Unknown int32 }

// Encode appends the ids of text to dst, without the special tokens that the file's post-processor would add.
// Added tokens that occur in the text are recognised. Bytes that are not UTF-8 are read as U+FFFD.
func (t *Tokenizer) Encode(dst []int32, text string) []int32 {
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	buffer, _ := t.scratch.Get().(*[]span)
	if buffer == nil {
		buffer = new([]span)
	}
	spans := t.raw.split((*buffer)[:0], text)
	if len(spans) == 0 {
		dst = t.encodePiece(dst, text, true)
	}
	for _, s := range spans {
		if s.id >= 0 {
			dst = append(dst, s.id)
		} else {
			dst = t.encodePiece(dst, text[s.start:s.end], s.start == 0)
		}
	}
	*buffer = spans
	t.scratch.Put(buffer)
	return dst
}

// encodePiece encodes what lies between two added tokens; first says that the whole text begins here.
func (t *Tokenizer) encodePiece(dst []int32, text string, first bool) []int32 {
	if t.normalizer != nil {
		text = t.normalizer.apply(text)
	}
	spans := t.normalized.split(nil, text)
	if len(spans) == 0 {
		return t.encodeWords(dst, text, first)
	}
	for _, s := range spans {
		if s.id >= 0 {
			dst = append(dst, s.id)
		} else {
			dst = t.encodeWords(dst, text[s.start:s.end], first && s.start == 0)
		}
	}
	return dst
}

func (t *Tokenizer) encodeWords(dst []int32, text string, first bool) []int32 {
	if text == "" {
		return dst
	}
	return t.words(dst, text, first, 0)
}

// Digest identifies the vocabulary and the rules: SHA-256 of the files that the tokenizer was read from, in hex.
func (t *Tokenizer) Digest() string { return t.digest }

// Size returns one more than the highest id: the least number of rows of an embedding table.
func (t *Tokenizer) Size() int { return len(t.tokens) }

// Token returns the token of an id as the file spells it.
func (t *Tokenizer) Token(id int32) (string, bool) {
	if id < 0 || int(id) >= len(t.tokens) || !t.present[id] {
		return "", false
	}
	return t.tokens[id], true
}

// ID returns the id of a token as the file spells it.
func (t *Tokenizer) ID(token string) (int32, bool) {
	id, ok := t.ids[token]
	return id, ok
}

// Special reports whether an id is an added token marked special.
func (t *Tokenizer) Special(id int32) bool {
	return id >= 0 && int(id) < len(t.special) && t.special[id]
}

// Specials returns the ids of the tokens with a role. All are -1 for a tokenizer that was parsed from
// tokenizer.json alone, which does not say.
func (t *Tokenizer) Specials() Specials { return t.specials }
