package gemm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

const seed = 20261123

// eachLevel runs f under every instruction set of this processor.
func eachLevel(t *testing.T, f func(t *testing.T)) {
	for _, level := range isa.Available() {
		t.Run(level.String(), func(t *testing.T) {
			isa.Use(t, level)
			f(t)
		})
	}
}

// matrix is rows x cols in a slice with a leading dimension, NaN in the padding and a guard before and after.
type matrix struct {
	rows, cols, ld int
	all, s         []float32
}

const guard = 40

func newMatrix(rows, cols, pad int, r *rand.Rand) matrix {
	m := matrix{rows: rows, cols: cols, ld: max(1, cols+pad)}
	size := 0
	if rows > 0 && cols > 0 {
		size = (rows-1)*m.ld + cols
	}
	m.all = make([]float32, size+2*guard)
	for i := range m.all {
		m.all[i] = float32(math.NaN())
	}
	m.s = m.all[guard : guard+size : guard+size]
	for i := range rows {
		for j := range cols {
			m.s[i*m.ld+j] = float32(r.NormFloat64())
		}
	}
	return m
}

// at is element (i, j), or (j, i) if trans.
func (m matrix) at(i, j int, trans bool) float64 {
	if trans {
		i, j = j, i
	}
	return float64(m.s[i*m.ld+j])
}

func (m matrix) clone() matrix {
	c := m
	c.all = append([]float32(nil), m.all...)
	c.s = c.all[guard : guard+len(m.s) : guard+len(m.s)]
	return c
}

// checkGuards fails unless everything outside the elements is still NaN.
func (m matrix) checkGuards(t *testing.T, name string) {
	t.Helper()
	for p, v := range m.all {
		q := p - guard
		inside := q >= 0 && q < len(m.s) && q%m.ld < m.cols
		if !inside && v == v {
			t.Fatalf("%s: value %d of %d, outside the matrix, was overwritten with %v", name, q, len(m.s), v)
		}
	}
}

// tolerance bounds |got - exact| of one element: the float32 sum of k products and the update of C each round to
// eps = 2^-24 of what was summed so far; sumAbs is Σ|alpha*a*b| + |beta*c|. k+4 roundings (two an element in the
// portable kernel: 2k).
func tolerance(k int, sumAbs float64) float64 {
	return float64(2*k+4) * 0x1p-24 * sumAbs
}

type shape struct{ m, n, k int }

// checkDo compares Do with a float64 reference and looks at the guards.
func checkDo(t *testing.T, p *pool.Pool, transA, transB bool, sh shape, alpha, beta float32, pad int, r *rand.Rand) {
	t.Helper()
	a, b := newMatrix(sh.m, sh.k, pad, r), newMatrix(sh.k, sh.n, pad, r)
	if transA {
		a = newMatrix(sh.k, sh.m, pad, r)
	}
	if transB {
		b = newMatrix(sh.n, sh.k, pad, r)
	}
	c := newMatrix(sh.m, sh.n, pad, r)
	if beta == 0 {
		for i := range c.s {
			c.s[i] = float32(math.NaN())
		}
	}
	old := c.clone()
	Do(p, transA, transB, sh.m, sh.n, sh.k, alpha, a.s, a.ld, b.s, b.ld, beta, c.s, c.ld)
	name := fmt.Sprintf("Do(%v, %v, %v, alpha %v, beta %v, pad %d)", transA, transB, sh, alpha, beta, pad)
	c.checkGuards(t, name)
	for i := range sh.m {
		for j := range sh.n {
			var want, sumAbs float64
			if alpha != 0 {
				for q := range sh.k {
					v := float64(alpha) * a.at(i, q, transA) * b.at(q, j, transB)
					want += v
					sumAbs += math.Abs(v)
				}
			}
			if beta != 0 {
				v := float64(beta) * old.at(i, j, false)
				want += v
				sumAbs += math.Abs(v)
			}
			got := c.at(i, j, false)
			if !(math.Abs(got-want) <= tolerance(sh.k, sumAbs)) {
				t.Fatalf("%s[%d,%d] = %v, want %v +- %v", name, i, j, got, want, tolerance(sh.k, sumAbs))
			}
		}
	}
}

func TestDoAgainstFloat64(t *testing.T) {
	sizes := []int{0, 1, 2, 3, 5, 11, 12, 13, 16, 31, 32, 33, 63, 64, 65, 127, 300}
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 1))
		t.Logf("seed %d", seed)
		p := pool.New(2)
		defer p.Close()
		pools := []*pool.Pool{nil, p}
		scalars := []float32{0, 1, -0.5}
		for round := range 700 {
			pick := func() int { return sizes[r.IntN(len(sizes))] }
			sh := shape{pick(), pick(), pick()}
			if sh.m*sh.n*sh.k > 3e6 {
				sh.m = r.IntN(40)
			}
			checkDo(t, pools[round%2], round&2 != 0, round&4 != 0, sh, scalars[r.IntN(3)], scalars[r.IntN(3)], r.IntN(2)*r.IntN(20), r)
		}
		for _, sh := range []shape{{13, 530, 800}, {200, 40, 390}, {97, 33, 1000}, {12, 32, 384}, {12, 32, 385}, {16, 1100, 40}, {600, 16, 70}} {
			for bits := range 4 {
				checkDo(t, pools[bits%2], bits&1 != 0, bits&2 != 0, sh, 1, 1, 3, r)
			}
		}
	})
}

// TestEveryEdge walks all row and column tails of every kernel.
func TestEveryEdge(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 2))
		for m := 1; m <= 14; m++ {
			for n := 1; n <= 34; n++ {
				for bits := range 4 {
					checkDo(t, nil, bits&1 != 0, bits&2 != 0, shape{m, n, 1 + r.IntN(7)}, 1, float32(n&1), r.IntN(3), r)
				}
			}
		}
		for m := 1; m <= 14; m++ { // wide enough to pack strips of A, over every depth modulo 16
			for k := 1; k <= 34; k++ {
				checkDo(t, nil, k&1 != 0, k&2 != 0, shape{m, 65 + r.IntN(40), k}, 1, 1, r.IntN(3), r)
			}
		}
	})
}

func TestPackedMatchesDo(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 3))
		p := pool.New(2)
		defer p.Close()
		for _, sh := range []shape{{1, 1, 1}, {5, 33, 7}, {12, 64, 65}, {40, 31, 400}, {65, 600, 70}, {100, 130, 800}, {7, 900, 390}, {3, 0, 4}, {3, 4, 0}, {0, 3, 4}} {
			for _, beta := range []float32{0, 1, -0.5} {
				m, n, k := sh.m, sh.n, sh.k
				w, x, dy := newMatrix(n, k, 0, r), newMatrix(m, k, 2, r), newMatrix(m, n, 5, r)
				packed := Pack(make([]float32, n*k), n, k)
				packed.Repack(w.s)
				y, dx := newMatrix(m, n, 3, r), newMatrix(m, k, 1, r)
				wantY, wantDX := y.clone(), dx.clone()
				packed.NT(p, m, x.s, x.ld, beta, y.s, y.ld)
				packed.NN(p, m, dy.s, dy.ld, beta, dx.s, dx.ld)
				Do(nil, false, true, m, n, k, 1, x.s, x.ld, w.s, w.ld, beta, wantY.s, wantY.ld)
				Do(nil, false, false, m, k, n, 1, dy.s, dy.ld, w.s, w.ld, beta, wantDX.s, wantDX.ld)
				sameBits(t, fmt.Sprintf("NT %v beta %v", sh, beta), y.all, wantY.all)
				sameBits(t, fmt.Sprintf("NN %v beta %v", sh, beta), dx.all, wantDX.all)
				back := make([]float32, n*k)
				packed.Unpack(back)
				sameBits(t, fmt.Sprintf("Unpack %v", sh), back, w.s)
			}
		}
	})
}

func sameBits(t *testing.T, name string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: value %d = %v, want the same bits as %v", name, i, got[i], want[i])
		}
	}
}

func ptr(s []float32) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(s)) }
