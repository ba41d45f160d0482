package optim

import (
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
