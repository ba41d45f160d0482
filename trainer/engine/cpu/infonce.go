package cpu

import (
	"math"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/simd"
	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// contrastRows is the number of anchors whose scores are held at once: memory is contrastRows x documents, not
// queries x documents. It is part of the numerics: the order in which documents gather their gradient follows it.
const contrastRows = 128

// contrastScratch holds, for one block of anchors: scores, targets and weights.
func contrastScratch(c *engine.Call) int64 {
	return 4 * contrastRows * (int64(max(c.In[1].Shape[0], 1)) + 2)
}

// infoNCE returns the loss and, if de is not nil, sets de to grad times its gradient.
func (d *Device) infoNCE(c *engine.Call, s ops.InfoNCE, de []float32, grad float32) float64 {
	e, ids, width := floats(c.In[0]), ints(c.In[1]), c.In[0].Shape[1]
	q := c.In[0].Shape[0] - len(ids)
	clear(de)
	b := contrast{d: d, s: s, ids: ids, width: width, q: q, scratch: floats(c.Scratch), grad: grad}
	queries, documents := side{x: e[:q*width]}, side{x: e[q*width:]}
	if de != nil {
		queries.dx, documents.dx = de[:q*width], de[q*width:]
	}
	if !s.Symmetric {
		return b.run(queries, documents, len(ids), 1)
	}
	positives := side{x: documents.x[:q*width]}
	if de != nil {
		positives.dx = documents.dx[:q*width]
	}
	return b.run(queries, documents, len(ids), 0.5) + b.run(positives, queries, q, 0.5)
}

// side is rows and where their gradient is added, if anywhere.
type side struct{ x, dx []float32 }

type contrast struct {
	d        *Device
	s        ops.InfoNCE
	ids      []int32
	width, q int
	scratch  []float32
	grad     float32
}

// run contrasts the q anchors A with n candidates C, of which candidate i is the right one of anchor i, block of
// anchors by block; it adds the gradients and returns weight times the loss:
//
//	S = A C^T / tau;  G = softmax(S) - I;  dA = k G C;  dC += k G^T A;  k = grad weight / (q tau)
func (b *contrast) run(anchor, candidate side, n int, weight float64) (loss float64) {
	p, d := b.d.pool, b.width
	scale := float32(float64(b.grad) * weight / (float64(b.q) * b.s.Temperature))
	for lo := 0; lo < b.q; lo += contrastRows {
		m := min(contrastRows, b.q-lo)
		scores, rest := b.scratch[:m*n], b.scratch[contrastRows*n:]
		targets, ones := engine.View[int32](engine.Bytes(rest[:m])), rest[contrastRows:][:m]
		for i := range m {
			targets[i], ones[i] = int32(lo+i), 1
		}
		a := anchor.x[lo*d : (lo+m)*d]
		gemm.Do(p, false, true, m, n, d, float32(1/b.s.Temperature), a, d, candidate.x, d, 0, scores, n)
		b.mask(scores, lo, m, n)
		loss += simd.CrossEntropy(p, scores, targets, ones, n)
		if anchor.dx != nil {
			gemm.Do(p, false, false, m, d, n, scale, scores, n, candidate.x, d, 1, anchor.dx[lo*d:(lo+m)*d], d)
			gemm.Do(p, true, false, n, d, m, scale, scores, n, a, d, 1, candidate.dx, d)
		}
	}
	return weight * loss / float64(b.q)
}

// mask takes the right document's other appearances, and what is too similar to be a negative, out of the scores [m, n] of
// anchors lo .. lo+m-1.
func (b *contrast) mask(scores []float32, lo, m, n int) {
	margin := b.s.Margin
	if !b.s.Masked && !margin.On {
		return
	}
	b.d.pool.For(m, func(i int) {
		row, right := scores[i*n:(i+1)*n], lo+i
		bound := float32(math.Inf(1))
		switch own := row[right]; {
		case margin.On && margin.Relative:
			bound = own + float32(float32(margin.Value)*float32(math.Abs(float64(own))))
		case margin.On:
			bound = own + float32(margin.Value/b.s.Temperature)
		}
		for j := range row {
			if j != right && (b.s.Masked && b.ids[j] == b.ids[right] || row[j] > bound) {
				row[j] = float32(math.Inf(-1))
			}
		}
	})
}
