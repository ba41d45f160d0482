package simd

import (
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
)

// Each vec function runs one kernel on the active level. All slices have the length of the first, or more; the
// assembly does not check.

func vecExp(dst, x []float32) {
	_ = x[:len(dst)]
	switch isa.Active() {
	case isa.AVX512:
		expAVX512(unsafe.SliceData(dst), unsafe.SliceData(x), len(dst))
	case isa.AVX2:
		expAVX2(unsafe.SliceData(dst), unsafe.SliceData(x), len(dst))
	default:
		expGo(dst, x)
	}
}

func vecSigmoid(dst, x []float32) {
	_ = x[:len(dst)]
	switch isa.Active() {
	case isa.AVX512:
		sigmoidAVX512(unsafe.SliceData(dst), unsafe.SliceData(x), len(dst))
	case isa.AVX2:
		sigmoidAVX2(unsafe.SliceData(dst), unsafe.SliceData(x), len(dst))
	default:
		sigmoidGo(dst, x)
	}
}

func vecSiLU(dst, x []float32) {
	_ = x[:len(dst)]
	switch isa.Active() {
	case isa.AVX512:
		siluAVX512(unsafe.SliceData(dst), unsafe.SliceData(x), len(dst))
	case isa.AVX2:
		siluAVX2(unsafe.SliceData(dst), unsafe.SliceData(x), len(dst))
	default:
		siluGo(dst, x)
	}
}

func vecAdd(dst, a, b []float32) {
	_, _ = a[:len(dst)], b[:len(dst)]
	switch isa.Active() {
	case isa.AVX512:
		addAVX512(unsafe.SliceData(dst), unsafe.SliceData(a), unsafe.SliceData(b), len(dst))
	case isa.AVX2:
		addAVX2(unsafe.SliceData(dst), unsafe.SliceData(a), unsafe.SliceData(b), len(dst))
	default:
		addGo(dst, a, b)
	}
}

func vecAxpy(y, x []float32, alpha float32) {
	_ = x[:len(y)]
	switch isa.Active() {
	case isa.AVX512:
		axpyAVX512(unsafe.SliceData(y), unsafe.SliceData(x), len(y), alpha)
	case isa.AVX2:
		axpyAVX2(unsafe.SliceData(y), unsafe.SliceData(x), len(y), alpha)
	default:
		axpyGo(y, x, alpha)
	}
}

func vecScale(dst, x []float32, alpha float32) {
	_ = x[:len(dst)]
	switch isa.Active() {
	case isa.AVX512:
		scaleAVX512(unsafe.SliceData(dst), unsafe.SliceData(x), len(dst), alpha)
	case isa.AVX2:
		scaleAVX2(unsafe.SliceData(dst), unsafe.SliceData(x), len(dst), alpha)
	default:
		scaleGo(dst, x, alpha)
	}
}

func vecDot(a, b []float32) float32 {
	_ = b[:len(a)]
	switch isa.Active() {
	case isa.AVX512:
		return dotAVX512(unsafe.SliceData(a), unsafe.SliceData(b), len(a))
	case isa.AVX2:
		return dotAVX2(unsafe.SliceData(a), unsafe.SliceData(b), len(a))
	default:
		return dotGo(a, b)
	}
}

func vecDot3(a, b, c []float32) float32 {
	_, _ = b[:len(a)], c[:len(a)]
	switch isa.Active() {
	case isa.AVX512:
		return dot3AVX512(unsafe.SliceData(a), unsafe.SliceData(b), unsafe.SliceData(c), len(a))
	case isa.AVX2:
		return dot3AVX2(unsafe.SliceData(a), unsafe.SliceData(b), unsafe.SliceData(c), len(a))
	default:
		return dot3Go(a, b, c)
	}
}

func vecMax(x []float32) float32 {
	switch isa.Active() {
	case isa.AVX512:
		return maxAVX512(unsafe.SliceData(x), len(x))
	case isa.AVX2:
		return maxAVX2(unsafe.SliceData(x), len(x))
	default:
		return maxGo(x)
	}
}

func vecExpSum(dst, x []float32, scale, shift float32) float32 {
	_ = x[:len(dst)]
	switch isa.Active() {
	case isa.AVX512:
		return expSumAVX512(unsafe.SliceData(dst), unsafe.SliceData(x), len(dst), scale, shift)
	case isa.AVX2:
		return expSumAVX2(unsafe.SliceData(dst), unsafe.SliceData(x), len(dst), scale, shift)
	default:
		return expSumGo(dst, x, scale, shift)
	}
}

func vecNorm(y, x, w []float32, rstd float32) {
	_, _ = x[:len(y)], w[:len(y)]
	switch isa.Active() {
	case isa.AVX512:
		normAVX512(unsafe.SliceData(y), unsafe.SliceData(x), unsafe.SliceData(w), len(y), rstd)
	case isa.AVX2:
		normAVX2(unsafe.SliceData(y), unsafe.SliceData(x), unsafe.SliceData(w), len(y), rstd)
	default:
		normGo(y, x, w, rstd)
	}
}

func vecNormGrad(dx, dy, w, x []float32, r, c float32) {
	_, _, _ = dy[:len(dx)], w[:len(dx)], x[:len(dx)]
	switch isa.Active() {
	case isa.AVX512:
		normGradAVX512(unsafe.SliceData(dx), unsafe.SliceData(dy), unsafe.SliceData(w), unsafe.SliceData(x), len(dx), r, c)
	case isa.AVX2:
		normGradAVX2(unsafe.SliceData(dx), unsafe.SliceData(dy), unsafe.SliceData(w), unsafe.SliceData(x), len(dx), r, c)
	default:
		normGradGo(dx, dy, w, x, r, c)
	}
}

func vecNormGradAdd(dx, dy, w, x, residual []float32, r, c float32) {
	_, _, _, _ = dy[:len(dx)], w[:len(dx)], x[:len(dx)], residual[:len(dx)]
	switch isa.Active() {
	case isa.AVX512:
		normGradAddAVX512(unsafe.SliceData(dx), unsafe.SliceData(dy), unsafe.SliceData(w), unsafe.SliceData(x), unsafe.SliceData(residual), len(dx), r, c)
	case isa.AVX2:
		normGradAddAVX2(unsafe.SliceData(dx), unsafe.SliceData(dy), unsafe.SliceData(w), unsafe.SliceData(x), unsafe.SliceData(residual), len(dx), r, c)
	default:
		normGradAddGo(dx, dy, w, x, residual, r, c)
	}
}

func vecMulAdd(dst, a, b []float32, c float32) {
	_, _ = a[:len(dst)], b[:len(dst)]
	switch isa.Active() {
	case isa.AVX512:
		mulAddAVX512(unsafe.SliceData(dst), unsafe.SliceData(a), unsafe.SliceData(b), len(dst), c)
	case isa.AVX2:
		mulAddAVX2(unsafe.SliceData(dst), unsafe.SliceData(a), unsafe.SliceData(b), len(dst), c)
	default:
		mulAddGo(dst, a, b, c)
	}
}

func vecSwiGLU(y, g, u []float32) {
	_, _ = g[:len(y)], u[:len(y)]
	switch isa.Active() {
	case isa.AVX512:
		swigluAVX512(unsafe.SliceData(y), unsafe.SliceData(g), unsafe.SliceData(u), len(y))
	case isa.AVX2:
		swigluAVX2(unsafe.SliceData(y), unsafe.SliceData(g), unsafe.SliceData(u), len(y))
	default:
		swigluGo(y, g, u)
	}
}

func vecSwiGLUGrad(dg, du, dy, g, u []float32) {
	_, _, _, _ = du[:len(dg)], dy[:len(dg)], g[:len(dg)], u[:len(dg)]
	switch isa.Active() {
	case isa.AVX512:
		swigluGradAVX512(unsafe.SliceData(dg), unsafe.SliceData(du), unsafe.SliceData(dy), unsafe.SliceData(g), unsafe.SliceData(u), len(dg))
	case isa.AVX2:
		swigluGradAVX2(unsafe.SliceData(dg), unsafe.SliceData(du), unsafe.SliceData(dy), unsafe.SliceData(g), unsafe.SliceData(u), len(dg))
	default:
		swigluGradGo(dg, du, dy, g, u)
	}
}

func vecDrop(y, x []float32, words []uint32, threshold uint32, scale float32) {
	_, _ = x[:len(y)], words[:len(y)]
	switch isa.Active() {
	case isa.AVX512:
		dropAVX512(unsafe.SliceData(y), unsafe.SliceData(x), unsafe.SliceData(words), len(y), threshold, scale)
	case isa.AVX2:
		dropAVX2(unsafe.SliceData(y), unsafe.SliceData(x), unsafe.SliceData(words), len(y), threshold, scale)
	default:
		dropGo(y, x, words, threshold, scale)
	}
}

func vecAdamW(w, m, v, g []float32, k *AdamWScalars) {
	_, _, _ = m[:len(w)], v[:len(w)], g[:len(w)]
	switch isa.Active() {
	case isa.AVX512:
		adamwAVX512(unsafe.SliceData(w), unsafe.SliceData(m), unsafe.SliceData(v), unsafe.SliceData(g), len(w), k)
	case isa.AVX2:
		adamwAVX2(unsafe.SliceData(w), unsafe.SliceData(m), unsafe.SliceData(v), unsafe.SliceData(g), len(w), k)
	default:
		adamwGo(w, m, v, g, k)
	}
}

func vecMaxBits(x []float32) uint32 {
	switch isa.Active() {
	case isa.AVX512:
		return maxBitsAVX512(unsafe.SliceData(x), len(x))
	case isa.AVX2:
		return maxBitsAVX2(unsafe.SliceData(x), len(x))
	default:
		return maxBitsGo(x)
	}
}

func vecZigzagBits(v []int64) uint64 {
	if isa.Active() == isa.AVX512 {
		return zigzagBitsAVX512(unsafe.SliceData(v), len(v))
	}
	return zigzagBitsGo(v)
}

func vecPackHigh(low, high []byte, v []int64, h int) {
	if isa.Active() == isa.AVX512 {
		packHighAVX512(unsafe.SliceData(low), unsafe.SliceData(high), unsafe.SliceData(v), len(v), h, bytewise*(1<<h-1))
		return
	}
	packHighGo(low, high, v, h)
}

func vecUnpackHigh(dst []int64, low, high []byte, h int, add bool) uint64 {
	if isa.Active() != isa.AVX512 {
		return unpackHighGo(dst, low, high, h, add)
	}
	f := unpackHighAVX512
	if add {
		f = addHighAVX512
	}
	return f(unsafe.SliceData(dst), unsafe.SliceData(low), unsafe.SliceData(high), len(dst), h, bytewise*((1<<h-1)<<(8-h)), uint64(24+h))
}
