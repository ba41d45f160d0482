package simd

import "github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"

// Exp sets dst[i] = exp(x[i]); dst may be x. Within 2 ulp of the exact value; results below 2^-126 are 0, NaN stays.
func Exp(dst, x []float32) { vecExp(dst, x[:len(dst)]) }

// Sigmoid sets dst[i] = 1 / (1 + exp(-x[i])); dst may be x. Within 4 ulp for x >= -87; below, within 1e-37 of the
// exact value.
func Sigmoid(dst, x []float32) { vecSigmoid(dst, x[:len(dst)]) }

// SiLU sets dst[i] = x[i] / (1 + exp(-x[i])); dst may be x. Within 4 ulp for x >= -87; below, within 1e-35 of the
// exact value.
func SiLU(dst, x []float32) { vecSiLU(dst, x[:len(dst)]) }

// Add sets dst = a + b; dst may be either.
func Add(p *pool.Pool, dst, a, b []float32) {
	check("Add a", len(a), len(dst))
	check("Add b", len(b), len(dst))
	forFlat(p, len(dst), func(lo, hi int) { vecAdd(dst[lo:hi], a[lo:hi], b[lo:hi]) })
}

// Scale sets dst = alpha x; dst may be x.
func Scale(p *pool.Pool, dst []float32, alpha float32, x []float32) {
	check("Scale x", len(x), len(dst))
	forFlat(p, len(dst), func(lo, hi int) { vecScale(dst[lo:hi], x[lo:hi], alpha) })
}

// AddBias sets dst[t, :] = x[t, :] + bias for x [T, len(bias)]; dst may be x.
func AddBias(p *pool.Pool, dst, x, bias []float32) {
	d := len(bias)
	if d == 0 {
		return
	}
	check("AddBias x", len(x), len(dst))
	forRows(p, len(dst)/d, d, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			vecAdd(dst[t*d:(t+1)*d], x[t*d:(t+1)*d], bias)
		}
	})
}

// ColumnSums sets dst[j] = sum over t of x[t, j] for x [T, len(dst)], or adds to dst.
func ColumnSums(p *pool.Pool, dst, x []float32, accumulate bool) {
	if !accumulate {
		clear(dst)
	}
	d := len(dst)
	if d == 0 {
		return
	}
	sumRows(p, dst, len(x)/d, func(partial []float32, lo, hi int) {
		for t := lo; t < hi; t++ {
			vecAdd(partial, partial, x[t*d:(t+1)*d])
		}
	})
}

// Copy copies src to dst, of the same length.
func Copy(p *pool.Pool, dst, src []float32) {
	check("Copy src", len(src), len(dst))
	forFlat(p, len(dst), func(lo, hi int) { copy(dst[lo:hi], src[lo:hi]) })
}

// Clear sets dst to 0.
func Clear(p *pool.Pool, dst []float32) {
	forFlat(p, len(dst), func(lo, hi int) { clear(dst[lo:hi]) })
}
