// Package gemm multiplies float32 matrices on the CPU, in row-major order, with hand-written kernels for AVX-512 and
// AVX2 and plain Go elsewhere. DESIGN.md says how.
//
// # What a result depends on
//
// Element (i, j) of op(A)·op(B) is a function of row i of op(A), column j of op(B), k, alpha, beta and C[i,j], and of
// nothing else, bit for bit: not of the number of threads, not of m or n or of the element's place in them, not of
// leading dimensions, transposition or packing. AVX2 and AVX-512 give the same bits; portable Go, which has no fast
// fused multiply-add, gives others.
package gemm

import (
	"fmt"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// Do computes C = alpha * op(A) * op(B) + beta * C, row-major.
//
//	C[m,n] with leading dimension ldc
//	op(A) = A[m,k] (lda >= k), or Aᵀ of A[k,m] (lda >= m) if transA
//	op(B) = B[k,n] (ldb >= n), or Bᵀ of B[n,k] (ldb >= k) if transB
//
// If beta is 0, C is only written: NaN in it does not spread. If alpha is 0 or k is 0, A and B are not read. C may not
// overlap A or B. A nil pool runs in the caller. It allocates nothing once its scratch is warm, so small blocks (a tile
// of attention, a rank-16 product) may call it freely. It panics on a slice too short for its shape.
func Do(p *pool.Pool, transA, transB bool, m, n, k int, alpha float32, a []float32, lda int,
	b []float32, ldb int, beta float32, c []float32, ldc int,
) {
	if m <= 0 || n <= 0 || k < 0 {
		checkDims(m, n, k)
		return
	}
	checkMatrix("C", c, m, n, ldc)
	if k == 0 || alpha == 0 {
		scale(m, n, beta, c, ldc)
		return
	}
	if transA {
		checkMatrix("A", a, k, m, lda)
	} else {
		checkMatrix("A", a, m, k, lda)
	}
	if transB {
		checkMatrix("B", b, n, k, ldb)
	} else {
		checkMatrix("B", b, k, n, ldb)
	}
	product{
		m: m, n: n, k: k, alpha: alpha, beta: beta,
		a: a, lda: lda, transA: transA,
		b: b, ldb: ldb, form: form(transB),
		c: c, ldc: ldc,
	}.run(p)
}

func form(transB bool) bForm {
	if transB {
		return bTrans
	}
	return bPlain
}

func checkDims(m, n, k int) {
	if m < 0 || n < 0 || k < 0 {
		panic(fmt.Sprintf("gemm: negative size: m %d, n %d, k %d", m, n, k))
	}
}

// checkMatrix panics unless s holds rows x cols values with leading dimension ld.
func checkMatrix(name string, s []float32, rows, cols, ld int) {
	if rows == 0 || cols == 0 {
		return
	}
	if ld < cols || len(s) < (rows-1)*ld+cols {
		panic(fmt.Sprintf("gemm: matrix %s [%d, %d] with leading dimension %d does not fit in %d values",
			name, rows, cols, ld, len(s)))
	}
}

// scale computes C = beta * C.
func scale(m, n int, beta float32, c []float32, ldc int) {
	if beta == 1 {
		return
	}
	for i := range m {
		row := c[i*ldc : i*ldc+n]
		if beta == 0 {
			clear(row)
			continue
		}
		for j := range row {
			row[j] *= beta
		}
	}
}
