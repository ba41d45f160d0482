package simd

import "math"

// multiplyGo is C[m,n] = A B, or C += A B: A[i,k] = a[i*ai + k*ak], rows of B and C of n contiguous values.
func multiplyGo(m, n, k int, a []float32, ai, ak int, b []float32, ldb int, c []float32, ldc int, add bool) {
	for i := range m {
		row := c[i*ldc : i*ldc+n]
		if !add {
			clear(row)
		}
		l := 0
		for ; l+4 <= k; l += 4 { // four rows of B for one pass over C
			at := i*ai + l*ak
			a0, a1, a2, a3 := a[at], a[at+ak], a[at+2*ak], a[at+3*ak]
			b0, b1 := b[l*ldb:l*ldb+n], b[(l+1)*ldb:(l+1)*ldb+n]
			b2, b3 := b[(l+2)*ldb:(l+2)*ldb+n], b[(l+3)*ldb:(l+3)*ldb+n]
			for j, v := range row {
				row[j] = v + (a0*b0[j] + a1*b1[j]) + (a2*b2[j] + a3*b3[j])
			}
		}
		for ; l < k; l++ {
			axpyGo(row, b[l*ldb:l*ldb+n], a[i*ai+l*ak])
		}
	}
}

// transposeGo sets dst[j*ldd+i] = src[i*lds+j] for i < rows, j < cols.
func transposeGo(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	for i := range rows {
		for j := range cols {
			dst[j*ldd+i] = src[i*lds+j]
		}
	}
}

// scaleRowsGo copies rows of d values, row i times factor[i*step].
func scaleRowsGo(dst []float32, ldd int, src []float32, lds, rows, d int, factor []float32, step int) {
	for i := range rows {
		scaleGo(dst[i*ldd:i*ldd+d], src[i*lds:i*lds+d], factor[i*step])
	}
}

// maskGo sets S[j, c] = -Inf where key j0+j is not within lo[c] .. hi[c].
func maskGo(s []float32, ld, keys, cols, j0 int, lo, hi *[tileSize]int32) {
	inf := float32(math.Inf(-1))
	for j := range keys {
		row, key := s[j*ld:j*ld+cols], int32(j0+j)
		for c := range row {
			if key < lo[c] || key >= hi[c] {
				row[c] = inf
			}
		}
	}
}

// softmaxGo: for each column, the maximum joins top, S becomes exp(S - top), shrink is by how much what was summed
// before shrinks, and sum is brought up to date.
func softmaxGo(s []float32, ld, keys, cols int, top, sum, shrink *[tileSize]float32) {
	for c := range cols {
		m := top[c]
		for j := range keys {
			if v := s[j*ld+c]; v > m {
				m = v
			}
		}
		f := exp32(top[c] - m)
		total := sum[c] * f
		for j := range keys {
			e := exp32(s[j*ld+c] - m)
			s[j*ld+c] = e
			total += e
		}
		top[c], sum[c], shrink[c] = m, total, f
	}
}

// gradGo: S becomes P = exp(S - lse), dP becomes dS = P (dP - delta), columns as above.
func gradGo(s, dp []float32, ld, keys, cols int, lse, delta *[tileSize]float32) {
	for j := range keys {
		row, drow := s[j*ld:j*ld+cols], dp[j*ld:j*ld+cols]
		for c := range row {
			e := exp32(row[c] - lse[c])
			row[c], drow[c] = e, e*(drow[c]-delta[c])
		}
	}
}
