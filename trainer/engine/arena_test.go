package engine

import (
	"testing"

	"pgregory.net/rapid"
)

// TestPlace checks that blocks which are alive together never overlap, and that the arena is no larger than their sum.
func TestPlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 40).Draw(t, "blocks")
		var blocks []*block
		var sum, alive int64
		at := map[int]int64{}
		for range n {
			first := rapid.IntRange(-1, 30).Draw(t, "first")
			b := &block{size: Align * rapid.Int64Range(1, 9).Draw(t, "size"), first: first, last: first + rapid.IntRange(0, 10).Draw(t, "length")}
			blocks = append(blocks, b)
			sum += b.size
			for i := b.first; i <= b.last; i++ {
				at[i] += b.size
				alive = max(alive, at[i])
			}
		}
		total := place(blocks)
		if total > sum || total < alive {
			t.Fatalf("arena of %d bytes, want %d (alive at once) to %d (sum)", total, alive, sum)
		}
		for i, a := range blocks {
			if a.offset%Align != 0 || a.offset < 0 || a.offset+a.size > total {
				t.Fatalf("block %d at %d of %d, arena %d", i, a.offset, a.size, total)
			}
			for j, b := range blocks[:i] {
				if a.first <= b.last && b.first <= a.last && a.offset < b.offset+b.size && b.offset < a.offset+a.size {
					t.Fatalf("blocks %+v and %+v (%d, %d) overlap", a, b, i, j)
				}
			}
		}
	})
}
