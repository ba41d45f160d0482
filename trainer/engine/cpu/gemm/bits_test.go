package gemm

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// forEachProduct calls f with a Do of each transposition over shapes that cut into several tiles, strips and runs.
func forEachProduct(t *testing.T, f func(t *testing.T, do func(p *pool.Pool, m, n int, c []float32, ldc int), m, n int, c []float32)) {
	r := rand.New(rand.NewPCG(seed, 4))
	for _, sh := range []shape{{200, 1100, 70}, {37, 70, 900}, {1000, 16, 1100}, {16, 700, 400}, {130, 530, 390}, {300, 32, 16}} {
		for bits := range 4 {
			transA, transB := bits&1 != 0, bits&2 != 0
			a, b, c := newMatrix(sh.m, sh.k, 3, r), newMatrix(sh.k, sh.n, 3, r), newMatrix(sh.m, sh.n, 0, r)
			if transA {
				a = newMatrix(sh.k, sh.m, 3, r)
			}
			if transB {
				b = newMatrix(sh.n, sh.k, 3, r)
			}
			t.Run(fmt.Sprintf("%v %v %v", sh, transA, transB), func(t *testing.T) {
				f(t, func(p *pool.Pool, m, n int, c []float32, ldc int) {
					Do(p, transA, transB, m, n, sh.k, 0.7, a.s, a.ld, b.s, b.ld, -0.3, c, ldc)
				}, sh.m, sh.n, c.s)
			})
		}
	}
}

func TestBitsDoNotDependOnThreads(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		forEachProduct(t, func(t *testing.T, do func(*pool.Pool, int, int, []float32, int), m, n int, c []float32) {
			want := append([]float32(nil), c...)
			do(nil, m, n, want, n)
			for threads := 1; threads <= 5; threads++ {
				p := pool.New(threads)
				got := append([]float32(nil), c...)
				do(p, m, n, got, n)
				p.Close()
				sameBits(t, fmt.Sprintf("%d threads", threads), got, want)
			}
		})
	})
}

// TestBitsDoNotDependOnPlace multiplies the first rows and columns alone: an element keeps its bits in any m and n.
func TestBitsDoNotDependOnPlace(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		forEachProduct(t, func(t *testing.T, do func(*pool.Pool, int, int, []float32, int), m, n int, c []float32) {
			whole := append([]float32(nil), c...)
			do(nil, m, n, whole, n)
			for _, cut := range []shape{{m: 1, n: n}, {m: m, n: 1}, {m: m - 1, n: n - 1}, {m: m / 2, n: n/2 + 1}, {m: min(m, 7), n: min(n, 15)}} {
				part := append([]float32(nil), c...)
				do(nil, cut.m, cut.n, part, n)
				for i := range cut.m {
					sameBits(t, fmt.Sprintf("row %d of %v", i, cut), part[i*n:i*n+cut.n], whole[i*n:i*n+cut.n])
				}
			}
		})
	})
}

// TestBitsDoNotDependOnTransposition stores the same operands both ways.
func TestBitsDoNotDependOnTransposition(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 5))
		for _, sh := range []shape{{70, 90, 800}, {1100, 16, 1000}, {5, 3, 2}, {13, 33, 385}} {
			a, b, c := newMatrix(sh.m, sh.k, 0, r), newMatrix(sh.k, sh.n, 0, r), newMatrix(sh.m, sh.n, 0, r)
			turn := func(x matrix) matrix {
				y := newMatrix(x.cols, x.rows, 0, r)
				transposePortable(ptr(y.s), y.ld, ptr(x.s), x.ld, x.cols, x.rows)
				return y
			}
			at, bt := turn(a), turn(b)
			var want []float32
			for bits := range 4 {
				x, y, got := a, b, append([]float32(nil), c.s...)
				if bits&1 != 0 {
					x = at
				}
				if bits&2 != 0 {
					y = bt
				}
				Do(nil, bits&1 != 0, bits&2 != 0, sh.m, sh.n, sh.k, 1, x.s, x.ld, y.s, y.ld, 1, got, sh.n)
				if want == nil {
					want = got
				}
				sameBits(t, fmt.Sprintf("%v transposed %02b", sh, bits), got, want)
			}
		}
	})
}

func TestAVX2AndAVX512GiveTheSameBits(t *testing.T) {
	if isa.Best() < isa.AVX512 {
		t.Skipf("this processor runs %v at most", isa.Best())
	}
	forEachProduct(t, func(t *testing.T, do func(*pool.Pool, int, int, []float32, int), m, n int, c []float32) {
		out := map[isa.Level][]float32{}
		for _, level := range []isa.Level{isa.AVX2, isa.AVX512} {
			t.Run(level.String(), func(t *testing.T) {
				isa.Use(t, level)
				got := append([]float32(nil), c...)
				do(nil, m, n, got, n)
				out[level] = got
			})
		}
		sameBits(t, "avx2 against avx512", out[isa.AVX2], out[isa.AVX512])
	})
}

// TestPackedServesEveryLevel packs under one level and multiplies under another.
func TestPackedServesEveryLevel(t *testing.T) {
	r := rand.New(rand.NewPCG(seed, 6))
	const m, n, k = 30, 75, 500
	w, x := newMatrix(n, k, 0, r), newMatrix(m, k, 0, r)
	for _, packing := range isa.Available() {
		var packed *Packed
		t.Run(packing.String(), func(t *testing.T) {
			isa.Use(t, packing)
			packed = Pack(w.s, n, k)
		})
		eachLevel(t, func(t *testing.T) {
			got, want := make([]float32, m*n), make([]float32, m*n)
			packed.NT(nil, m, x.s, x.ld, 0, got, n)
			Do(nil, false, true, m, n, k, 1, x.s, x.ld, w.s, w.ld, 0, want, n)
			sameBits(t, "NT", got, want)
		})
	}
}

func TestDoAllocatesNothing(t *testing.T) {
	p := pool.New(2)
	defer p.Close()
	const n = 200
	a, b, c := make([]float32, n*n), make([]float32, n*n), make([]float32, n*n)
	packed := Pack(b, n, n)
	for bits := range 4 {
		for _, pl := range []*pool.Pool{nil, p} {
			for _, size := range []int{16, 64, n} {
				f := func() { Do(pl, bits&1 != 0, bits&2 != 0, size, size, size, 1, a, n, b, n, 1, c, n) }
				if got := testing.AllocsPerRun(20, f); got != 0 {
					t.Errorf("allocations of Do (%02b, %d, %d threads) = %v, want 0", bits, size, pl.Threads(), got)
				}
			}
		}
	}
	if got := testing.AllocsPerRun(20, func() { packed.NT(p, n, a, n, 0, c, n); packed.NN(p, n, a, n, 0, c, n) }); got != 0 {
		t.Errorf("allocations of Packed.NT and NN = %v, want 0", got)
	}
}

func TestDoPanicsOnShortSlices(t *testing.T) {
	full := make([]float32, 100)
	for name, f := range map[string]func(){
		"C": func() { Do(nil, false, false, 10, 10, 10, 1, full, 10, full, 10, 0, full[:99], 10) },
		"A": func() { Do(nil, true, false, 10, 10, 10, 1, full[:99], 10, full, 10, 0, full, 10) },
		"B": func() { Do(nil, false, true, 10, 10, 10, 1, full, 10, full, 9, 0, full, 10) },
		"m": func() { Do(nil, false, false, -1, 10, 10, 1, full, 10, full, 10, 0, full, 10) },
		"W": func() { Pack(full[:99], 10, 10) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Errorf("no panic on a bad %s, want one", name)
				}
			}()
			f()
		})
	}
}
