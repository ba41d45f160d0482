package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
	"github.com/counterpoint-ml/counterpoint/trainer/philox"
)

func TestGatherScatter(t *testing.T) {
	const seed = 9
	t.Logf("seed %d", seed)
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, shape := range [][3]int{{1, 1, 1}, {5, 3, 12}, {4097, 50, 24}, {300, 2, 1000}, {0, 4, 8}} {
			n, rows, d := shape[0], shape[1], shape[2]
			table, dy, ids := normals(r, rows*d), normals(r, n*d), make([]int32, n)
			for i := range ids {
				ids[i] = int32(r.IntN(rows))
			}
			y := sameBits(t, func(p *pool.Pool) []float32 {
				y := garbage(n * d)
				Gather(p, y, table, ids, d)
				return y
			})
			want := make([]float32, rows*d) // tokens in ascending order
			for i, id := range ids {
				compare(t, "row", y[i*d:(i+1)*d], table[int(id)*d:(int(id)+1)*d], 0)
				for j := range d {
					want[int(id)*d+j] += dy[i*d+j]
				}
			}
			got := sameBits(t, func(p *pool.Pool) []float32 {
				g := make([]float32, rows*d)
				ScatterAdd(p, g, dy, ids, d)
				return g
			})
			compare(t, fmt.Sprint("ScatterAdd ", shape), got, want, 0)
		}
	})
}

func TestElementwise(t *testing.T) {
	const seed = 10
	t.Logf("seed %d", seed)
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, shape := range matrices {
			n, d := shape[0], shape[1]
			x, b, bias := normals(r, n*d), normals(r, n*d), normals(r, d)
			got := sameBits(t, func(p *pool.Pool) []float32 {
				y := append([]float32(nil), b...)
				Add(p, y, y, x)
				Scale(p, y, 0.5, y)
				AddBias(p, y, y, bias)
				return y
			})
			want, columns := make([]float64, n*d), wide(bias)
			for i := range want {
				want[i] = (float64(x[i])+float64(b[i]))/2 + float64(bias[i%d])
				columns[i%d] += float64(x[i])
			}
			if diff := far(got, want); !(diff < near) {
				t.Errorf("%v: differs by %v", shape, diff)
			}
			sums := sameBits(t, func(p *pool.Pool) []float32 {
				s := append([]float32(nil), bias...)
				ColumnSums(p, s, x, true)
				return s
			})
			if diff := far(sums, columns); !(diff < 4*near) {
				t.Errorf("%v: column sums differ by %v", shape, diff)
			}
		}
	})
}

func swiglu64(x []float64, f int) []float64 {
	var y []float64
	for t := 0; t < len(x); t += 2 * f {
		for j := range f {
			g := x[t+j]
			y = append(y, g/(1+math.Exp(-g))*x[t+f+j])
		}
	}
	return y
}

func TestSwiGLU(t *testing.T) {
	const seed = 11
	t.Logf("seed %d", seed)
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, shape := range matrices {
			n, f := shape[0], shape[1]
			x, dy := normals(r, 2*n*f), normals(r, n*f)
			y := sameBits(t, func(p *pool.Pool) []float32 {
				y := garbage(n * f)
				SwiGLU(p, y, x, f)
				return y
			})
			if diff := far(y, swiglu64(wide(x), f)); !(diff < near) {
				t.Errorf("%v: y differs by %v", shape, diff)
			}
			dx := sameBits(t, func(p *pool.Pool) []float32 {
				dx := append([]float32(nil), x...)
				SwiGLUBackward(p, dx, dy, dx, f)
				return dx
			})
			checkGradient(t, r, fmt.Sprint("dx ", shape), x, dx, func(x []float64) float64 { return inner(swiglu64(x, f), dy) })
		}
	})
}

// Positions restart in every text, angles are float32(position) * frequency in float32, and the backward is the inverse.
func TestRotary(t *testing.T) {
	const seed = 12
	t.Logf("seed %d", seed)
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, c := range attentionCases {
			h, cu := c.h, c.cu()
			if h.Dim%2 != 0 {
				continue
			}
			tokens, half, width := int(cu[len(cu)-1]), h.Dim/2, h.Width()
			frequency := make([]float32, half)
			for i := range frequency {
				frequency[i] = float32(math.Pow(10000, -2*float64(i)/float64(h.Dim)))
			}
			x := normals(r, tokens*width)
			rotary := NewRotary(frequency)
			y := sameBits(t, func(p *pool.Pool) []float32 {
				y := garbage(len(x))
				rotary.Apply(p, y, x, cu, h)
				return y
			})
			want := wide(x)
			for b := range len(cu) - 1 {
				for t := int(cu[b]); t < int(cu[b+1]); t++ {
					for head := range h.Query + h.KV {
						for i := range half {
							angle := float64(float32(t-int(cu[b])) * frequency[i])
							at := t*width + head*h.Dim + i
							x1, x2, sin, cos := float64(x[at]), float64(x[at+half]), math.Sin(angle), math.Cos(angle)
							want[at], want[at+half] = x1*cos-x2*sin, x2*cos+x1*sin
						}
					}
				}
			}
			if diff := far(y, want); !(diff < near) {
				t.Errorf("%v: y differs by %v", c, diff)
			}
			rotary.Backward(nil, y, y, cu, h) // in place
			if diff := far(y, wide(x)); !(diff < near) {
				t.Errorf("%v: rotated back differs by %v", c, diff)
			}
		}
	})
}

func TestPool(t *testing.T) {
	const seed, d = 13, 20
	t.Logf("seed %d", seed)
	cu, skip := []int32{0, 1, 8, 8, 41, 44, 124}, []int32{0, 2, 0, 32, 3, 1}
	share := func(kind Pooling, i, n int) float64 {
		switch kind {
		case Mean:
			return 1 / float64(n)
		case WeightedMean:
			return 2 * float64(i+1) / float64(n) / float64(n+1)
		case LastToken:
			i = n - 1 - i
		}
		if i == 0 {
			return 1
		}
		return 0
	}
	forward := func(x []float64, skip []int32, kind Pooling) []float64 {
		y := make([]float64, (len(cu)-1)*d)
		for b := range len(cu) - 1 {
			lo, hi := int(cu[b]), int(cu[b+1])
			if skip != nil {
				lo += int(skip[b])
			}
			for t := lo; t < hi; t++ {
				for j := range d {
					y[b*d+j] += share(kind, t-lo, hi-lo) * x[t*d+j]
				}
			}
		}
		return y
	}
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		x, dy := normals(r, 124*d), normals(r, 6*d)
		for kind := Mean; kind <= FirstToken; kind++ {
			for _, skip := range [][]int32{nil, skip} {
				y := sameBits(t, func(p *pool.Pool) []float32 {
					y := garbage(6 * d)
					Pool(p, y, x, cu, skip, d, kind)
					return y
				})
				if diff := far(y, forward(wide(x), skip, kind)); !(diff < near) {
					t.Errorf("pooling %d, skip %v: y differs by %v", kind, skip, diff)
				}
				dx := sameBits(t, func(p *pool.Pool) []float32 {
					dx := garbage(124 * d)
					PoolBackward(p, dx, dy, cu, skip, d, kind)
					return dx
				})
				checkGradient(t, r, fmt.Sprintf("pooling %d dx", kind), x, dx, func(x []float64) float64 {
					return inner(forward(x, skip, kind), dy)
				})
			}
		}
	})
}

func TestRandomEqualsPhilox(t *testing.T) {
	const seed = 16
	t.Logf("seed %d", seed)
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, n := range []int{0, 1, 3, 4, 31, 32, 33, 63, 64, 65, 127, 128, 256, 1027} {
			k, c := philox.Key{r.Uint32(), r.Uint32()}, philox.Counter{r.Uint32(), r.Uint32(), r.Uint32(), r.Uint32()}
			if n > 64 {
				c[0] = 0xfffffff1 // wraps
			}
			got, want := make([]uint32, n+1), make([]uint32, n+1)
			Random(got[:n], k, c)
			philox.Fill(want[:n], k, c)
			if !slices.Equal(got, want) {
				t.Fatalf("Random of %d at key %x counter %x differs", n, k, c)
			}
		}
	})
}

// Kept values are scaled, the share kept is right, and a token's mask depends on its text and position, not on where it
// is packed; every level draws the same.
func TestDropout(t *testing.T) {
	const d, drop = 37, 0.3
	key := philox.NewKey(42, 5)
	x := make([]float32, 600*d)
	for i := range x {
		x[i] = 1
	}
	run := func(cu []int32, texts []uint32) []float32 {
		return sameBits(t, func(p *pool.Pool) []float32 {
			y := garbage(int(cu[len(cu)-1]) * d)
			Dropout(p, y, x, cu, texts, d, key, 9, drop)
			return y
		})
	}
	var first []float32
	eachLevel(t, func(t *testing.T) {
		y := run([]int32{0, 200, 200, 590, 600}, []uint32{7, 8, 9, 10})
		kept := 0
		for i, v := range y {
			token, e := i/d, i%d
			text, position := uint32(7), token
			if token >= 590 {
				text, position = 10, token-590
			} else if token >= 200 {
				text, position = 9, token-200
			}
			want := float32(0)
			if word := philox.Block(key, philox.At(9, text, uint32(position), uint32(e/4)))[e%4]; float64(word) >= math.Round(drop*(1<<32)) {
				want = float32(1 / (1 - drop))
				kept++
			}
			if v != want {
				t.Fatalf("token %d element %d = %v, want %v", token, e, v, want)
			}
		}
		n := float64(len(y))
		if share := float64(kept) / n; math.Abs(share-0.7) > 5*math.Sqrt(0.21/n) {
			t.Errorf("kept %v of the values, want 0.7", share)
		}
		if first == nil {
			first = y
		}
		compare(t, "levels", y, first, 0)
		alone := run([]int32{0, 10}, []uint32{10})
		compare(t, "the same text elsewhere", alone, y[590*d:], 0)
	})
}
