package gemm

import (
	"fmt"
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// Low is a product of low rank that is added to some columns of another product:
//
//	y[m, Offset:Offset+Width] += Alpha * H[m, Rank] * Bᵀ,   B [Width, Rank]
type Low struct {
	Offset, Width, Rank int
	Alpha               float32
	H                   []float32
	LDH                 int
	B                   []float32
}

// MaxRank is the largest rank that NTLow takes.
const MaxRank = depthMax

// NTLow is NT followed by the additions of lows in order, each added to a tile of y while that is in the cache. The bits are
// those of NT and one Do for each.
func (p *Packed) NTLow(pl *pool.Pool, m int, x []float32, ldx int, beta float32, y []float32, ldy int, lows []Low) {
	if m <= 0 || p.n == 0 || p.k == 0 {
		panic(fmt.Sprintf("gemm: low-rank products on one of m %d, n %d, k %d", m, p.n, p.k))
	}
	checkMatrix("y", y, m, p.n, ldy)
	checkMatrix("x", x, m, p.k, ldx)
	for _, l := range lows {
		if l.Offset < 0 || l.Offset+l.Width > p.n || l.Rank < 1 || l.Rank > MaxRank {
			panic(fmt.Sprintf("gemm: columns %d to %d by rank %d of a product of %d columns", l.Offset, l.Offset+l.Width, l.Rank, p.n))
		}
		checkMatrix("H", l.H, m, l.Rank, l.LDH)
		checkMatrix("B", l.B, l.Width, l.Rank, l.Rank)
	}
	product{
		m: m, n: p.n, k: p.k, alpha: 1, beta: beta,
		a: x, lda: ldx,
		packed: p, form: bPackedNT,
		c: y, ldc: ldy, lows: lows,
	}.run(pl)
}

// low adds l to the tile of rows i0.. and columns j0.. .
func (j *job) low(s *scratch, l *Low, i0, j0, rows, cols int) {
	const wide = 8 * panel // columns whose panels of B are made at a time
	height := stripRows(j.level)
	if height > 8 && j.ldc%1024 == 0 {
		height = 8 // as stripRows of job
	}
	strips := (rows + height - 1) / height
	for at, end := max(j0, l.Offset), min(j0+cols, l.Offset+l.Width); at < end; at += wide {
		n := min(wide, end-at)
		for c := 0; c < n; c += panel {
			transpose(j.level, unsafe.Pointer(&s.b[c*l.Rank]), panel, unsafe.Pointer(&l.B[(at-l.Offset+c)*l.Rank]), l.Rank, l.Rank, min(panel, n-c))
		}
		st := strip{
			alpha: l.Alpha, beta: 1, n: n, k: l.Rank, rs: l.LDH * 4, cs: 4,
			b: unsafe.Pointer(&s.b[0]), ldb: panel * 4, bstep: l.Rank * panel * 4, ldc: j.ldc * 4,
		}
		r0 := 0
		for q := range strips {
			r1 := (q + 1) * rows / strips
			st.m = r1 - r0
			st.a = unsafe.Pointer(&l.H[(i0+r0)*l.LDH])
			st.c = unsafe.Pointer(&j.c[(i0+r0)*j.ldc+at])
			st.run(j.level)
			r0 = r1
		}
	}
}
