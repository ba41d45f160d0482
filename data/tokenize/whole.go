package tokenize

import (
	"strings"
	"unicode/utf8"
)

// wholeChars lets byte-level merging begin with whole characters, where that gives the same ids as beginning with their
// bytes. Chinese has no blanks, so its words are long and seldom cached; three bytes of a character take most of the
// merges.
//
// Let c be a character whose bytes alone merge into one token, at ranks of at most done(c). Beginning with that token
// changes nothing if
//
//  1. no merge can join a part of c with a neighbour: the seams on both sides are clean;
//  2. every merge of tokens that hold c has a rank above done(c).
//
// For then, whenever a step of merging takes place while c is in parts, its rank is at most that of c's own next step,
// so at most done(c), and no pair that holds the whole c could have come before it: the steps outside of c are the same
// ones in the same order.
type wholeChars struct {
	ids   []int32           // by code point of the basic plane, -1 = begin with bytes
	dirty [256]byteSet      // by a seam's two bytes: merges of parts of characters across it may exist
	seams map[uint16][]seam // those merges, by the two bytes
}

// byteSet is a set of bytes.
type byteSet [4]uint64

func (s *byteSet) has(b byte) bool { return s[b>>6]>>(b&63)&1 != 0 }

// seam is a merge across two characters of which at least one is not whole: what is before and behind it.
type seam struct{ before, behind string }

// clean reports whether no merge joins a part of a character with another one at position i of w.
func (c *wholeChars) clean(w string, i int) bool {
	if i == 0 || i == len(w) || !c.dirty[w[i-1]].has(w[i]) {
		return true
	}
	for _, s := range c.seams[uint16(w[i-1])<<8|uint16(w[i])] {
		if strings.HasSuffix(w[:i], s.before) && strings.HasPrefix(w[i:], s.behind) {
			return false
		}
	}
	return true
}

// newWholeChars returns nil where some byte has no token. ranks are the merges in order, as bytes; m has its merges
// and bytes; one returns the id of a token that is exactly these bytes.
func newWholeChars(m *bpe, merges [][2]string, tokens map[string]int32) *wholeChars {
	for _, id := range m.bytes {
		if id < 0 {
			return nil
		}
	}
	c := &wholeChars{ids: make([]int32, 1<<16), seams: map[uint16][]seam{}}
	for i := range c.ids {
		c.ids[i] = -1
	}
	done := map[rune]uint32{}
	for text, id := range tokens {
		r, n := utf8.DecodeRuneInString(text)
		if n < 2 || n != len(text) || r > 0xffff || r == utf8.RuneError {
			continue
		}
		units := m.byteUnits(nil, text)
		if left, highest := m.mergeRanked(units); left == 1 && units[0] == id {
			c.ids[r], done[r] = id, highest
		}
	}
	for rank, pair := range merges {
		for _, part := range pair {
			for i, r := range part { // utf8.RuneError for parts of characters has no id
				if last, ok := done[r]; ok && uint32(rank) <= last && strings.HasPrefix(part[i:], string(r)) {
					c.ids[r] = -1
				}
			}
		}
		c.note(pair[0], pair[1])
	}
	return c
}

// note keeps the merge of left and right if it joins a part of a character with another character.
func (c *wholeChars) note(left, right string) {
	if left == "" || right == "" || !utf8.RuneStart(right[0]) {
		return // within a character
	}
	start := len(left) - 1
	for start > 0 && !utf8.RuneStart(left[start]) {
		start--
	}
	end := 1
	for end < len(right) && !utf8.RuneStart(right[end]) {
		end++
	}
	before, behind := left[start:], right[:end]
	if utf8.FullRuneInString(before) && utf8.ValidString(before) && utf8.ValidString(behind) {
		return // whole on both sides
	}
	x, y := left[len(left)-1], right[0]
	c.dirty[x][y>>6] |= 1 << (y & 63)
	key := uint16(x)<<8 | uint16(y)
	c.seams[key] = append(c.seams[key], seam{before, behind})
}

// units appends the ids that merging w begins with: characters where that is right, else bytes.
func (c *wholeChars) units(dst []int32, bytes *[256]int32, w string) []int32 {
	clean := true // at i
	for i := 0; i < len(w); {
		b := w[i]
		if b < utf8.RuneSelf {
			dst = append(dst, bytes[b])
			i++
			if i < len(w) {
				clean = c.clean(w, i)
			}
			continue
		}
		r, n := utf8.DecodeRuneInString(w[i:])
		next := c.clean(w, i+n)
		if id := int32(-1); clean && next && r <= 0xffff {
			if id = c.ids[r]; id >= 0 {
				dst = append(dst, id)
				i += n
				continue
			}
		}
		for _, b := range []byte(w[i : i+n]) {
			dst = append(dst, bytes[b])
		}
		i, clean = i+n, next
	}
	return dst
}
