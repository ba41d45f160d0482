package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

func rmsNorm64(x []float64, w []float64, eps float64) []float64 {
	d := len(w)
	y := make([]float64, len(x))
	for t := 0; t < len(x); t += d {
		square := 0.0
		for _, v := range x[t : t+d] {
			square += v * v
		}
		for j := range d {
			y[t+j] = w[j] * x[t+j] / math.Sqrt(square/float64(d)+eps)
		}
	}
	return y
}

// matrices are odd shapes, and one of 4,097 rows.
var matrices = [][2]int{{1, 1}, {1, 16}, {3, 12}, {33, 64}, {5, 80}, {129, 31}, {40, 1000}, {4097, 24}}

// Tolerance of this file and of ops_test.go: 5e-6 relative to 1 + |value|: a handful of float32 operations on values of
// size about 1 to 10, and sums of up to 1,000 terms in several lanes.
const near = 5e-6

func TestRMSNorm(t *testing.T) {
	const seed, eps = 6, 1e-5
	t.Logf("seed %d", seed)
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, shape := range matrices {
			t.Run(fmt.Sprint(shape), func(t *testing.T) {
				n, d := shape[0], shape[1]
				x, w, dy, residual := normals(r, n*d), normals(r, d), normals(r, n*d), normals(r, n*d)
				rstd := make([]float32, n)
				y := sameBits(t, func(p *pool.Pool) []float32 {
					y := garbage(n * d)
					RMSNorm(p, y, x, w, rstd, eps)
					return y
				})
				if diff := far(y, rmsNorm64(wide(x), wide(w), eps)); !(diff < near) {
					t.Errorf("y differs by %v", diff)
				}
				both := sameBits(t, func(p *pool.Pool) []float32 {
					out := garbage(n*d + d)
					clear(out[n*d:])
					RMSNormBackward(p, out[:n*d], out[n*d:], dy, x, w, rstd, nil, eps)
					return out
				})
				checkGradient(t, r, "dx", x, both[:n*d], func(x []float64) float64 { return inner(rmsNorm64(x, wide(w), eps), dy) })
				checkGradient(t, r, "dw", w, both[n*d:], func(w []float64) float64 { return inner(rmsNorm64(wide(x), w, eps), dy) })
				// In place over dy, factors computed again, the residual's gradient added.
				inPlace := append([]float32(nil), dy...)
				RMSNormBackward(nil, inPlace, nil, inPlace, x, w, nil, residual, eps)
				want := wide(both[:n*d])
				for i, v := range residual {
					want[i] += float64(v)
				}
				if diff := far(inPlace, want); !(diff < 4*near) {
					t.Errorf("dx with residual differs by %v", diff)
				}
			})
		}
	})
}

func TestHeadRMSNorm(t *testing.T) {
	const seed, eps = 7, 1e-6
	t.Logf("seed %d", seed)
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, h := range []Heads{{1, 1, 1}, {4, 2, 16}, {3, 1, 12}, {2, 2, 80}} {
			const n = 37
			width, d := h.Width(), h.Dim
			x, wq, wk, dy := normals(r, n*width), normals(r, d), normals(r, d), normals(r, n*width)
			forward := func(x, wq, wk []float64) []float64 {
				var y []float64
				for t := range n {
					row := x[t*width : (t+1)*width]
					y = append(y, rmsNorm64(row[:h.Query*d], wq, eps)...)
					y = append(y, rmsNorm64(row[h.Query*d:(h.Query+h.KV)*d], wk, eps)...)
					y = append(y, row[(h.Query+h.KV)*d:]...)
				}
				return y
			}
			y := sameBits(t, func(p *pool.Pool) []float32 {
				y := garbage(n * width)
				HeadRMSNorm(p, y, x, wq, wk, h, eps)
				return y
			})
			// rmsNorm64 takes rows of len(w): each head is one.
			if diff := far(y, forward(wide(x), wide(wq), wide(wk))); !(diff < near) {
				t.Errorf("%+v: y differs by %v", h, diff)
			}
			g := sameBits(t, func(p *pool.Pool) []float32 {
				g := garbage(n*width + 2*d)
				clear(g[n*width:])
				HeadRMSNormBackward(p, g[:n*width], g[n*width:n*width+d], g[n*width+d:], dy, x, wq, wk, h, eps)
				return g
			})
			checkGradient(t, r, "dx", x, g[:n*width], func(x []float64) float64 { return inner(forward(x, wide(wq), wide(wk)), dy) })
			checkGradient(t, r, "dwq", wq, g[n*width:n*width+d], func(w []float64) float64 { return inner(forward(wide(x), w, wide(wk)), dy) })
			checkGradient(t, r, "dwk", wk, g[n*width+d:], func(w []float64) float64 { return inner(forward(wide(x), wide(wq), w), dy) })
		}
	})
}

func TestNormalize(t *testing.T) {
	const seed = 8
	t.Logf("seed %d", seed)
	forward := func(x []float64, d int) []float64 {
		y := make([]float64, len(x))
		for b := 0; b < len(x); b += d {
			s := 0.0
			for _, v := range x[b : b+d] {
				s += v * v
			}
			for j := range d {
				y[b+j] = x[b+j] / max(math.Sqrt(s), 1e-12)
			}
		}
		return y
	}
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, shape := range matrices {
			n, d := shape[0], shape[1]
			x, dy, norms := normals(r, n*d), normals(r, n*d), make([]float32, n)
			y := sameBits(t, func(p *pool.Pool) []float32 {
				y := garbage(n * d)
				Normalize(p, y, x, norms, d)
				return y
			})
			if diff := far(y, forward(wide(x), d)); !(diff < near) {
				t.Errorf("%v: y differs by %v", shape, diff)
			}
			dx := garbage(n * d)
			NormalizeBackward(nil, dx, dy, y, norms, d)
			if d > 1 { // of one value the gradient is 0 but at 0, where small values lie too near for differences
				checkGradient(t, r, "dx", x, dx, func(x []float64) float64 { return inner(forward(x, d), dy) })
			}
		}
		zero := make([]float32, 5)
		Normalize(nil, zero, zero, nil, 5)
		compare(t, "zero row", zero, make([]float32, 5), 0)
	})
}
