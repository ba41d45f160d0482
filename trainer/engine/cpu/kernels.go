package cpu

import (
	"math"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/simd"
	"github.com/counterpoint-ml/counterpoint/trainer/ops"
	"github.com/counterpoint-ml/counterpoint/trainer/philox"
)

// run makes a kernel of a function that cannot fail and needs nothing else.
func run(f func(c *engine.Call), inPlace ...int) *engine.Kernel {
	return &engine.Kernel{Run: func(c *engine.Call) error { f(c); return nil }, InPlace: inPlace}
}

// Kernel implements engine.Device.
func (d *Device) Kernel(spec ops.Spec, in []engine.Tensor, out engine.Tensor) (*engine.Kernel, error) {
	p := d.pool
	switch s := spec.(type) {
	case ops.Copy:
		return run(func(c *engine.Call) { simd.Copy(p, floats(c.Out), floats(c.In[0])) }), nil
	case ops.Add:
		return run(func(c *engine.Call) { simd.Add(p, floats(c.Out), floats(c.In[0]), floats(c.In[1])) }, 0, 1), nil
	case ops.Scale:
		return run(func(c *engine.Call) {
			simd.Scale(p, floats(c.Out), floats(c.In[1])[0], floats(c.In[0]))
		}, 0), nil
	case ops.Embed:
		return run(func(c *engine.Call) {
			d.gather(c.Out, c.In[1], ints(c.In[0]))
		}), nil
	case ops.EmbedGrad:
		k := run(func(c *engine.Call) {
			dst := floats(c.Out)
			setBase(p, c, dst)
			simd.ScatterAdd(p, dst, floats(c.In[1]), ints(c.In[0]), c.In[1].Shape[1])
		})
		k.Adds = true
		return k, nil
	case ops.Select:
		return run(func(c *engine.Call) {
			simd.Gather(p, floats(c.Out), floats(c.In[0]), ints(c.In[1]), c.In[0].Shape[1])
		}), nil
	case ops.SelectGrad:
		return run(func(c *engine.Call) {
			dst := floats(c.Out)
			clear(dst)
			simd.ScatterAdd(p, dst, floats(c.In[2]), ints(c.In[1]), c.In[2].Shape[1])
		}), nil
	case ops.SwiGLU:
		return run(func(c *engine.Call) { simd.SwiGLU(p, floats(c.Out), floats(c.In[0]), c.Out.Shape[1]) }), nil
	case ops.SwiGLUGrad:
		return run(func(c *engine.Call) {
			simd.SwiGLUBackward(p, floats(c.Out), floats(c.In[1]), floats(c.In[0]), c.In[1].Shape[1])
		}, 0), nil
	case ops.Pool:
		kind := poolings[s.Kind]
		return run(func(c *engine.Call) {
			simd.Pool(p, floats(c.Out), floats(c.In[0]), ints(c.In[1]), ints(c.In[2]), c.Out.Shape[1], kind)
		}), nil
	case ops.PoolGrad:
		kind := poolings[s.Kind]
		return run(func(c *engine.Call) {
			simd.PoolBackward(p, floats(c.Out), floats(c.In[3]), ints(c.In[1]), ints(c.In[2]), c.Out.Shape[1], kind)
		}), nil
	}
	if k := d.norm(spec); k != nil {
		return k, nil
	}
	if k := d.attention(spec); k != nil {
		return k, nil
	}
	if k := d.linear(spec, in); k != nil {
		return k, nil
	}
	if k := d.loss(spec); k != nil {
		return k, nil
	}
	return nil, engine.ErrUnsupported
}

var poolings = map[ops.Pooling]simd.Pooling{
	ops.Mean: simd.Mean, ops.WeightedMean: simd.WeightedMean, ops.LastToken: simd.LastToken, ops.FirstToken: simd.FirstToken,
}

// setBase fills dst with what the result is added to.
func setBase(p *pool.Pool, c *engine.Call, dst []float32) {
	switch {
	case c.Base.Mem == nil:
		simd.Clear(p, dst)
	case c.Base.Mem != c.Out.Mem || c.Base.Offset != c.Out.Offset:
		simd.Copy(p, dst, floats(c.Base))
	}
}

func (d *Device) norm(spec ops.Spec) *engine.Kernel {
	p := d.pool
	switch s := spec.(type) {
	case ops.RMSNorm:
		return run(func(c *engine.Call) {
			simd.RMSNorm(p, floats(c.Out), floats(c.In[0]), floats(c.In[1]), nil, s.Eps)
		}, 0)
	case ops.RMSNormGradX:
		k := run(func(c *engine.Call) {
			var dw, base []float32
			if s.Both {
				dw = floats(c.Saved)
				clear(dw)
			}
			if c.Base.Mem != nil {
				base = floats(c.Base)
			}
			simd.RMSNormBackward(p, floats(c.Out), dw, floats(c.In[2]), floats(c.In[0]), floats(c.In[1]), nil, base, s.Eps)
		}, 2)
		k.Adds = true
		return k
	case ops.HeadNorm:
		h := simd.Heads{Query: s.Heads, KV: s.KV, Dim: s.HeadDim}
		return run(func(c *engine.Call) {
			simd.HeadRMSNorm(p, floats(c.Out), floats(c.In[0]), floats(c.In[1]), floats(c.In[2]), h, s.Eps)
		}, 0)
	case ops.HeadNormGradX:
		h := simd.Heads{Query: s.Heads, KV: s.KV, Dim: s.HeadDim}
		return run(func(c *engine.Call) {
			var dwq, dwk []float32
			if !s.Frozen {
				saved := floats(c.Saved)
				clear(saved)
				dwq, dwk = saved[:s.HeadDim], saved[s.KeyOffset():]
			}
			simd.HeadRMSNormBackward(p, floats(c.Out), dwq, dwk, floats(c.In[3]), floats(c.In[0]), floats(c.In[1]), floats(c.In[2]), h, s.Eps)
		}, 3)
	case ops.Normalize:
		return run(func(c *engine.Call) { simd.Normalize(p, floats(c.Out), floats(c.In[0]), nil, c.Out.Shape[1]) }, 0)
	case ops.NormalizeGrad:
		k := run(func(c *engine.Call) {
			rows, n := c.Out.Shape[0], c.Out.Shape[0]*c.Out.Shape[1]
			scratch := floats(c.Scratch)
			y, norms := scratch[:n], scratch[n:][:rows]
			simd.Normalize(p, y, floats(c.In[0]), norms, c.Out.Shape[1])
			simd.NormalizeBackward(p, floats(c.Out), floats(c.In[1]), y, norms, c.Out.Shape[1])
		}, 1)
		k.Scratch = func(c *engine.Call) int64 { return c.Out.Bytes() + 4*int64(c.Out.Shape[0]) }
		return k
	}
	return nil
}

func (d *Device) attention(spec ops.Spec) *engine.Kernel {
	p := d.pool
	scale := func(dim int) float32 { return float32(1 / math.Sqrt(float64(dim))) }
	switch s := spec.(type) {
	case ops.Rotary:
		r := d.rotaryOf(s.Frequencies)
		return run(func(c *engine.Call) {
			turn := r.Apply
			if s.Inverse {
				turn = r.Backward
			}
			turn(p, floats(c.Out), floats(c.In[0]), ints(c.In[1]), simd.Heads{Query: s.Heads, KV: s.KV, Dim: s.HeadDim})
		}, 0)
	case ops.Attention:
		h, mask := simd.Heads{Query: s.Heads, KV: s.KV, Dim: s.HeadDim}, maskOf(s.Mask)
		return run(func(c *engine.Call) {
			simd.Attention(p, floats(c.Out), floats(c.Saved), floats(c.In[0]), ints(c.In[1]), h, mask(c), scale(s.HeadDim))
		})
	case ops.AttentionGrad:
		h, mask := simd.Heads{Query: s.Heads, KV: s.KV, Dim: s.HeadDim}, maskOf(s.Mask)
		return run(func(c *engine.Call) {
			out, dout := c.In[len(c.In)-2], c.In[len(c.In)-1]
			simd.AttentionBackward(p, floats(c.Out), floats(c.In[0]), floats(out), floats(c.Read), floats(dout), ints(c.In[1]),
				h, mask(c), scale(s.HeadDim))
		})
	}
	return nil
}

// maskOf returns the mask of a call, whose third input is the step of one that anneals.
func maskOf(m ops.Mask) func(c *engine.Call) simd.Mask {
	fixed := simd.Mask{Causal: m.Causal, Window: m.Window}
	if m.Anneal.Steps == 0 {
		return func(*engine.Call) simd.Mask { return fixed }
	}
	key := philox.NewKey(m.Anneal.Seed, ops.AnnealSite)
	return func(c *engine.Call) simd.Mask {
		step := uint32(ints(c.In[2])[0])
		open := m.Anneal.Open(int64(step))
		if open == 256 {
			return simd.Mask{}
		}
		annealed := fixed
		annealed.Open, annealed.Key, annealed.Step = open, key, step
		return annealed
	}
}
