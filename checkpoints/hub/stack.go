package hub

import (
	"fmt"
	"slices"
	"strings"
)

// Stack returns one adapter that computes what all of them compute one after another: A of a module lie one below the
// other, its B side by side, each B scaled by its own factor, so that the scale of the whole is 1 (alpha = rank). Ranks
// are filled up with zeros to the largest, since PEFT's oldest readers know one rank. Tensors are named over AutoModel.
func Stack(adapters []*Adapter) (rank int, out []Stacked, err error) {
	byPath := map[string][]*Adapter{}
	ranks := map[string]int{}
	var paths []string
	for _, a := range adapters {
		if whole := a.Whole(); len(whole) > 0 {
			return 0, nil, fmt.Errorf("adapter %s stores %s whole, which no LoRA beside it can express: export merged weights", a.dir, strings.Join(whole, ", "))
		}
		for _, m := range a.Modules() {
			if byPath[m.Path] == nil {
				paths = append(paths, m.Path)
			}
			byPath[m.Path] = append(byPath[m.Path], a)
			ranks[m.Path] += m.Rank
			rank = max(rank, ranks[m.Path])
		}
	}
	slices.Sort(paths)
	for _, path := range paths {
		s := Stacked{Path: path}
		at := 0
		for _, a := range byPath[path] {
			modules := a.Modules()
			m := modules[slices.IndexFunc(modules, func(m Module) bool { return m.Path == path })]
			if s.A == nil {
				s.In, s.Out = m.In, m.Out
				s.A, s.B = make([]float32, rank*m.In), make([]float32, m.Out*rank)
			}
			if m.In != s.In || m.Out != s.Out {
				return 0, nil, fmt.Errorf("adapter %s: %s is [%d, %d], an earlier adapter has [%d, %d]", a.dir, path, m.Out, m.In, s.Out, s.In)
			}
			down, up, err := a.Values(path)
			if err != nil {
				return 0, nil, err
			}
			copy(s.A[at*m.In:], down)
			for o := range m.Out {
				for k := range m.Rank {
					s.B[o*rank+at+k] = float32(float64(up[o*m.Rank+k]) * m.Scale)
				}
			}
			at += m.Rank
		}
		out = append(out, s)
	}
	return rank, out, nil
}

// Stacked is one linear of Stack: A [rank, In], B [Out, rank].
type Stacked struct {
	Path    string
	In, Out int
	A, B    []float32
}
