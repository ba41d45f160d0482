package engine

import (
	"fmt"

	"gorgonia.org/gorgonia"
)

// Sizes that stand for a varying dimension in a graph: a dimension of exactly this size, or one more, varies from run
// to run; any other is what it says. They are primes no model has as a width. A graph with plain sizes in
// their place computes the same, once; gorgonia's own machines need that.
const (
	Tokens = 1_000_003 // T, tokens of a packed batch
	Texts  = 1_000_033 // B, texts of it
	Picks  = 1_000_037 // P, predicted positions
)

// Extents are the actual sizes of the varying dimensions.
type Extents struct{ Tokens, Texts, Picks int }

// dim is a size: base plus an extent, if symbol is one.
type dim struct {
	symbol int // 0, Tokens, Texts or Picks
	base   int
}

func dimOf(n int) dim {
	for _, s := range [...]int{Tokens, Texts, Picks} {
		if n == s || n == s+1 {
			return dim{s, n - s}
		}
	}
	return dim{0, n}
}

func (d dim) size(e Extents) int {
	switch d.symbol {
	case Tokens:
		return e.Tokens + d.base
	case Texts:
		return e.Texts + d.base
	case Picks:
		return e.Picks + d.base
	}
	return d.base
}

// layout is the type and the symbolic shape of a value.
type layout struct {
	kind Type
	rank int
	dims [2]dim
}

func layoutOf(n *gorgonia.Node) (layout, error) {
	l := layout{rank: len(n.Shape())}
	if l.rank > 2 {
		return l, fmt.Errorf("engine: node %v has rank %d, at most 2 is supported", n, l.rank)
	}
	for i, size := range n.Shape() {
		l.dims[i] = dimOf(size)
	}
	switch n.Dtype() {
	case gorgonia.Float32:
	case gorgonia.Int32:
		l.kind = Int32
	default:
		return l, fmt.Errorf("engine: node %v is %v, only float32 and int32 are supported", n, n.Dtype())
	}
	return l, nil
}

// tensor returns the layout's tensor for actual extents, not placed yet.
func (l layout) tensor(e Extents) Tensor {
	t := Tensor{Type: l.kind, Rank: l.rank}
	for i := range l.rank {
		t.Shape[i] = l.dims[i].size(e)
	}
	return t
}

func (e Extents) within(o Extents) bool {
	return e.Tokens <= o.Tokens && e.Texts <= o.Texts && e.Picks <= o.Picks
}
