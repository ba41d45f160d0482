package enginetest

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// testCase makes a problem from random numbers.
type testCase struct {
	name    string
	large   bool
	problem func(r *rand.Rand) *problem
}

// draw makes the leaves of a problem over texts of some lengths.
type draw struct {
	r    *rand.Rand
	p    *problem
	lens []int
}

func newDraw(r *rand.Rand, lens []int, picks int) *draw {
	d := &draw{r: r, p: &problem{at: engine.Extents{Texts: len(lens), Picks: picks}}, lens: lens}
	for _, n := range lens {
		d.p.at.Tokens += n
	}
	return d
}

func (d *draw) floats(kind ops.Kind, scale float64, shape ...int) *draw {
	n := 1
	for _, s := range shape {
		n *= actual(s, d.p.at)
	}
	l := leaf{kind: kind, shape: shape, f: make([]float32, n)}
	for i := range l.f {
		l.f[i] = float32(d.r.NormFloat64() * scale)
	}
	d.p.leaves = append(d.p.leaves, l)
	return d
}

func (d *draw) matrix(shape ...int) *draw { return d.floats(ops.Matrix, 1, shape...) }

func (d *draw) ints(shape int, f func(i int) int) *draw {
	l := leaf{kind: ops.Ints, shape: []int{shape}, i: make([]int32, actual(shape, d.p.at))}
	for i := range l.i {
		l.i[i] = int32(f(i))
	}
	d.p.leaves = append(d.p.leaves, l)
	return d
}

func (d *draw) below(shape, n int) *draw { return d.ints(shape, func(int) int { return d.r.IntN(n) }) }

func (d *draw) cu() *draw {
	return d.ints(engine.Texts+1, func(b int) int {
		at := 0
		for _, n := range d.lens[:b] {
			at += n
		}
		return at
	})
}

func (d *draw) of(spec ops.Spec, ref func([]array) array) *problem {
	d.p.spec, d.p.ref = spec, ref
	return d.p
}

// ragged are batches of texts, from a single token on.
var ragged = map[string][]int{"one": {1}, "few": {3, 1, 7, 2}, "many": {33, 1, 80, 17, 64, 5}}

const (
	tokens = engine.Tokens
	texts  = engine.Texts
	picks  = engine.Picks
)

func cases() []testCase {
	var list []testCase
	add := func(name string, f func(r *rand.Rand) *problem) {
		list = append(list, testCase{name: name, problem: f})
	}
	for _, size := range []string{"one", "few", "many"} {
		lens := ragged[size]
		at := func(format string, args ...any) string { return fmt.Sprintf(format, args...) + "/" + size }
		add(at("Embed"), func(r *rand.Rand) *problem {
			return newDraw(r, lens, 0).below(tokens, 11).matrix(11, 19).of(ops.Embed{}, refEmbed)
		})
		add(at("Select"), func(r *rand.Rand) *problem {
			n := newDraw(r, lens, 0).p.at.Tokens
			return newDraw(r, lens, 5).matrix(tokens, 13).below(picks, n).of(ops.Select{}, refSelect)
		})
		add(at("Add"), func(r *rand.Rand) *problem {
			return newDraw(r, lens, 0).matrix(tokens, 7).matrix(tokens, 7).of(ops.Add{}, refAdd)
		})
		for _, width := range []int{1, 16, 45} {
			add(at("RMSNorm/%d", width), func(r *rand.Rand) *problem {
				return newDraw(r, lens, 0).matrix(tokens, width).floats(ops.Vector, 1, width).of(ops.RMSNorm{Eps: 1e-5}, refNorm(1e-5))
			})
			add(at("Normalize/%d", width+1), func(r *rand.Rand) *problem {
				return newDraw(r, lens, 0).matrix(texts, width+1).of(ops.Normalize{}, refNormalize)
			})
			add(at("SwiGLU/%d", width), func(r *rand.Rand) *problem {
				return newDraw(r, lens, 0).floats(ops.Matrix, 3, tokens, 2*width).of(ops.SwiGLU{}, refSwiGLU)
			})
		}
		for _, n := range []int{1, 24, 65} {
			add(at("Linear/%d", n), func(r *rand.Rand) *problem {
				return newDraw(r, lens, 0).matrix(tokens, 31).floats(ops.Matrix, 0.2, n, 31).of(ops.Linear{}, refLinear)
			})
			add(at("Linear+bias/%d", n), func(r *rand.Rand) *problem {
				return newDraw(r, lens, 0).matrix(tokens, 9).matrix(n, 9).floats(ops.Vector, 1, n).of(ops.Linear{Bias: true}, refLinear)
			})
		}
		for _, rate := range []float64{0, 0.3} {
			add(at("Down/%v", rate), func(r *rand.Rand) *problem {
				s := ops.Down{Scale: 0.5, Dropout: ops.Dropout{Rate: rate, Seed: 7, Site: 3}}
				return newDraw(r, lens, 0).matrix(tokens, 22).matrix(6, 22).below(texts, 1<<20).cu().below(1, 100).of(s, refDown(s))
			})
		}
		add(at("Up"), func(r *rand.Rand) *problem {
			s := ops.Up{Parts: ops.Parts{{Width: 10, Rank: 3, Scale: 1}, {Offset: 16, Width: 5, Rank: 3, Scale: 1}}}
			return newDraw(r, lens, 0).matrix(tokens, 8).matrix(21, 8).matrix(tokens, 6).matrix(15, 3).of(s, refUp(s))
		})
		add(at("Up+bias"), func(r *rand.Rand) *problem {
			s := ops.Up{Bias: true, Parts: ops.Parts{{Offset: 3, Width: 7, Rank: 4, Scale: 1}}}
			return newDraw(r, lens, 0).matrix(tokens, 8).matrix(12, 8).matrix(tokens, 4).matrix(7, 4).floats(ops.Vector, 1, 12).of(s, refUp(s))
		})
		add(at("Up/ranks"), func(r *rand.Rand) *problem {
			s := ops.Up{Parts: ops.Parts{{Width: 10, Rank: 5, Scale: 0.75}, {Offset: 10, Width: 6, Rank: 1, Scale: 1}, {Offset: 17, Width: 4, Rank: 17, Scale: 2}}}
			return newDraw(r, lens, 0).matrix(tokens, 8).matrix(21, 8).matrix(tokens, 23).matrix(10*5+6+4*17, 1).of(s, refUp(s))
		})
		for _, h := range []struct{ q, kv, dim int }{{1, 1, 2}, {4, 2, 8}, {6, 1, 12}, {9, 3, 64}} {
			name := fmt.Sprintf("%dx%dx%d", h.q, h.kv, h.dim)
			width := (h.q + 2*h.kv) * h.dim
			add(at("HeadNorm/%s", name), func(r *rand.Rand) *problem {
				s := ops.HeadNorm{Heads: h.q, KV: h.kv, HeadDim: h.dim, Eps: 1e-6}
				return newDraw(r, lens, 0).matrix(tokens, width).floats(ops.Vector, 1, h.dim).floats(ops.Vector, 1, h.dim).of(s, refHeadNorm(s))
			})
			add(at("Rotary/%s", name), func(r *rand.Rand) *problem {
				s := ops.Rotary{Heads: h.q, KV: h.kv, HeadDim: h.dim}
				for i := range h.dim / 2 {
					s.Frequencies = append(s.Frequencies, float32(math.Pow(100, -float64(i)/float64(h.dim))))
				}
				return newDraw(r, lens, 0).matrix(tokens, width).cu().of(s, refRotary(s))
			})
			for _, m := range []ops.Mask{{}, {Causal: true}, {Causal: true, Window: 4}, {Window: 3}} {
				add(at("Attention/%s/%+v", name, m), func(r *rand.Rand) *problem {
					s := ops.Attention{Heads: h.q, KV: h.kv, HeadDim: h.dim, Mask: m}
					return newDraw(r, lens, 0).matrix(tokens, width).cu().of(s, refAttention(s))
				})
			}
		}
		for _, window := range []int{0, 4} {
			for _, step := range []int{0, 3, 60, 99} { // closed, almost, half and wholly open
				add(at("Attention/annealed/%d/%d", window, step), func(r *rand.Rand) *problem {
					s := ops.Attention{Heads: 4, KV: 2, HeadDim: 8, Mask: ops.Mask{Causal: true, Window: window, Anneal: ops.Anneal{Steps: 100, Seed: 77}}}
					if step == 0 {
						s.Mask.Anneal.Steps = 257
					}
					return newDraw(r, lens, 0).matrix(tokens, 64).cu().ints(1, func(int) int { return step }).of(s, refAttention(s))
				})
			}
		}
		for _, kind := range []ops.Pooling{ops.Mean, ops.WeightedMean, ops.LastToken, ops.FirstToken} {
			add(at("Pool/%s", kind), func(r *rand.Rand) *problem {
				return newDraw(r, lens, 0).matrix(tokens, 6).cu().ints(texts, func(b int) int { return r.IntN(lens[b]) }).
					of(ops.Pool{Kind: kind}, refPool(kind))
			})
		}
	}
	return append(list, lossCases()...)
}

func lossCases() []testCase {
	var list []testCase
	add := func(name string, f func(r *rand.Rand) *problem) {
		list = append(list, testCase{name: name, problem: f})
	}
	add("Surrogate", func(r *rand.Rand) *problem {
		return newDraw(r, ragged["few"], 0).matrix(texts, 5).matrix(texts, 5).of(ops.Surrogate{}, refSurrogate)
	})
	for _, n := range []int{1, 3, 70} {
		for _, v := range []int{2, 37, 300} {
			add(fmt.Sprintf("CrossEntropy/%d/%d", n, v), func(r *rand.Rand) *problem {
				return newDraw(r, ragged["one"], n).matrix(picks, 10).matrix(v, 10).below(picks, v).floats(ops.Vector, 1, picks).
					of(ops.CrossEntropy{}, refCrossEntropy)
			})
			add(fmt.Sprintf("TokenLosses/%d/%d", n, v), func(r *rand.Rand) *problem {
				return newDraw(r, ragged["one"], n).matrix(picks, 10).matrix(v, 10).below(picks, v).of(ops.TokenLosses{}, refTokenLosses)
			})
		}
	}
	// Queries q and documents: q positives and some negatives, none included; few identities, so that some repeat.
	for _, n := range []struct{ q, negatives int }{{1, 0}, {1, 3}, {5, 0}, {6, 11}, {70, 70}} {
		for _, s := range []ops.InfoNCE{
			{Temperature: 0.5},
			{Temperature: 0.5, Masked: true},
			{Temperature: 0.3, Masked: true, Symmetric: true},
			{Temperature: 0.5, Symmetric: true, Margin: ops.Margin{On: true, Value: 0.2}},
			{Temperature: 0.5, Masked: true, Margin: ops.Margin{On: true, Value: 0.5, Relative: true}},
		} {
			add(fmt.Sprintf("InfoNCE/%d+%d/%+v", n.q, n.negatives, s), func(r *rand.Rand) *problem {
				docs := n.q + n.negatives
				return newDraw(r, ragged["one"], 0).floats(ops.Matrix, 0.4, n.q+docs, 8).below(docs, 2*n.q+2).of(s, refInfoNCE(s))
			})
		}
	}
	for _, counts := range [][]int{{0}, {3}, {1, 0, 2}, {2, 2, 2, 2, 2}} {
		rows := 2 * len(counts)
		for _, n := range counts {
			rows += n
		}
		add(fmt.Sprintf("Explicit/%v", counts), func(r *rand.Rand) *problem {
			return newDraw(r, ragged["one"], 0).matrix(rows, 7).ints(len(counts), func(i int) int { return counts[i] }).of(ops.Explicit{}, refExplicit)
		})
	}
	long := []int{4097}
	s := ops.Attention{Heads: 2, KV: 1, HeadDim: 8, Mask: ops.Mask{Causal: true}}
	list = append(list, testCase{"Attention/4097", true, func(r *rand.Rand) *problem {
		return newDraw(r, long, 0).matrix(tokens, 32).cu().of(s, refAttention(s))
	}}, testCase{"Linear/4097", true, func(r *rand.Rand) *problem {
		return newDraw(r, long, 0).matrix(tokens, 40).floats(ops.Matrix, 0.2, 33, 40).of(ops.Linear{}, refLinear)
	}}, testCase{"RMSNorm/4097", true, func(r *rand.Rand) *problem {
		return newDraw(r, long, 0).matrix(tokens, 40).floats(ops.Vector, 1, 40).of(ops.RMSNorm{Eps: 1e-5}, refNorm(1e-5))
	}}, testCase{"Embed/4097", true, func(r *rand.Rand) *problem {
		return newDraw(r, long, 0).below(tokens, 50).matrix(50, 40).of(ops.Embed{}, refEmbed)
	}})
	return list
}
