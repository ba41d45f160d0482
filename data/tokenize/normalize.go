package tokenize

import (
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalizer changes a piece of text between added tokens before it is cut into words.
type normalizer interface{ apply(s string) string }

type sequenceNormalizer []normalizer

func (n sequenceNormalizer) apply(s string) string {
	for _, step := range n {
		s = step.apply(s)
	}
	return s
}

// prependNormalizer puts a text in front, unless the piece is empty.
type prependNormalizer string

func (n prependNormalizer) apply(s string) string {
	if s == "" {
		return s
	}
	return string(n) + s
}

type replaceNormalizer struct{ old, new string }

func (n replaceNormalizer) apply(s string) string { return strings.ReplaceAll(s, n.old, n.new) }

type patternNormalizer struct {
	old *pattern
	new string
}

func (n patternNormalizer) apply(s string) string {
	var out strings.Builder
	for s != "" {
		size, matched := n.old.cut(s)
		if matched {
			out.WriteString(n.new)
		} else {
			out.WriteString(s[:size])
		}
		s = s[size:]
	}
	return out.String()
}

type stripNormalizer struct{ left, right bool }

func (n stripNormalizer) apply(s string) string {
	if n.left {
		s = strings.TrimLeftFunc(s, unicode.IsSpace)
	}
	if n.right {
		s = strings.TrimRightFunc(s, unicode.IsSpace)
	}
	return s
}

type lowercaseNormalizer struct{}

func (lowercaseNormalizer) apply(s string) string {
	// The one character whose lower case is longer whatever stands beside it.
	return strings.ToLower(strings.ReplaceAll(s, "\u0130", "i\u0307"))
}

// formNormalizer is one of Unicode's four forms. x/text inserts U+034F into more than 30 combining marks in a row
// (the stream-safe format), which no tokenizer does: pieces with long runs go through the definition instead.
type formNormalizer norm.Form

// inert are the characters of the basic plane that a form leaves as they are, whatever stands beside them: a text of
// nothing else is normal. Looking them up is several times as fast as x/text's own check.
type inert [1 << 16 / 64]uint64

var inertByForm [norm.NFKD + 1]struct {
	once sync.Once
	set  inert
}

func inertCharacters(form norm.Form) *inert {
	f := &inertByForm[form]
	f.once.Do(func() {
		for r := rune(0); r <= 0xffff; r++ {
			c := string(r)
			if p := form.PropertiesString(c); p.BoundaryBefore() && p.LeadCCC() == 0 && p.TrailCCC() == 0 && form.IsNormalString(c) {
				f.set[r>>6] |= 1 << (r & 63)
			}
		}
	})
	return &f.set
}

// all reports whether s has inert characters only.
func (c *inert) all(s string) bool {
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r > 0xffff || c[r>>6]>>(r&63)&1 == 0 {
			return false
		}
		i += n
	}
	return true
}

// longRun is a number of code points below which 30 marks cannot occur: a code point decomposes to at most 4 marks.
const longRun = 7

func (n formNormalizer) apply(s string) string {
	form := norm.Form(n)
	if inertCharacters(form).all(s) {
		return s
	}
	run := 0
	ascii := true
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			run = 0
			i++
			continue
		}
		ascii = false
		p := norm.NFKD.PropertiesString(s[i:])
		if p.LeadCCC() != 0 || p.TrailCCC() != 0 {
			run++
		} else {
			run = 0
		}
		if run >= longRun {
			return normalizeByDefinition(form, s)
		}
		i += max(p.Size(), 1)
	}
	if ascii {
		return s
	}
	return form.String(s)
}

// normalizeByDefinition decomposes, orders marks by their class (stably) and composes again: Unicode Standard
// 3.11, D106 to D118.
func normalizeByDefinition(form norm.Form, s string) string {
	var runes []rune
	var classes []uint8
	full := norm.NFD
	if form == norm.NFKC || form == norm.NFKD {
		full = norm.NFKD
	}
	for _, r := range s {
		for _, d := range full.String(string(r)) {
			runes = append(runes, d)
			classes = append(classes, norm.NFD.PropertiesString(string(d)).CCC())
		}
	}
	orderMarks(runes, classes)
	if form == norm.NFC || form == norm.NFKC {
		runes = compose(runes, classes)
	}
	return string(runes)
}

// orderMarks sorts each run of marks by class; a counting sort, since a run may be as long as the text.
func orderMarks(runes []rune, classes []uint8) {
	for i := 0; i < len(runes); {
		if classes[i] == 0 {
			i++
			continue
		}
		end := i
		buckets := map[uint8][]rune{}
		for ; end < len(runes) && classes[end] != 0; end++ {
			buckets[classes[end]] = append(buckets[classes[end]], runes[end])
		}
		for c := 1; c < 256; c++ {
			for _, r := range buckets[uint8(c)] {
				runes[i], classes[i] = r, uint8(c)
				i++
			}
		}
	}
}

func compose(runes []rune, classes []uint8) []rune {
	out := runes[:0]
	starter := -1 // index in out
	last := 0     // class of the last kept mark since the starter
	for i, r := range runes {
		c := int(classes[i])
		if starter >= 0 && (last < c || last == 0 && len(out)-1 == starter) {
			if whole, ok := composePair(out[starter], r); ok {
				out[starter] = whole
				continue
			}
		}
		out = append(out, r)
		if c == 0 {
			starter, last = len(out)-1, 0
		} else {
			last = c
		}
	}
	return out
}

// composePair asks x/text for the primary composite of two code points.
func composePair(a, b rune) (rune, bool) {
	s := norm.NFC.String(string(a) + string(b))
	r, n := utf8.DecodeRuneInString(s)
	return r, n == len(s)
}
