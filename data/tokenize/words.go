package tokenize

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// stage is one pre-tokeniser: it may change a piece of text, then cuts it into smaller ones.
type stage interface {
	// prepare changes the piece; first says that it begins where the whole text begins.
	prepare(s string, first bool) string
	// cut returns the length of the next piece of s, which is not empty, and whether it is left out.
	cut(s string) (n int, drop bool)
}

// Words returns the words that text is cut into before merging, as if it held no added tokens and needed no
// normalisation. A trainer of vocabularies counts them.
func (t *Tokenizer) Words(text string) []string { return collectWords(nil, t.stages, text, true) }

func collectWords(dst []string, stages []stage, s string, first bool) []string {
	if len(stages) == 0 {
		return append(dst, s)
	}
	s = stages[0].prepare(s, first)
	for s != "" {
		n, drop := stages[0].cut(s)
		if !drop {
			dst = collectWords(dst, stages[1:], s[:n], first)
		}
		s, first = s[n:], false
	}
	return dst
}

// words cuts a piece by the stages from i on and encodes what is left of it word by word.
func (t *Tokenizer) words(dst []int32, s string, first bool, i int) []int32 {
	if i == len(t.stages) {
		return t.model.encode(dst, s)
	}
	stage := t.stages[i]
	s = stage.prepare(s, first)
	for s != "" {
		n, drop := stage.cut(s)
		if !drop {
			dst = t.words(dst, s[:n], first, i+1)
		}
		s, first = s[n:], false
	}
	return dst
}

// splitStage is Split with behaviour Isolated or Removed.
type splitStage struct {
	pattern     *pattern
	dropMatches bool
	dropGaps    bool
}

func (s *splitStage) prepare(text string, _ bool) string { return text }

func (s *splitStage) cut(text string) (int, bool) {
	n, matched := s.pattern.cut(text)
	return n, matched && s.dropMatches || !matched && s.dropGaps
}

// byteLevelStage is ByteLevel: the mapping to visible characters itself is undone in the vocabulary at load.
type byteLevelStage struct {
	prefixSpace bool
	pattern     *pattern // nil = not cut
}

// gpt2Pattern is the regular expression that ByteLevel has built in.
const gpt2Pattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

func (s *byteLevelStage) prepare(text string, _ bool) string {
	if s.prefixSpace && text != "" && text[0] != ' ' {
		return " " + text
	}
	return text
}

func (s *byteLevelStage) cut(text string) (int, bool) {
	if s.pattern == nil {
		return len(text), false
	}
	n, _ := s.pattern.cut(text)
	return n, false
}

// digitsStage is Digits: numbers apart from the rest, digit by digit if individual.
type digitsStage struct{ individual bool }

func (digitsStage) prepare(text string, _ bool) string { return text }

func (s digitsStage) cut(text string) (int, bool) {
	r, n := utf8.DecodeRuneInString(text)
	digit := unicode.IsNumber(r)
	if digit && s.individual {
		return n, false
	}
	for n < len(text) {
		r, size := utf8.DecodeRuneInString(text[n:])
		if unicode.IsNumber(r) != digit {
			break
		}
		n += size
	}
	return n, false
}

// metaspaceStage is Metaspace: blanks become a visible mark, which may be put in front, and words begin at it.
type metaspaceStage struct {
	mark   string
	scheme string // first | always | never
	split  bool
}

func (s *metaspaceStage) prepare(text string, first bool) string {
	text = strings.ReplaceAll(text, " ", s.mark)
	if text != "" && !strings.HasPrefix(text, s.mark) && (s.scheme == "always" || s.scheme == "first" && first) {
		text = s.mark + text
	}
	return text
}

func (s *metaspaceStage) cut(text string) (int, bool) {
	if !s.split {
		return len(text), false
	}
	_, n := utf8.DecodeRuneInString(text)
	if next := strings.Index(text[n:], s.mark); next >= 0 {
		return n + next, false
	}
	return len(text), false
}
