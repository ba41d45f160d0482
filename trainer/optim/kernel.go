package optim

import (
	"math"
	"sync"

	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// scratch has buffers of one block, so that the gradient is never held as floats in full.
var scratch = sync.Pool{New: func() any { b := make([]float32, fixed.Block); return &b }}

// gradient returns the float32 values [lo, hi) of a total in a buffer from scratch.
func gradient(total *fixed.Sum, o fixed.Offsets, lo, hi int) *[]float32 {
	g := scratch.Get().(*[]float32)
	*g = (*g)[:hi-lo]
	total.FloatSpan(*g, o, lo)
	return g
}

// update is AdamW on one piece of a tensor:
//
//	g *= clip;  w *= keep;  m = b1 m + (1-b1) g;  v = b2 v + ((1-b2) g) g
//	w -= (size m) / (sqrt(v)/root + eps)
func update(w, m, v, g []float32, k Scalars) {
	m, v, g = m[:len(w)], v[:len(w)], g[:len(w)]
	for i := range w {
		x := float32(g[i] * k.Clip)
		m[i] = float32(k.Beta1*m[i]) + float32(k.Rest1*x)
		v[i] = float32(k.Beta2*v[i]) + float32(float32(k.Rest2*x)*x)
		d := float32(float32(math.Sqrt(float64(v[i])))/k.Root) + k.Epsilon
		w[i] = float32(w[i]*k.Keep) - float32(float32(k.Size*m[i])/d)
	}
}

// sumSquares adds squares in float64, where the square of a float32 is exact: value i goes to lane i mod 16, and
// the lanes are added as a binary tree.
func sumSquares(x []float32) float64 {
	var lane [16]float64
	for i, v := range x {
		lane[i&15] += float64(v) * float64(v)
	}
	return tree(lane[:])
}
