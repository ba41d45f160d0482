package simd

import "math"

// The functions of this file are exact: equal bits on every level. They take one block and run in the caller.

// MaxAbs returns max |x| and whether all values are finite; the maximum over a NaN or an infinity is meaningless.
func MaxAbs(x []float32) (top float32, finite bool) {
	bits := vecMaxBits(x)
	return math.Float32frombits(bits), bits < 0x7f800000
}

// Quantise adds scale * g[i], rounded to the nearest integer (ties to even), to sum[i], and returns max |g| and whether
// all of g is finite, in one pass. scale is a power of two, or minus one to subtract. The integers are right while
// |scale * g| < 2^51; the caller tests the maximum it gets.
func Quantise(sum []int64, g []float32, scale float64) (top float32, finite bool) {
	check("Quantise g", len(g), len(sum))
	bits := vecQuantise(sum, g[:len(sum)], scale)
	return math.Float32frombits(bits), bits < 0x7f800000
}

// Dequantise sets dst[i] = float32(float64(sum[i]) * scale): rounded once while |sum| <= 2^53 and scale is a power of two.
func Dequantise(dst []float32, sum []int64, scale float64) {
	check("Dequantise sum", len(sum), len(dst))
	vecDequantise(dst, sum[:len(dst)], scale)
}

// SumSquares returns the sum of squares in float64, where a square is exact: value i goes to lane i mod 16, and the
// lanes are added as a binary tree of neighbours.
func SumSquares(x []float32) float64 {
	var lanes [16]float64
	n := len(x) &^ 15
	vecSquares(&lanes, x[:n])
	for i, v := range x[n:] {
		lanes[i] += float64(v) * float64(v)
	}
	for width := 8; width > 0; width /= 2 {
		for i := range width {
			lanes[i] = lanes[2*i] + lanes[2*i+1]
		}
	}
	return lanes[0]
}
