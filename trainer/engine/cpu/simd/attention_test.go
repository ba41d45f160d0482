package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
	"github.com/counterpoint-ml/counterpoint/trainer/philox"
)

// attention64 is the definition, in float64, one query after another.
func attention64(qkv []float64, cu []int32, h Heads, m Mask, scale float64) (out, lse []float64) {
	width, d := h.Width(), h.Dim
	tokens := int(cu[len(cu)-1])
	out, lse = make([]float64, tokens*h.Query*d), make([]float64, tokens*h.Query)
	for b := range len(cu) - 1 {
		start, n := int(cu[b]), int(cu[b+1]-cu[b])
		scores := make([]float64, n)
		for head := range h.Query {
			kv := head / (h.Query / h.KV)
			for i := range n {
				q := qkv[(start+i)*width+head*d:][:d]
				lo, hi := m.bounds(i, n)
				total := 0.0
				for j := lo; j < hi; j++ {
					if scores[j] = 0; m.Open > 0 && !sees(m, i, j) {
						continue
					}
					k := qkv[(start+j)*width+(h.Query+kv)*d:][:d]
					for e := range d {
						scores[j] += scale * q[e] * k[e]
					}
					scores[j] = math.Exp(scores[j])
					total += scores[j]
				}
				for j := lo; j < hi; j++ {
					v := qkv[(start+j)*width+(h.Query+h.KV+kv)*d:][:d]
					for e := range d {
						out[((start+i)*h.Query+head)*d+e] += scores[j] / total * v[e]
					}
				}
				lse[(start+i)*h.Query+head] = math.Log(total)
			}
		}
	}
	return out, lse
}

// sees is the definition of Mask.
func sees(m Mask, i, j int) bool {
	if m.Open > 0 {
		words := philox.Block(m.Key, philox.At(m.Step, 0, uint32(i), uint32(j/16)))
		if at := j % 16; int(words[at/4]>>(8*(at%4))&255) < m.Open {
			return true
		}
	}
	switch {
	case m.Causal:
		return j <= i && (m.Window == 0 || i-j < m.Window)
	case m.Window > 0:
		return max(i-j, j-i) <= m.Window
	}
	return true
}

// Bounds leave no key out that is seen, and without Open let none in that is not.
func TestMaskBounds(t *testing.T) {
	for _, m := range []Mask{{}, {Causal: true}, {Causal: true, Window: 1}, {Causal: true, Window: 5}, {Window: 1}, {Window: 5}, {Causal: true, Open: 90}} {
		for n := range 12 {
			for i := range n {
				lo, hi := m.bounds(i, n)
				for j := range n {
					want := sees(m, i, j)
					if got := lo <= j && j < hi; got != want && !(got && m.Open > 0) {
						t.Errorf("%+v: query %d of %d sees key %d: %v, want %v", m, i, n, j, got, want)
					}
				}
			}
		}
	}
}

type attentionCase struct {
	lengths []int
	h       Heads
	m       Mask
}

func (c attentionCase) String() string { return fmt.Sprintf("%v %+v %+v", c.lengths, c.h, c.m) }

func (c attentionCase) cu() []int32 {
	cu := []int32{0}
	for _, n := range c.lengths {
		cu = append(cu, cu[len(cu)-1]+int32(n))
	}
	return cu
}

var attentionCases = []attentionCase{
	{[]int{1}, Heads{1, 1, 1}, Mask{}},
	{[]int{3, 1, 0, 5}, Heads{2, 1, 8}, Mask{Causal: true}},
	{[]int{1, 2, 7, 33, 80}, Heads{4, 2, 16}, Mask{Causal: true}},
	{[]int{1, 2, 7, 33, 80}, Heads{4, 2, 16}, Mask{}},
	{[]int{80, 65, 64, 63}, Heads{3, 1, 12}, Mask{Causal: true, Window: 24}},
	{[]int{80, 130}, Heads{2, 2, 80}, Mask{Window: 24}},
	{[]int{20, 31}, Heads{6, 2, 64}, Mask{Causal: true}},
	{[]int{150, 1}, Heads{2, 1, 64}, Mask{Causal: true, Window: 3}},
	{[]int{200}, Heads{1, 1, 8}, Mask{Window: 1}},
	{[]int{70}, Heads{1, 1, 200}, Mask{}},
	{[]int{4097}, Heads{1, 1, 8}, Mask{Causal: true, Window: 100}}, // the backward cuts it in chunks
	{[]int{1100, 3}, Heads{2, 1, 4}, Mask{Window: 40}},
	{[]int{420}, Heads{1, 1, 128}, Mask{Causal: true, Window: 40}}, // keys beyond nearKeys
	{[]int{1, 2, 7, 33, 80}, Heads{4, 2, 16}, Mask{Causal: true, Open: 100, Key: philox.Key{1, 2}, Step: 3}},
	{[]int{3, 1, 0, 150}, Heads{2, 1, 8}, Mask{Causal: true, Window: 5, Open: 20, Key: philox.Key{3, 4}}},
	{[]int{420}, Heads{1, 1, 128}, Mask{Causal: true, Open: 3, Key: philox.Key{5}, Step: 9}},
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

func normals(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// far returns the largest difference relative to 1 + |want|.
func far(got []float32, want []float64) float64 {
	worst := 0.0
	for i, w := range want {
		if d := math.Abs(float64(got[i])-w) / (1 + math.Abs(w)); d > worst || math.IsNaN(d) {
			worst = d
		}
	}
	return worst
}

func eachLevel(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	for _, level := range isa.Available() {
		t.Run(level.String(), func(t *testing.T) {
			isa.Use(t, level)
			f(t)
		})
	}
}

// sameBits checks that f gives the same bits without a pool and with 1 to 4 threads, and returns them.
func sameBits(t *testing.T, f func(p *pool.Pool) []float32) []float32 {
	t.Helper()
	want := f(nil)
	for threads := 1; threads <= 4; threads++ {
		p := pool.New(threads)
		got := f(p)
		p.Close()
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Fatalf("%d threads: value %d = %v, want %v as without threads", threads, i, got[i], want[i])
			}
		}
	}
	return want
}

func garbage(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(math.NaN())
	}
	return x
}

// Tolerances: sums of up to 200 float32 terms of size about 1, twice: 2e-6 seen; 2e-5 for values, 1e-4 for gradients,
// whose terms reach 30.
func TestAttentionAgainstFloat64(t *testing.T) {
	const seed = 1
	t.Logf("seed %d", seed)
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 1))
		for _, c := range attentionCases {
			t.Run(c.String(), func(t *testing.T) {
				cu, h := c.cu(), c.h
				tokens := int(cu[len(cu)-1])
				scale := float32(1 / math.Sqrt(float64(h.Dim)))
				qkv, dout := normals(r, tokens*h.Width()), normals(r, tokens*h.Query*h.Dim)
				lse := make([]float32, tokens*h.Query)
				out := sameBits(t, func(p *pool.Pool) []float32 {
					out := garbage(tokens * h.Query * h.Dim)
					Attention(p, out, lse, qkv, cu, h, c.m, scale)
					return out
				})
				wantOut, wantLSE := attention64(wide(qkv), cu, h, c.m, float64(scale))
				if d := far(out, wantOut); !(d < 2e-5) {
					t.Errorf("out differs by %v, want < 2e-5", d)
				}
				if d := far(lse, wantLSE); !(d < 2e-5) {
					t.Errorf("lse differs by %v, want < 2e-5", d)
				}
				dqkv := sameBits(t, func(p *pool.Pool) []float32 {
					dqkv := garbage(len(qkv))
					AttentionBackward(p, dqkv, qkv, out, lse, dout, cu, h, c.m, scale)
					return dqkv
				})
				checkGradient(t, r, "dqkv", qkv, dqkv, func(x []float64) float64 {
					out, _ := attention64(x, cu, h, c.m, float64(scale))
					return inner(out, dout)
				})
			})
		}
	})
}

func inner(x []float64, w []float32) float64 {
	s := 0.0
	for i, v := range x {
		s += v * float64(w[i])
	}
	return s
}

// checkGradient compares grad with central differences of loss, a float64 function of x: along eight random directions
// (which see every value) and at eight single values. The step is 1e-5, so the differences are good to about 1e-9.
func checkGradient(t *testing.T, r *rand.Rand, name string, x, grad []float32, loss func([]float64) float64) {
	t.Helper()
	const step = 1e-5
	if len(x) == 0 {
		return
	}
	for trial := range 16 {
		dir := make([]float64, len(x))
		if trial < 8 {
			for i := range dir {
				dir[i] = r.NormFloat64() / math.Sqrt(float64(len(x)))
			}
		} else {
			dir[r.IntN(len(x))] = 1
		}
		at, got, size := wide(x), 0.0, 0.0
		for i, d := range dir {
			got += float64(grad[i]) * d
			size += math.Abs(float64(grad[i]) * d)
			at[i] += step * d
		}
		high := loss(at)
		for i, d := range dir {
			at[i] -= 2 * step * d
		}
		want := (high - loss(at)) / (2 * step)
		if !(math.Abs(got-want) <= 1e-4*(1e-1+size)) {
			t.Errorf("%s along direction %d = %v, want %v", name, trial, got, want)
		}
	}
}
