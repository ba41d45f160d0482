package simd

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// logSumExp64 leaves out masked columns.
func logSumExp64(row []float64) float64 {
	s := 0.0
	for _, v := range row {
		s += math.Exp(v)
	}
	return math.Log(s)
}

func crossEntropy64(logits []float64, targets []int32, weights []float32, v int) float64 {
	loss := 0.0
	for r, target := range targets {
		if target >= 0 {
			row := logits[r*v : (r+1)*v]
			loss += float64(weights[r]) * (logSumExp64(row) - row[target])
		}
	}
	return loss
}

func TestCrossEntropy(t *testing.T) {
	const seed = 14
	t.Logf("seed %d", seed)
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, shape := range [][3]int{{1, 1, 1}, {3, 7, 12}, {33, 371, 16}, {300, 129, 8}} { // P, V, d
			n, v, d := shape[0], shape[1], shape[2]
			targets, weights := make([]int32, n), between(r, n, 0, 2)
			for i := range targets {
				targets[i] = int32(r.IntN(v))
			}
			if n > 2 {
				targets[1], weights[2] = -1, 0
			}
			h, w := normals(r, n*d), normals(r, v*d)
			logits64 := func(h, w []float64) []float64 {
				out := make([]float64, n*v)
				for i := range n {
					for j := range v {
						for k := range d {
							out[i*v+j] += h[i*d+k] * w[j*d+k]
						}
					}
				}
				return out
			}
			logits := normals(r, n*v)
			var loss float64
			g := sameBits(t, func(p *pool.Pool) []float32 {
				g := append([]float32(nil), logits...)
				loss = CrossEntropy(p, g, targets, weights, v)
				return g
			})
			if want := crossEntropy64(wide(logits), targets, weights, v); !(math.Abs(loss-want) <= 1e-6*(1+want)) {
				t.Errorf("%v: loss = %v, want %v", shape, loss, want)
			}
			checkGradient(t, r, "dlogits", logits, g, func(x []float64) float64 { return crossEntropy64(x, targets, weights, v) })

			both := sameBits(t, func(p *pool.Pool) []float32 {
				g := garbage((n + v) * d)
				clear(g[n*d:])
				loss = LinearCrossEntropy(p, g[:n*d], g[n*d:], h, w, targets, weights, d)
				return g
			})
			want := crossEntropy64(logits64(wide(h), wide(w)), targets, weights, v)
			if !(math.Abs(loss-want) <= 2e-6*(1+want)) {
				t.Errorf("%v: fused loss = %v, want %v", shape, loss, want)
			}
			checkGradient(t, r, "dh", h, both[:n*d], func(h []float64) float64 {
				return crossEntropy64(logits64(h, wide(w)), targets, weights, v)
			})
			checkGradient(t, r, "dw", w, both[n*d:], func(w []float64) float64 {
				return crossEntropy64(logits64(wide(h), w), targets, weights, v)
			})
			if got := LinearCrossEntropy(nil, nil, nil, h, w, targets, weights, d); got != loss {
				t.Errorf("%v: loss without gradients = %v, want %v", shape, got, loss)
			}
		}
		// A NaN or an infinity must show in the loss.
		for _, bad := range []float64{math.NaN(), math.Inf(1)} {
			logits := normals(r, 40)
			logits[17] = float32(bad)
			if got := CrossEntropy(nil, logits, []int32{3}, []float32{1}, 40); got-got == 0 {
				t.Errorf("loss with a logit of %v = %v, want it not finite", bad, got)
			}
		}
	})
}

// A poisoned value must reach the result, or the step would go on without its row.
func TestNaNPasses(t *testing.T) {
	nan := float32(math.NaN())
	eachLevel(t, func(t *testing.T) {
		for _, all := range []bool{false, true} {
			poison := func(n, at int) []float32 {
				x := between(rand.New(rand.NewPCG(1, 1)), n, -1, 1)
				for i := range x {
					if all || i == at {
						x[i] = nan
					}
				}
				return x
			}
			bad := func(name string, x []float32) {
				for _, v := range x {
					if v != v {
						return
					}
				}
				t.Errorf("%s of a NaN (all %v) has no NaN", name, all)
			}
			x := poison(100, 37)
			y, lse := make([]float32, 100), make([]float32, 1)
			LogSumExp(nil, lse, x, 100)
			bad("LogSumExp", lse)
			if loss := CrossEntropy(nil, poison(100, 37), []int32{3}, []float32{1}, 100); loss == loss {
				t.Errorf("CrossEntropy of a NaN (all %v) = %v", all, loss)
			}
			RMSNorm(nil, y, x, x, nil, 1e-6)
			bad("RMSNorm", y)
			Normalize(nil, y, x, nil, 100)
			bad("Normalize", y)
			SwiGLU(nil, y[:50], x, 50)
			bad("SwiGLU", y[:50])
			h := Heads{1, 1, 10}
			out, lses := make([]float32, 40), make([]float32, 4)
			Attention(nil, out, lses, poison(120, 35), []int32{0, 4}, h, Mask{}, 1) // of query 1
			bad("Attention", out[10:20])
			bad("Attention's lse", lses[1:2])
		}
	})
}

func TestLogSumExp(t *testing.T) {
	const seed = 15
	t.Logf("seed %d", seed)
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, shape := range [][2]int{{1, 1}, {3, 0}, {5, 12}, {16, 64}, {33, 130}, {7, 2500}} {
			n, columns := shape[0], shape[1]
			scores := between(r, n*columns, -20, 20)
			lse := sameBits(t, func(p *pool.Pool) []float32 {
				lse := garbage(n)
				LogSumExp(p, lse, scores, columns)
				return lse
			})
			for i, got := range lse {
				want := logSumExp64(wide(scores[i*columns : (i+1)*columns]))
				if got != float32(want) && !(math.Abs(float64(got)-want) <= near*(1+math.Abs(want))) {
					t.Errorf("%v: lse[%d] = %v, want %v", shape, i, got, want)
				}
			}
		}
	})
}
