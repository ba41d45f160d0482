package cpu

import (
	"math"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
)

// explicitScratch holds the scores of all documents, and of each query its loss, a float64, and where its negatives begin.
func explicitScratch(c *engine.Call) int64 {
	return 4 * int64(c.In[0].Shape[0]-c.In[1].Shape[0]+3*c.In[1].Shape[0]+16)
}

// explicit returns the loss of ops.Explicit and, if de is not nil, sets de to grad times its gradient. A query shares no
// row with another, so queries are computed apart.
//
//	z = [p; N] q / d;  g = (softmax(z) - [1 0 ...]) grad / (Q d);  dq = [p; N]' g;  [dp; dN] = g q'
func (d *Device) explicit(c *engine.Call, de []float32, grad float32) float64 {
	e, counts, width := floats(c.In[0]), ints(c.In[1]), c.In[0].Shape[1]
	q, scratch := len(counts), floats(c.Scratch)
	losses := engine.View[uint64](engine.Bytes(scratch[:2*q]))
	starts := engine.View[int32](engine.Bytes(scratch[2*q : 3*q]))
	scores := scratch[3*q:][:c.In[0].Shape[0]-q]
	first := 2 * q
	for i, n := range counts {
		starts[i] = int32(first)
		first += int(n)
	}
	scale := float32(float64(grad) / (float64(q) * float64(width)))
	d.pool.For(q, func(i int) {
		row := func(x []float32, at, n int) []float32 { return x[at*width : (at+n)*width] }
		at, n := int(starts[i]), int(counts[i])
		query, positive, negatives := row(e, i, 1), row(e, q+i, 1), row(e, at, n)
		own := scores[i : i+1]
		z := scores[at-q:][:n]
		inverse := float32(1 / float64(width))
		gemm.Do(nil, false, true, 1, 1, width, inverse, query, width, positive, width, 0, own, 1)
		if n > 0 {
			gemm.Do(nil, false, true, 1, n, width, inverse, query, width, negatives, width, 0, z, n)
		}
		top := own[0]
		for _, v := range z {
			top = max(top, v)
		}
		p := math.Exp(float64(own[0]) - float64(top))
		sum := p
		for _, v := range z {
			sum += math.Exp(float64(v) - float64(top))
		}
		losses[i] = math.Float64bits(math.Log(sum) + float64(top) - float64(own[0]))
		if de == nil {
			return
		}
		for j, v := range z {
			z[j] = float32(math.Exp(float64(v)-float64(top)) / sum)
		}
		own[0] = float32(p/sum - 1)
		gemm.Do(nil, false, false, 1, width, 1, scale, own, 1, positive, width, 0, row(de, i, 1), width)
		gemm.Do(nil, false, false, 1, width, 1, scale, own, 1, query, width, 0, row(de, q+i, 1), width)
		if n > 0 {
			gemm.Do(nil, false, false, 1, width, n, scale, z, n, negatives, width, 1, row(de, i, 1), width)
			gemm.Do(nil, true, false, n, width, 1, scale, z, n, query, width, 0, row(de, at, n), width)
		}
	})
	loss := 0.0
	for _, l := range losses {
		loss += math.Float64frombits(l)
	}
	return loss / float64(q)
}
