package cpu

import (
	"math/bits"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/simd"
	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// loss returns the kernels of the losses.
func (d *Device) loss(spec ops.Spec) *engine.Kernel {
	p := d.pool
	switch s := spec.(type) {
	case ops.Surrogate:
		return run(func(c *engine.Call) {
			e, g := floats(c.In[0]), floats(c.In[1])
			sum := 0.0
			for i := range e {
				sum += float64(e[i]) * float64(g[i])
			}
			floats(c.Out)[0] = float32(sum)
		})
	case ops.CrossEntropy:
		return run(func(c *engine.Call) {
			floats(c.Out)[0] = float32(simd.LinearCrossEntropy(p, nil, nil, floats(c.In[0]), floats(c.In[1]), ints(c.In[2]),
				floats(c.In[3]), c.In[0].Shape[1]))
		})
	case ops.CrossEntropyGrad:
		return run(func(c *engine.Call) {
			saved := floats(c.Saved)
			var dw []float32
			if s.Both {
				dw = saved[ops.LossPad:]
				clear(dw)
			}
			dh := floats(c.Out)
			saved[0] = float32(simd.LinearCrossEntropy(p, dh, dw, floats(c.In[0]), floats(c.In[1]), ints(c.In[2]),
				floats(c.In[3]), c.In[0].Shape[1]))
			if g := floats(c.In[4])[0]; g != 1 {
				simd.Scale(p, dh, g, dh)
				simd.Scale(p, dw, g, dw)
			}
		})
	case ops.TokenLosses:
		k := run(func(c *engine.Call) {
			h, w, targets, out := floats(c.In[0]), floats(c.In[1]), ints(c.In[2]), floats(c.Out)
			width, v := c.In[0].Shape[1], c.In[1].Shape[0]
			rows := tokenRows(v)
			for lo := 0; lo < len(out); lo += rows {
				n := min(rows, len(out)-lo)
				logits := floats(c.Scratch)[:n*v]
				gemm.Do(p, false, true, n, v, width, 1, h[lo*width:], width, w, width, 0, logits, v)
				simd.LogSumExp(p, out[lo:lo+n], logits, v, 1, nil)
				for i := range n {
					out[lo+i] -= logits[i*v+int(targets[lo+i])]
				}
			}
		})
		k.Scratch = func(c *engine.Call) int64 {
			v := c.In[1].Shape[0]
			return 4 * int64(min(tokenRows(v), c.Out.Shape[0])) * int64(v)
		}
		return k
	case ops.InfoNCE:
		k := run(func(c *engine.Call) {
			floats(c.Out)[0] = float32(d.infoNCE(c, s, nil, 1))
		})
		k.Scratch = contrastScratch
		return k
	case ops.InfoNCEGrad:
		k := run(func(c *engine.Call) {
			d.infoNCE(c, ops.InfoNCE(s), floats(c.Out), floats(c.In[2])[0])
		})
		k.Scratch = contrastScratch
		return k
	}
	return nil
}

// tokenRows is how many rows of logits TokenLosses holds: about 16 MiB of them.
func tokenRows(v int) int { return max(1, min(1024, 4<<20/max(v, 1))) }

// contrastRows is how many rows of scores InfoNCE holds. It is part of the numerics: sums are by blocks.
const contrastRows = 64

// contrastScratch holds, for one block of rows: scores, log-sum-exp, targets, weights and masks.
func contrastScratch(c *engine.Call) int64 {
	n := int64(max(c.In[1].Shape[0], 1))
	return contrastRows * (4*n + 4 + 4 + 4 + 8*((n+63)/64))
}

// infoNCE returns the loss and, if de is not nil, sets de to grad times its gradient.
func (d *Device) infoNCE(c *engine.Call, s ops.InfoNCE, de []float32, grad float32) float64 {
	e, ids, width := floats(c.In[0]), ints(c.In[1]), c.In[0].Shape[1]
	q := c.In[0].Shape[0] - len(ids)
	split := func(m []float32) (queries, documents []float32) {
		if m == nil {
			return nil, nil
		}
		return m[:q*width], m[q*width:]
	}
	queries, documents := split(e)
	dq, dd := split(de)
	clear(de)
	weight := grad / float32(q)
	half := 1.0
	if s.Symmetric {
		weight, half = weight/2, 0.5
	}
	b := contrast{d: d, c: c, s: s, ids: ids, width: width, weight: weight}
	loss := b.side(queries, documents, dq, dd, q, len(ids))
	if s.Symmetric {
		if dd != nil {
			dd = dd[:q*width]
		}
		loss += b.side(documents[:q*width], queries, dd, dq, q, q)
	}
	return half * loss / float64(q)
}

type contrast struct {
	d      *Device
	c      *engine.Call
	s      ops.InfoNCE
	ids    []int32
	width  int
	weight float32
}

// side returns sum over rows i of log sum_j exp(s_ij) - s_ii for rows x [m, width] against y [n, width], and adds
// weight times its gradient to dx and dy.
func (b *contrast) side(x, y, dx, dy []float32, m, n int) float64 {
	p, tau, scratch := b.d.pool, 1/b.s.Temperature, floats(b.c.Scratch)
	words := simd.MaskWords(n)
	loss := 0.0
	for lo := 0; lo < m; lo += contrastRows {
		rows := min(contrastRows, m-lo)
		mask64, rest := engine.View[uint64](engine.Bytes(scratch[:2*contrastRows*words])), scratch[2*contrastRows*words:]
		scores, rest := rest[:rows*n], rest[contrastRows*n:]
		lse, weights := rest[:rows], rest[contrastRows:][:rows]
		targets := engine.View[int32](engine.Bytes(rest[2*contrastRows:][:rows]))
		mask := b.mask(mask64[:rows*words], lo, rows, n, words)
		gemm.Do(p, false, true, rows, n, b.width, 1, x[lo*b.width:], b.width, y, b.width, 0, scores, n)
		simd.LogSumExp(p, lse, scores, n, tau, mask)
		for i := range rows {
			targets[i], weights[i] = int32(lo+i), b.weight
			loss += float64(lse[i]) - float64(tau)*float64(scores[i*n+lo+i])
		}
		if dx == nil {
			continue
		}
		simd.SoftmaxGradient(p, scores, scores, lse, targets, weights, n, tau, mask)
		gemm.Do(p, false, false, rows, b.width, n, tau, scores, n, y, b.width, 1, dx[lo*b.width:], b.width)
		gemm.Do(p, true, false, n, b.width, rows, tau, scores, n, x[lo*b.width:], b.width, 1, dy, b.width)
	}
	return loss
}

// mask sets the bits of the columns j != i whose document is that of row i.
func (b *contrast) mask(mask []uint64, lo, rows, n, words int) []uint64 {
	if !b.s.Masked {
		return nil
	}
	clear(mask)
	any := 0
	for i := range rows {
		row := mask[i*words : (i+1)*words]
		for j := range n {
			if j != lo+i && b.ids[j] == b.ids[lo+i] {
				row[j/64] |= 1 << (j % 64)
			}
		}
		for _, w := range row {
			any += bits.OnesCount64(w)
		}
	}
	if any == 0 {
		return nil
	}
	return mask
}
