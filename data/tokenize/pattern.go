package tokenize

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// pattern is a pre-tokeniser's regular expression in the one form that real files use: alternatives, each a
// sequence of repeated character classes and of negative look-aheads for one class. The first alternative that
// matches wins, repetition is greedy with back-tracking, as in Oniguruma. A group may be optional at the end of
// an alternative. Everything else (other repeated groups, back-references, look-behind) is refused by name, so that no file is ever cut wrongly.
type pattern struct {
	alternatives [][]element
	byFirst      [utf8.RuneSelf + 1][]uint8 // alternatives worth trying by first byte; the last entry for non-ASCII
}

type element struct {
	class      *class
	min, max   int
	possessive bool
	ahead      bool        // (?!class); min and max are unused
	options    [][]element // (...|...)? at the end of a sequence; the rest is unused
}

// unlimited is the max of * and +.
const unlimited = math.MaxInt

// maxUnlimited bounds the work of back-tracking to the square of a match's length.
const maxUnlimited = 2

func compilePattern(text string) (*pattern, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("not valid UTF-8")
	}
	p := &patternParser{text: text, classes: map[string]*class{}}
	alternatives, err := p.alternatives(false)
	if err == nil && p.pos < len(text) {
		err = errors.New("unmatched )")
	}
	if err != nil {
		return nil, fmt.Errorf("regular expression %q, at byte %d: %w", text, p.pos, err)
	}
	out := &pattern{alternatives: alternatives}
	if err := out.index(); err != nil {
		return nil, fmt.Errorf("regular expression %q: %w", text, err)
	}
	return out, nil
}

// index checks the alternatives and notes which of them can begin with which byte.
func (p *pattern) index() error {
	if len(p.alternatives) > math.MaxUint8 {
		return fmt.Errorf("%d alternatives, at most %d are supported", len(p.alternatives), math.MaxUint8)
	}
	for i, seq := range p.alternatives {
		least, endless := 0, 0
		for _, e := range seq {
			if e.ahead {
				continue
			}
			for _, option := range e.options {
				for _, inner := range option {
					if inner.max > 1000 || inner.options != nil {
						return fmt.Errorf("alternative %d repeats without limit inside (...)?, which is not supported", i+1)
					}
				}
			}
			least += e.min
			if e.max > 1000 {
				endless++
			}
		}
		if least == 0 {
			return fmt.Errorf("alternative %d can match the empty text", i+1)
		}
		if endless > maxUnlimited {
			return fmt.Errorf("alternative %d repeats %d classes without limit, at most %d are supported", i+1, endless, maxUnlimited)
		}
		for b := range p.byFirst {
			if b == utf8.RuneSelf || canBegin(seq, rune(b)) {
				p.byFirst[b] = append(p.byFirst[b], uint8(i))
			}
		}
	}
	return nil
}

func canBegin(seq []element, r rune) bool {
	for _, e := range seq {
		if e.ahead {
			continue
		}
		if e.options != nil {
			return false // the last one
		}
		if e.class.has(r) {
			return true
		}
		if e.min > 0 {
			return false
		}
	}
	return false
}

// match returns the length of the match at the beginning of s, 0 if there is none.
func (p *pattern) match(s string) int {
	for _, i := range p.byFirst[min(s[0], utf8.RuneSelf)] {
		if end := matchSequence(p.alternatives[i], s, 0); end > 0 {
			return end
		}
	}
	return 0
}

// matchSequence returns where a match of seq that begins at pos ends, -1 if there is none.
func matchSequence(seq []element, s string, pos int) int {
	if len(seq) == 0 {
		return pos
	}
	e := &seq[0]
	if e.ahead {
		if size, _ := e.class.run(s[pos:], 1); size > 0 {
			return -1
		}
		return matchSequence(seq[1:], s, pos)
	}
	for _, option := range e.options {
		if end := matchSequence(option, s, pos); end >= 0 {
			return end
		}
	}
	if e.options != nil {
		return pos
	}
	size, count := e.class.run(s[pos:], e.max)
	if count < e.min {
		return -1
	}
	if len(seq) == 1 {
		return pos + size
	}
	for {
		if end := matchSequence(seq[1:], s, pos+size); end >= 0 {
			return end
		}
		if count == e.min || e.possessive {
			return -1
		}
		_, n := utf8.DecodeLastRuneInString(s[pos : pos+size])
		size -= n
		count--
	}
}

// cut returns the length of the first piece of s, and whether it matches. A piece is a match, or what lies before
// the next match.
func (p *pattern) cut(s string) (n int, matched bool) {
	if n := p.match(s); n > 0 {
		return n, true
	}
	for n < len(s) {
		_, size := utf8.DecodeRuneInString(s[n:])
		n += size
		if n < len(s) && p.match(s[n:]) > 0 {
			break
		}
	}
	return n, false
}
