package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// lengths have every tail of both vector widths and of the unrolled loops.
func lengths() []int {
	n := []int{97, 127, 128, 129, 255, 1000}
	for i := range 71 {
		n = append(n, i)
	}
	return n
}

// between returns values in [lo, hi).
func between(r *rand.Rand, n int, lo, hi float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(lo + (hi-lo)*r.Float64())
	}
	return x
}

// ulps is the distance of got from want in units of the last place of float32 at want.
func ulps(got float32, want float64) float64 {
	if math.IsInf(want, 0) || math.IsNaN(want) || want == 0 {
		if float64(got) == want || math.IsNaN(want) && got != got {
			return 0
		}
		return math.Inf(1)
	}
	_, e := math.Frexp(want)
	return math.Abs(float64(got)-want) / math.Ldexp(1, max(e-24, -149))
}

// The stated bounds of Exp, Sigmoid and SiLU, over the whole range and at the ends.
func TestExpWithinUlps(t *testing.T) {
	const seed = 2
	t.Logf("seed %d", seed)
	ends := []float32{
		0, float32(math.Copysign(0, -1)), 1, -1, 88.72, 88.7228, 88.73, 100, 1e30, float32(math.Inf(1)), -87.3, -87.33, -87.34,
		-88, -104, -1e30, float32(math.Inf(-1)), float32(math.NaN()), 1e-40, -1e-40, 0.34657, 0.3466, -0.34657, -0.3466,
	}
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	for _, f := range []struct {
		name  string
		vec   func(dst, x []float32)
		exact func(float64) float64
		bound float64 // ulp
		below float64 // absolute, for x < -87: subnormal numbers are flushed
	}{
		{"Exp", Exp, math.Exp, 2, 0x1p-126},
		{"Sigmoid", Sigmoid, sigmoid, 4, 1e-37},
		{"SiLU", SiLU, func(x float64) float64 {
			if math.IsInf(x, -1) {
				return math.NaN() // -Inf * 0
			}
			return x * sigmoid(x)
		}, 4, 1e-35},
	} {
		t.Run(f.name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 0))
				x := append(between(r, 200000, -90, 90), between(r, 200000, -2, 2)...)
				x = append(x, ends...)
				got := make([]float32, len(x))
				f.vec(got, x)
				worst, where := 0.0, float32(0)
				for i, v := range x {
					want := f.exact(float64(v))
					if v < -87 && math.Abs(float64(got[i])-want) <= f.below {
						continue
					}
					if want > math.MaxFloat32 {
						want = math.Inf(1)
					}
					if u := ulps(got[i], want); u > worst {
						worst, where = u, v
					}
				}
				t.Logf("worst %.2f ulp at %v", worst, where)
				if !(worst <= f.bound) {
					t.Errorf("%s(%v) is off by %v ulp, want <= %v", f.name, where, worst, f.bound)
				}
			})
		})
	}
}

// Every assembly kernel against plain Go at every tail, with untouched values after the end.
func TestKernelsAgainstGo(t *testing.T) {
	const seed = 3
	t.Logf("seed %d", seed)
	k := &AdamWScalars{0.5, 0.999, 0.9, 0.1, 0.999, 0.001, 0.01, 0.3, 1e-8}
	type set struct{ a, b, c, d, e []float32 }
	kernels := []struct {
		name      string
		tolerance float64 // relative to 1 + |value|; 0 = the same bits
		vec, plan func(s set) float32
	}{
		{"add", 0, func(s set) float32 { vecAdd(s.a, s.b, s.c); return 0 }, func(s set) float32 { addGo(s.a, s.b, s.c); return 0 }},
		{"axpy", 1e-6, func(s set) float32 { vecAxpy(s.a, s.b, 3); return 0 }, func(s set) float32 { axpyGo(s.a, s.b, 3); return 0 }},
		{"scale", 0, func(s set) float32 { vecScale(s.a, s.b, 3); return 0 }, func(s set) float32 { scaleGo(s.a, s.b, 3); return 0 }},
		{"dot", 3e-5, func(s set) float32 { return vecDot(s.a, s.b) }, func(s set) float32 { return dotGo(s.a, s.b) }},
		{"dot3", 3e-5, func(s set) float32 { return vecDot3(s.a, s.b, s.c) }, func(s set) float32 { return dot3Go(s.a, s.b, s.c) }},
		{"max", 0, func(s set) float32 { return vecMax(s.a) }, func(s set) float32 { return maxGo(s.a) }},
		{"expSum", 3e-6, func(s set) float32 { return vecExpSum(s.a, s.b, 2, 5) }, func(s set) float32 { return expSumGo(s.a, s.b, 2, 5) }},
		{"norm", 1e-6, func(s set) float32 { vecNorm(s.a, s.b, s.c, 2); return 0 }, func(s set) float32 { normGo(s.a, s.b, s.c, 2); return 0 }},
		{"normGrad", 2e-6, func(s set) float32 { vecNormGrad(s.a, s.b, s.c, s.d, 2, 3); return 0 }, func(s set) float32 { normGradGo(s.a, s.b, s.c, s.d, 2, 3); return 0 }},
		{
			"normGradAdd", 2e-6, func(s set) float32 { vecNormGradAdd(s.a, s.b, s.c, s.d, s.e, 2, 3); return 0 },
			func(s set) float32 { normGradAddGo(s.a, s.b, s.c, s.d, s.e, 2, 3); return 0 },
		},
		{"mulAdd", 2e-6, func(s set) float32 { vecMulAdd(s.a, s.b, s.c, 2); return 0 }, func(s set) float32 { mulAddGo(s.a, s.b, s.c, 2); return 0 }},
		{"swiglu", 2e-6, func(s set) float32 { vecSwiGLU(s.a, s.b, s.c); return 0 }, func(s set) float32 { swigluGo(s.a, s.b, s.c); return 0 }},
		{"swigluGrad", 2e-6, func(s set) float32 { vecSwiGLUGrad(s.a, s.e, s.b, s.c, s.d); return 0 }, func(s set) float32 { swigluGradGo(s.a, s.e, s.b, s.c, s.d); return 0 }},
		{"adamw", 0, func(s set) float32 { vecAdamW(s.a, s.b, positive(s.c), s.d, k); return 0 }, func(s set) float32 { adamwGo(s.a, s.b, positive(s.c), s.d, k); return 0 }},
	}
	for _, kernel := range kernels {
		t.Run(kernel.name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 0))
				for _, n := range lengths() {
					whole := [5][]float32{}
					for i := range whole {
						whole[i] = normals(r, n+40)
					}
					copied := [5][]float32{}
					for i := range whole {
						copied[i] = append([]float32(nil), whole[i]...)
					}
					cut := func(w [5][]float32) set { return set{w[0][:n], w[1][:n], w[2][:n], w[3][:n], w[4][:n]} }
					got, want := kernel.vec(cut(whole)), kernel.plan(cut(copied))
					compare(t, fmt.Sprintf("n = %d: result", n), []float32{got}, []float32{want}, kernel.tolerance)
					for i := range whole {
						compare(t, fmt.Sprintf("n = %d: argument %d", n, i), whole[i], copied[i], kernel.tolerance)
						compare(t, fmt.Sprintf("n = %d: after argument %d", n, i), whole[i][n:], copied[i][n:], 0)
					}
				}
			})
		})
	}
}

// positive makes the values of a second moment, in place.
func positive(x []float32) []float32 {
	for i := range x {
		x[i] = x[i] * x[i]
	}
	return x
}

func compare(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	for i, w := range want {
		same := math.Float32bits(got[i]) == math.Float32bits(w)
		if !same && !(math.Abs(float64(got[i])-float64(w)) <= tolerance*(1+math.Abs(float64(w)))) {
			t.Fatalf("%s: value %d = %v, want %v", what, i, got[i], w)
		}
	}
}

func TestMultiplyAgainstGo(t *testing.T) {
	const seed = 4
	t.Logf("seed %d", seed)
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		for trial := range 400 {
			m, n, k := 1+r.IntN(26), 1+r.IntN(90), 1+r.IntN(20)
			a := normals(r, 40*40)
			ai, ak := 1, 33
			if r.IntN(2) == 0 {
				ai, ak = 33, 1
			}
			b, c := normals(r, k*97), normals(r, m*99)
			want := append([]float32(nil), c...)
			add := trial%2 == 0
			multiply(m, n, k, a, ai, ak, b, 97, c, 99, add)
			multiplyGo(m, n, k, a, ai, ak, b, 97, want, 99, add)
			compare(t, fmt.Sprintf("m, n, k = %d, %d, %d, add %v", m, n, k, add), c, want, 1e-5)
			for i := range m {
				compare(t, "beyond a row", c[i*99+n:(i+1)*99], want[i*99+n:(i+1)*99], 0)
			}
		}
		for _, size := range [][2]int{{8, 8}, {8, 64}, {64, 8}, {24, 40}} {
			src := normals(r, size[0]*70)
			got, want := make([]float32, size[1]*66), make([]float32, size[1]*66)
			transpose(got, 66, src, 70, size[0], size[1])
			transposeGo(want, 66, src, 70, size[0], size[1])
			compare(t, fmt.Sprint("transpose ", size), got, want, 0)
		}
	})
}

// Exact functions: every level gives the bits of plain Go.
func TestExactKernels(t *testing.T) {
	const seed = 5
	t.Logf("seed %d", seed)
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, n := range lengths() {
			x := normals(r, n)
			for i := range x {
				x[i] *= float32(math.Ldexp(1, r.IntN(40)-30))
			}
			lanes := [16]float64{}
			for i, v := range x {
				lanes[i%16] += float64(v) * float64(v)
			}
			want := 0.0
			if n > 0 {
				l := lanes
				want = ((l[0] + l[1]) + (l[2] + l[3]) + ((l[4] + l[5]) + (l[6] + l[7]))) +
					((l[8] + l[9]) + (l[10] + l[11]) + ((l[12] + l[13]) + (l[14] + l[15])))
			}
			if got := SumSquares(x); got != want {
				t.Fatalf("SumSquares of %d = %v, want %v", n, got, want)
			}
			sum, wantSum := make([]int64, n), make([]int64, n)
			for i := range sum {
				sum[i] = r.Int64N(1<<40) - 1<<39
				wantSum[i] = sum[i] + int64(math.RoundToEven(math.Ldexp(float64(x[i]), 20)))
			}
			before := float32(0)
			for _, v := range x {
				before = max(before, float32(math.Abs(float64(v))))
			}
			top, finite := Quantise(sum, x, 1<<20)
			if top != before || !finite {
				t.Fatalf("Quantise of %d = %v, %v, want %v, true", n, top, finite, before)
			}
			out := make([]float32, n)
			Dequantise(out, sum, 1./(1<<20))
			for i := range sum {
				if sum[i] != wantSum[i] {
					t.Fatalf("Quantise of %d: sum %d = %d, want %d (value %v)", n, i, sum[i], wantSum[i], x[i])
				}
				if w := float32(math.Ldexp(float64(sum[i]), -20)); out[i] != w {
					t.Fatalf("Dequantise of %d: value %d = %v, want %v", n, i, out[i], w)
				}
			}
			if top, finite := MaxAbs(x); top != before || !finite {
				t.Fatalf("MaxAbs of %d = %v, %v, want %v, true", n, top, finite, before)
			}
			if n > 0 {
				for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
					at := r.IntN(n)
					old := x[at]
					x[at] = float32(bad)
					if _, finite := MaxAbs(x); finite {
						t.Fatalf("MaxAbs of %d with %v at %d: finite", n, bad, at)
					}
					if _, finite := Quantise(sum, x, 1); finite {
						t.Fatalf("Quantise of %d with %v at %d: finite", n, bad, at)
					}
					x[at] = old
				}
			}
		}
	})
}

// Ties go to even, on every level.
func TestQuantiseTies(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		g := []float32{0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.50000006, 0.49999997, -0.50000006, 3, -3, 0}
		want := []int64{0, 2, 2, 0, -2, -2, 1, 0, -1, 3, -3, 0}
		sum := make([]int64, len(g))
		Quantise(sum, g, 1)
		for i := range want {
			if sum[i] != want[i] {
				t.Errorf("Quantise(%v) = %d, want %d", g[i], sum[i], want[i])
			}
		}
	})
}
