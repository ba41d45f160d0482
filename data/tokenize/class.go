package tokenize

import (
	"unicode"
	"unicode/utf8"
)

// class is a set of code points. The basic plane is a bitmap, so that a look-up costs the same for every script.
type class struct {
	bitmap  [1 << 16 / 64]uint64
	items   []classItem
	negated bool
}

// classItem is a range of code points, or a table, or what is not in a table.
type classItem struct {
	lo, hi rune
	table  *unicode.RangeTable
	negate bool
}

func newClass(items []classItem, negated bool) *class {
	c := &class{items: items, negated: negated}
	for _, item := range items {
		var set [len(c.bitmap)]uint64
		item.fill(&set)
		for i := range c.bitmap {
			c.bitmap[i] |= set[i]
		}
	}
	if negated {
		for i := range c.bitmap {
			c.bitmap[i] = ^c.bitmap[i]
		}
	}
	return c
}

func (item classItem) fill(set *[1 << 16 / 64]uint64) {
	add := func(lo, hi, stride int) {
		for r := lo; r <= min(hi, 0xffff); r += stride {
			set[r>>6] |= 1 << (r & 63)
		}
	}
	if item.table == nil {
		add(int(item.lo), int(item.hi), 1)
		return
	}
	for _, r := range item.table.R16 {
		add(int(r.Lo), int(r.Hi), int(r.Stride))
	}
	if item.negate {
		for i := range set {
			set[i] = ^set[i]
		}
	}
}

func (c *class) has(r rune) bool {
	if r <= 0xffff {
		return c.bitmap[r>>6]>>(r&63)&1 != 0
	}
	return c.slow(r) != c.negated
}

func (c *class) slow(r rune) bool {
	for _, item := range c.items {
		if item.table == nil && item.lo <= r && r <= item.hi || item.table != nil && unicode.Is(item.table, r) != item.negate {
			return true
		}
	}
	return false
}

// run returns how many bytes of s, from its beginning, are at most limit code points of the class, and how many.
func (c *class) run(s string, limit int) (size, count int) {
	for count < limit && size < len(s) {
		if b := s[size]; b < utf8.RuneSelf {
			if c.bitmap[b>>6]>>(b&63)&1 == 0 {
				break
			}
			size++
		} else {
			r, n := utf8.DecodeRuneInString(s[size:])
			if !c.has(r) {
				break
			}
			size += n
		}
		count++
	}
	return size, count
}

// word is \w of Rust's expressions: what a single_word token must not touch.
var word = newClass([]classItem{
	{table: unicode.L}, {table: unicode.M}, {table: unicode.Nd}, {table: unicode.Nl}, {table: unicode.Pc}, {table: unicode.Other_Alphabetic}, {lo: 0x200c, hi: 0x200d},
}, false)
