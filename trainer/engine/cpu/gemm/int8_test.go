package gemm

import (
	"bytes"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// quantized is the reference of a group: integers and scale, straight from Int8's definition.
func quantized(x []float32) (q []int, scale float32) {
	most := float32(1e-30)
	for _, v := range x {
		most = max(most, float32(math.Abs(float64(v))))
	}
	inverse := 127 / most
	for _, v := range x {
		q = append(q, int(math.RoundToEven(float64(v*inverse))))
	}
	return q, most / 127
}

// exact is the product by its definition: integer sums in int, then the chain of fused multiply-adds, emulated in
// arithmetic of twice the width.
func exact(m, n, k int, x, w, bias []float32, add bool, y []float32) []float32 {
	out := slices.Clone(y)
	for t := range m {
		for o := range n {
			var acc float32
			for at := 0; at < k; at += group {
				end := min(k, at+group)
				qx, sx := quantized(x[t*k+at : t*k+end])
				qw, sw := quantized(w[o*k+at : o*k+end])
				sum := 0
				for i := range qx {
					sum += qx[i] * qw[i]
				}
				acc = bigFMA(float32(sum)*sx, sw, acc)
			}
			if bias != nil {
				acc += bias[o]
			}
			if add {
				acc += y[t*n+o]
			}
			out[t*n+o] = acc
		}
	}
	return out
}

func random(r *rand.Rand, n int, spread float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64() * math.Exp(spread*r.NormFloat64()))
	}
	return v
}

// The product equals its definition, bit for bit, on every instruction set, for any number of threads and any shape.
func TestInt8Exact(t *testing.T) {
	p2 := pool.New(2)
	defer p2.Close()
	const seed = 41
	t.Logf("seed %d", seed)
	for _, level := range isa.Available() {
		t.Run(level.String(), func(t *testing.T) {
			isa.Use(t, level)
			r := rand.New(rand.NewPCG(seed, 1))
			shapes := [][3]int{{1, 1, 1}, {2, 33, 31}, {7, 64, 32}, {13, 31, 65}, {6, 32, 64}, {29, 97, 100}, {5, 130, 257}, {64, 65, 96}}
			for range 12 {
				shapes = append(shapes, [3]int{1 + r.IntN(40), 1 + r.IntN(150), 1 + r.IntN(200)})
			}
			for i, s := range shapes {
				m, n, k := s[0], s[1], s[2]
				x, w, y := random(r, m*k, 1.5), random(r, n*k, 1), random(r, m*n, 0)
				var bias []float32
				if i%2 == 0 {
					bias = random(r, n, 0)
				}
				add := i%3 == 0
				want := exact(m, n, k, x, w, bias, add, y)
				q := PackInt8(w, n, k)
				for _, pl := range []*pool.Pool{nil, p2} {
					got := slices.Clone(y)
					q.NT(pl, m, x, k, bias, add, got, n, make([]byte, q.Scratch(m)))
					for j := range got {
						if math.Float32bits(got[j]) != math.Float32bits(want[j]) {
							t.Fatalf("NT(m %d, n %d, k %d, bias %t, add %t)[%d] = %v, want %v", m, n, k, bias != nil, add, j, got[j], want[j])
						}
					}
				}
			}
		})
	}
}

// Nothing beside the matrix is written, whatever the leading dimensions.
func TestInt8Edges(t *testing.T) {
	for _, level := range isa.Available() {
		t.Run(level.String(), func(t *testing.T) {
			isa.Use(t, level)
			r := rand.New(rand.NewPCG(3, 4))
			const m, n, k, ldx, ldy = 7, 45, 70, 75, 50
			x, w := random(r, m*ldx, 0), random(r, n*k, 0)
			y := make([]float32, m*ldy)
			for i := range y {
				y[i] = 1234
			}
			q := PackInt8(w, n, k)
			q.NT(nil, m, x, ldx, nil, false, y, ldy, make([]byte, q.Scratch(m)))
			for i, v := range y {
				if (v == 1234) != (i%ldy >= n) {
					t.Fatalf("y[%d, %d] = %v after NT with n = %d", i/ldy, i%ldy, v, n)
				}
			}
		})
	}
}

// Each value is within half a step of its group, the product within what those steps allow, and a row is what the
// product sees of it.
func TestInt8Error(t *testing.T) {
	const m, n, k, seed = 5, 40, 300, 9
	r := rand.New(rand.NewPCG(seed, 1))
	x, w := random(r, m*k, 2), random(r, n*k, 2)
	q := PackInt8(w, n, k)
	rows := make([]float32, n*k)
	q.Unpack(rows)
	step := func(v []float32, i int) float64 { // half of the step of the group of value i of a row, and rounding
		_, s := quantized(v[i/group*group : min(len(v), (i/group+1)*group)])
		return 0.5001 * float64(s)
	}
	for o := range n {
		for i := range k {
			if d := math.Abs(float64(rows[o*k+i] - w[o*k+i])); d > step(w[o*k:(o+1)*k], i) {
				t.Fatalf("seed %d: row %d, value %d: %v, want %v within half a step (off by %v)", seed, o, i, rows[o*k+i], w[o*k+i], d)
			}
		}
	}
	y := make([]float32, m*n)
	q.NT(nil, m, x, k, nil, false, y, n, make([]byte, q.Scratch(m)))
	for i := range m {
		for o := range n {
			var want, bound float64
			for p := range k {
				xv, wv := float64(x[i*k+p]), float64(w[o*k+p])
				dx, dw := step(x[i*k:(i+1)*k], p), step(w[o*k:(o+1)*k], p)
				want += xv * wv
				bound += math.Abs(xv)*dw + math.Abs(wv)*dx + dx*dw + 1e-5*math.Abs(xv*wv)
			}
			if d := math.Abs(float64(y[i*n+o]) - want); d > bound {
				t.Errorf("seed %d: y[%d, %d] = %v, want %v within %v", seed, i, o, y[i*n+o], want, bound)
			}
		}
	}
	if got, most := float64(q.Bytes()), 1.13*float64(64*320); got > most {
		t.Errorf("Bytes() = %v of a [%d, %d], want at most 1.125 a value with its padding, %v", got, n, k, most)
	}
}

// A poisoned row stays visible, and only that row.
func TestInt8NotFinite(t *testing.T) {
	for _, level := range isa.Available() {
		isa.Use(t, level)
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			r := rand.New(rand.NewPCG(1, 1))
			x, w := random(r, 3*64, 0), random(r, 40*64, 0)
			x[64+37] = float32(bad)
			q, y := PackInt8(w, 40, 64), make([]float32, 3*40)
			q.NT(nil, 3, x, 64, nil, false, y, 40, make([]byte, q.Scratch(3)))
			for i, v := range y {
				if finite := !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0); finite != (i/40 != 1) {
					t.Errorf("%s: with %v in row 1: y[%d, %d] = %v", level, bad, i/40, i%40, v)
				}
			}
		}
	}
}

// Every quantiser gives the bytes of the portable one.
func FuzzInt8Quantize(f *testing.F) {
	f.Add(uint64(1), 1.0)
	f.Add(uint64(2), 1e-31)
	f.Add(uint64(3), 1e38)
	f.Add(uint64(4), 0.0)
	f.Fuzz(func(t *testing.T, seed uint64, scale float64) {
		r := rand.New(rand.NewPCG(seed, 2))
		x := random(r, 1+r.IntN(200), 3)
		for i := range x {
			if x[i] *= float32(scale); math.IsNaN(float64(x[i])) || math.IsInf(float64(x[i]), 0) {
				return // only that it shows is promised
			}
		}
		size := (len(x) + group - 1) / group * rowBlock
		want := make([]byte, size)
		quantize(isa.Portable, want, x)
		for _, level := range isa.Available() {
			got := make([]byte, size)
			if quantize(level, got, x); !bytes.Equal(got, want) {
				t.Errorf("quantize(%s) of %d values = %v, want %v", level, len(x), got, want)
			}
		}
	})
}

// FuzzFMA: the emulated fused multiply-add is rounded once.
func FuzzFMA(f *testing.F) {
	f.Add(float32(1), float32(1), float32(1))
	f.Add(float32(1+0x1p-23), float32(1+0x1p-23), float32(0x1p-60))
	f.Add(float32(-1-0x1p-12), float32(1-0x1p-12), float32(0x1p-40))
	f.Add(float32(3e38), float32(3), float32(-3e38))
	f.Fuzz(func(t *testing.T, a, b, c float32) {
		if got, want := fma32(a, b, c), bigFMA(a, b, c); math.Float32bits(got) != math.Float32bits(want) && !(got != got && want != want) {
			t.Errorf("fma32(%v, %v, %v) = %v, want %v", a, b, c, got, want)
		}
	})
}

// bigFMA is a*b + c by arbitrary precision.
func bigFMA(a, b, c float32) float32 {
	for _, v := range []float32{a, b, c} {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return float32(math.FMA(float64(a), float64(b), float64(c)))
		}
	}
	p := new(big.Float).SetPrec(600).Mul(big.NewFloat(float64(a)), big.NewFloat(float64(b)))
	if p.Sign() == 0 {
		return a*b + c
	}
	v, _ := p.Add(p, big.NewFloat(float64(c))).Float32()
	return v
}
