// Package simd has every CPU kernel other than the matrix product: norms, rotary, attention, gates, pooling, losses,
// the optimizer's step and fixed point, each forward and backward.
//
// Batches are ragged: the tokens of all texts lie one after another in [T, d], text b being rows
// cu[b] .. cu[b+1] of it (cu: int32 [B+1], cu[0] = 0, ascending). Nothing is padded.
//
// Every function takes a *pool.Pool (nil: the calling goroutine) and its result has the same bits for any number of
// threads: work is cut in blocks that depend on shapes alone, and partial sums are combined in the order of blocks.
// Results may differ in the last bits between levels (isa.Active), but for AdamW, the fixed-point functions and
// dropout, which are exact and equal everywhere.
//
// Slices are row-major, lengths are checked, and destinations may be the sources where a comment says so.
package simd

import (
	"fmt"

	"github.com/counterpoint-ml/counterpoint/trainer/philox"
)

// Heads is the layout of a packed row q | k | v: (Query + 2*KV) * Dim floats. Query is a multiple of KV; query head h
// reads key/value head h / (Query/KV).
type Heads struct{ Query, KV, Dim int }

// Width is the number of floats of a packed row.
func (h Heads) Width() int { return (h.Query + 2*h.KV) * h.Dim }

// Mask says which keys j a query i sees within its text. Causal: j <= i, and with a window i - j < Window.
// Bidirectional: all, and with a window |i - j| <= Window. Window 0 is none.
//
// Open lets some of the pairs through that the mask hides (ops.Anneal): those whose byte, j%16 of the block at (Step, 0, i,
// j/16) under Key, is below Open, 0 being none and 256 all.
type Mask struct {
	Causal bool
	Window int
	Open   int
	Key    philox.Key
	Step   uint32
}

// bounds returns the keys [lo, hi) outside of which query i of n sees none.
func (m Mask) bounds(i, n int) (lo, hi int) {
	if m.Open > 0 {
		return 0, n
	}
	return m.closed(i, n)
}

// closed is bounds without what is open besides.
func (m Mask) closed(i, n int) (lo, hi int) {
	lo, hi = 0, n
	if m.Causal {
		hi = i + 1
		if m.Window > 0 {
			lo = max(0, i-m.Window+1)
		}
	} else if m.Window > 0 {
		lo, hi = max(0, i-m.Window), min(n, i+m.Window+1)
	}
	return lo, hi
}

// check panics when a caller passes a slice shorter than its shape: an invariant of the calling kernel, not user input.
func check(what string, got, want int) {
	if got < want {
		panic(fmt.Sprintf("simd: %s has %d values, its shape needs %d", what, got, want))
	}
}
