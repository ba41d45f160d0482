package simd

import (
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
	"github.com/counterpoint-ml/counterpoint/trainer/philox"
)

// The kernels whose arguments are not rows of one length.

func vecRotate(y, x, cos, sin []float32, sign float32) {
	half := len(cos)
	if half == 0 || len(x) < 2*half || isa.Active() == isa.Portable {
		rotateGo(y, x, cos, sin, sign)
		return
	}
	heads := len(x) / (2 * half)
	_, _ = y[:2*half*heads], sin[:half]
	if isa.Active() == isa.AVX512 {
		rotateAVX512(&y[0], &x[0], &cos[0], &sin[0], heads, half, sign)
	} else {
		rotateAVX2(&y[0], &x[0], &cos[0], &sin[0], heads, half, sign)
	}
}

// vecQuantise: the vectors take whole groups, plain Go the rest; both are exact.
func vecQuantise(sum []int64, g []float32, scale float64) uint32 {
	var top uint32
	n := len(sum) &^ 7
	_ = g[:len(sum)]
	switch isa.Active() {
	case isa.AVX512:
		top = quantiseAVX512(unsafe.SliceData(sum), unsafe.SliceData(g), n, scale)
	case isa.AVX2:
		top = quantiseAVX2(unsafe.SliceData(sum), unsafe.SliceData(g), n, scale)
	default:
		n = 0
	}
	return max(top, quantiseGo(sum[n:], g[n:len(sum)], scale))
}

// vecDequantise: AVX2 has no conversion of 64-bit integers.
func vecDequantise(dst []float32, sum []int64, scale float64) {
	n := 0
	if isa.Active() == isa.AVX512 {
		n = len(dst) &^ 7
		_ = sum[:n]
		dequantiseAVX512(unsafe.SliceData(dst), unsafe.SliceData(sum), n, scale)
	}
	dequantiseGo(dst[n:], sum[n:], scale)
}

// vecSquares: len(x) is a multiple of 16.
func vecSquares(lanes *[16]float64, x []float32) {
	switch isa.Active() {
	case isa.AVX512:
		squaresAVX512(&lanes[0], unsafe.SliceData(x), len(x))
	case isa.AVX2:
		squaresAVX2(&lanes[0], unsafe.SliceData(x), len(x))
	default:
		squaresGo(lanes, x)
	}
}

func multiply(m, n, k int, a []float32, ai, ak int, b []float32, ldb int, c []float32, ldc int, add bool) {
	if m == 0 || n == 0 {
		return
	}
	level := isa.Active()
	if level == isa.Portable || k == 0 {
		multiplyGo(m, n, k, a, ai, ak, b, ldb, c, ldc, add)
		return
	}
	_, _, _ = a[(m-1)*ai+(k-1)*ak], b[(k-1)*ldb+n-1], c[(m-1)*ldc+n-1]
	keep := 0
	if add {
		keep = 1
	}
	panel, kernel := 64, multiplyAVX512
	if level == isa.AVX2 {
		panel, kernel = 16, multiplyAVX2
	}
	for j := 0; j < n; j += panel {
		kernel(m, min(panel, n-j), k, &a[0], 4*ai, 4*ak, &b[j], 4*ldb, &c[j], 4*ldc, keep)
	}
}

// transpose: rows and cols are multiples of 8.
func transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	level := isa.Active()
	if level == isa.Portable || rows == 0 || cols == 0 {
		transposeGo(dst, ldd, src, lds, rows, cols)
		return
	}
	_, _ = dst[(cols-1)*ldd+rows-1], src[(rows-1)*lds+cols-1]
	if level == isa.AVX512 {
		transposeAVX512(&dst[0], 4*ldd, &src[0], 4*lds, rows, cols)
	} else {
		transposeAVX2(&dst[0], 4*ldd, &src[0], 4*lds, rows, cols)
	}
}

// scaleRows copies rows of d values, row i times factor[i*step].
func scaleRows(dst []float32, ldd int, src []float32, lds, rows, d int, factor []float32, step int) {
	level := isa.Active()
	if level == isa.Portable || rows == 0 || d == 0 {
		scaleRowsGo(dst, ldd, src, lds, rows, d, factor, step)
		return
	}
	_, _, _ = dst[(rows-1)*ldd+d-1], src[(rows-1)*lds+d-1], factor[(rows-1)*step]
	if level == isa.AVX512 {
		scaleRowsAVX512(&dst[0], 4*ldd, &src[0], 4*lds, rows, d, &factor[0], 4*step)
	} else {
		scaleRowsAVX2(&dst[0], 4*ldd, &src[0], 4*lds, rows, d, &factor[0], 4*step)
	}
}

func maskTile(s []float32, ld, keys, cols, j0 int, lo, hi *[tileSize]int32) {
	switch _ = s[(keys-1)*ld+cols-1]; isa.Active() {
	case isa.AVX512:
		maskTileAVX512(&s[0], 4*ld, keys, cols, j0, &lo[0], &hi[0])
	case isa.AVX2:
		maskTileAVX2(&s[0], 4*ld, keys, cols, j0, &lo[0], &hi[0])
	default:
		maskGo(s, ld, keys, cols, j0, lo, hi)
	}
}

func softmaxTile(s []float32, ld, keys, cols int, top, sum, shrink *[tileSize]float32) {
	switch _ = s[(keys-1)*ld+cols-1]; isa.Active() {
	case isa.AVX512:
		softmaxAVX512(&s[0], 4*ld, keys, cols, &top[0], &sum[0], &shrink[0])
	case isa.AVX2:
		softmaxAVX2(&s[0], 4*ld, keys, cols, &top[0], &sum[0], &shrink[0])
	default:
		softmaxGo(s, ld, keys, cols, top, sum, shrink)
	}
}

func gradTile(s, dp []float32, ld, keys, cols int, lse, delta *[tileSize]float32) {
	switch _, _ = s[(keys-1)*ld+cols-1], dp[(keys-1)*ld+cols-1]; isa.Active() {
	case isa.AVX512:
		gradAVX512(&s[0], &dp[0], 4*ld, keys, cols, &lse[0], &delta[0])
	case isa.AVX2:
		gradAVX2(&s[0], &dp[0], 4*ld, keys, cols, &lse[0], &delta[0])
	default:
		gradGo(s, dp, ld, keys, cols, lse, delta)
	}
}

// vecRandom writes a multiple of four numbers and returns how many.
func vecRandom(dst []uint32, k *philox.Key, c *philox.Counter) (n int) {
	switch isa.Active() {
	case isa.AVX512:
		if n = len(dst) &^ 63; n > 0 {
			randomAVX512(&dst[0], n, &k[0], &c[0])
		}
	case isa.AVX2:
		if n = len(dst) &^ 31; n > 0 {
			randomAVX2(&dst[0], n, &k[0], &c[0])
		}
	}
	return n
}
