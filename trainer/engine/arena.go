package engine

import "sort"

// block is a range of the arena that one or more values share, and the instructions during which it is taken.
type block struct {
	size        int64 // bytes, a multiple of Align
	first, last int   // instructions, inclusive
	offset      int64
}

func roundUp(n int64) int64 { return (n + Align - 1) &^ (Align - 1) }

// place gives each block the lowest offset at which it meets no block that is alive with it, largest blocks first
// (Pisarchyk, Lee: "Efficient memory management for deep neural net inference", 2020, greedy by size). It returns
// the size of the arena.
func place(blocks []*block) int64 {
	order := append([]*block(nil), blocks...)
	sort.SliceStable(order, func(i, j int) bool { return order[i].size > order[j].size })
	var total int64
	var placed []*block // ascending offset
	for _, b := range order {
		at := int64(0)
		for _, o := range placed {
			if o.first > b.last || b.first > o.last {
				continue
			}
			if o.offset-at >= b.size {
				break
			}
			at = max(at, o.offset+o.size)
		}
		b.offset = at
		total = max(total, at+b.size)
		i := sort.Search(len(placed), func(i int) bool { return placed[i].offset > at })
		placed = append(placed, nil)
		copy(placed[i+1:], placed[i:])
		placed[i] = b
	}
	return total
}
