//go:build !amd64

package simd

import "github.com/counterpoint-ml/counterpoint/trainer/philox"

func vecExp(dst, x []float32)                                     { expGo(dst, x) }
func vecSigmoid(dst, x []float32)                                 { sigmoidGo(dst, x) }
func vecSiLU(dst, x []float32)                                    { siluGo(dst, x) }
func vecAdd(dst, a, b []float32)                                  { addGo(dst, a, b) }
func vecAxpy(y, x []float32, alpha float32)                       { axpyGo(y, x, alpha) }
func vecScale(dst, x []float32, alpha float32)                    { scaleGo(dst, x, alpha) }
func vecDot(a, b []float32) float32                               { return dotGo(a, b) }
func vecDot3(a, b, c []float32) float32                           { return dot3Go(a, b, c) }
func vecMax(x []float32) float32                                  { return maxGo(x) }
func vecExpSum(dst, x []float32, scale, shift float32) float32    { return expSumGo(dst, x, scale, shift) }
func vecNorm(y, x, w []float32, rstd float32)                     { normGo(y, x, w, rstd) }
func vecNormGrad(dx, dy, w, x []float32, r, c float32)            { normGradGo(dx, dy, w, x, r, c) }
func vecMulAdd(dst, a, b []float32, c float32)                    { mulAddGo(dst, a, b, c) }
func vecSwiGLU(y, g, u []float32)                                 { swigluGo(y, g, u) }
func vecSwiGLUGrad(dg, du, dy, g, u []float32)                    { swigluGradGo(dg, du, dy, g, u) }
func vecRotate(y, x, cos, sin []float32, sign float32)            { rotateGo(y, x, cos, sin, sign) }
func vecDrop(y, x []float32, words []uint32, t uint32, s float32) { dropGo(y, x, words, t, s) }
func vecAdamW(w, m, v, g []float32, k *AdamWScalars)              { adamwGo(w, m, v, g, k) }
func vecMaxBits(x []float32) uint32                               { return maxBitsGo(x) }
func vecQuantise(sum []int64, g []float32, scale float64) uint32  { return quantiseGo(sum, g, scale) }
func vecDequantise(dst []float32, sum []int64, scale float64)     { dequantiseGo(dst, sum, scale) }
func vecZigzagBits(v []int64) uint64                              { return zigzagBitsGo(v) }
func vecPackHigh(low, high []byte, v []int64, h int)              { packHighGo(low, high, v, h) }
func vecSquares(lanes *[16]float64, x []float32)                  { squaresGo(lanes, x) }

func vecUnpackHigh(dst []int64, low, high []byte, h int, add bool) uint64 {
	return unpackHighGo(dst, low, high, h, add)
}

func vecNormGradAdd(dx, dy, w, x, residual []float32, r, c float32) {
	normGradAddGo(dx, dy, w, x, residual, r, c)
}

func multiply(m, n, k int, a []float32, ai, ak int, b []float32, ldb int, c []float32, ldc int, add bool) {
	multiplyGo(m, n, k, a, ai, ak, b, ldb, c, ldc, add)
}

func transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	transposeGo(dst, ldd, src, lds, rows, cols)
}

func softmaxTile(s []float32, ld, keys, cols int, top, sum, shrink *[tileSize]float32) {
	softmaxGo(s, ld, keys, cols, top, sum, shrink)
}

func gradTile(s, dp []float32, ld, keys, cols int, lse, delta *[tileSize]float32) {
	gradGo(s, dp, ld, keys, cols, lse, delta)
}

func maskTile(s []float32, ld, keys, cols, j0 int, lo, hi *[tileSize]int32) {
	maskGo(s, ld, keys, cols, j0, lo, hi)
}

func scaleRows(dst []float32, ldd int, src []float32, lds, rows, d int, factor []float32, step int) {
	scaleRowsGo(dst, ldd, src, lds, rows, d, factor, step)
}

func vecRandom([]uint32, *philox.Key, *philox.Counter) int { return 0 }
