package tokenize

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// addedToken is a token that is found in the text before anything else is done to it.
type addedToken struct {
	ID         int64  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// addedSet finds the leftmost, then longest, of several added tokens.
type addedSet struct {
	first     [256]bool
	lengths   []int // descending
	byContent map[string]addedToken
}

func newAddedSet(tokens []addedToken) *addedSet {
	s := &addedSet{byContent: map[string]addedToken{}}
	for _, t := range tokens {
		if _, twice := s.byContent[t.Content]; twice || t.Content == "" {
			continue // an empty token would match everywhere: it never matches, as in the reference
		}
		s.byContent[t.Content] = t
		s.first[t.Content[0]] = true
		if !slices.Contains(s.lengths, len(t.Content)) {
			s.lengths = append(s.lengths, len(t.Content))
		}
	}
	slices.Sort(s.lengths)
	slices.Reverse(s.lengths)
	return s
}

// find returns the next token at or behind from, without regard to its flags.
func (s *addedSet) find(text string, from int) (addedToken, int, bool) {
	for i := from; i < len(text); i++ {
		if !s.first[text[i]] {
			continue
		}
		for _, n := range s.lengths {
			if i+n > len(text) {
				continue
			}
			if t, ok := s.byContent[text[i:i+n]]; ok {
				return t, i, true
			}
		}
	}
	return addedToken{}, 0, false
}

// span is a piece of text: an added token (id >= 0) or what lies between two.
type span struct {
	id         int32
	start, end int
}

// split cuts text at the added tokens as the reference's find_matches does. No tokens: no spans at all.
func (s *addedSet) split(dst []span, text string) []span {
	if len(s.byContent) == 0 {
		return dst
	}
	done := 0
	for from := 0; ; {
		t, start, ok := s.find(text, from)
		if !ok {
			break
		}
		end := start + len(t.Content)
		from = end
		if t.SingleWord && (endsWithWord(text[:start]) || startsWithWord(text[end:])) {
			continue
		}
		if t.LStrip {
			start = max(len(strings.TrimRightFunc(text[:start], unicode.IsSpace)), done)
		}
		if t.RStrip {
			end = len(text) - len(strings.TrimLeftFunc(text[end:], unicode.IsSpace))
		}
		if done < start {
			dst = append(dst, span{-1, done, start})
		}
		dst = append(dst, span{int32(t.ID), start, end})
		done = end
	}
	if done > 0 && done < len(text) {
		dst = append(dst, span{-1, done, len(text)})
	}
	return dst
}

func endsWithWord(s string) bool {
	r, n := utf8.DecodeLastRuneInString(s)
	return n > 0 && word.has(r)
}

func startsWithWord(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return n > 0 && word.has(r)
}
