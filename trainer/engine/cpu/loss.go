package cpu

import (
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
				simd.LogSumExp(p, out[lo:lo+n], logits, v)
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
			floats(c.Saved)[0] = float32(d.infoNCE(c, ops.InfoNCE(s), floats(c.Out), floats(c.In[2])[0]))
		})
		k.Scratch = contrastScratch
		return k
	case ops.Explicit:
		k := run(func(c *engine.Call) { floats(c.Out)[0] = float32(d.explicit(c, nil, 1)) })
		k.Scratch = explicitScratch
		return k
	case ops.ExplicitGrad:
		k := run(func(c *engine.Call) { floats(c.Saved)[0] = float32(d.explicit(c, floats(c.Out), floats(c.In[2])[0])) })
		k.Scratch = explicitScratch
		return k
	}
	return nil
}

// tokenRows is how many rows of logits TokenLosses holds: about 16 MiB of them.
func tokenRows(v int) int { return max(1, min(1024, 4<<20/max(v, 1))) }
