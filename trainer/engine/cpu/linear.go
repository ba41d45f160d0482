package cpu

import (
	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/simd"
	"github.com/counterpoint-ml/counterpoint/trainer/ops"
	"github.com/counterpoint-ml/counterpoint/trainer/philox"
)

// linear returns the kernels of matrix products.
func (d *Device) linear(spec ops.Spec, in []engine.Tensor) *engine.Kernel {
	p := d.pool
	switch s := spec.(type) {
	case ops.Linear:
		if q := d.int8Of(in[1]); q != nil {
			return d.linear8(q, func(c *engine.Call) []float32 { return optional(s.Bias, c, 2) }, func(*engine.Call) {})
		}
		w := packedOf(in[1])
		k := run(func(c *engine.Call) {
			var bias []float32
			if s.Bias {
				bias = floats(c.In[2])
			}
			d.forward(c, w, bias)
		})
		k.Adds = true
		return k
	case ops.Up:
		if q := d.int8Of(in[1]); q != nil {
			return d.linear8(q, func(c *engine.Call) []float32 { return optional(s.Bias, c, 4) }, func(c *engine.Call) { d.up(c, s.Parts) })
		}
		w := packedOf(in[1])
		lows, fits := lowsOf(s.Parts)
		k := run(func(c *engine.Call) {
			var bias []float32
			if s.Bias {
				bias = floats(c.In[4])
			} else if w != nil && fits && c.Out.Shape[0] > 0 {
				d.forwardLow(c, w, lows)
				return
			}
			d.forward(c, w, bias)
			d.up(c, s.Parts)
		})
		k.Adds = true
		return k
	case ops.LinearGradX:
		if d.int8 {
			return nil // gradients are not taken of rounded weights
		}
		w := packedOf(in[1])
		k := run(func(c *engine.Call) {
			dx, dy := floats(c.Out), floats(c.In[0])
			t, n, width := c.Out.Shape[0], c.In[1].Shape[0], c.Out.Shape[1]
			beta := base(p, c, dx)
			if w != nil {
				w.NN(p, t, dy, n, beta, dx, width)
				return
			}
			gemm.Do(p, false, false, t, width, n, 1, dy, n, floats(c.In[1]), width, beta, dx, width)
		})
		k.Adds = true
		return k
	case ops.LinearGradW:
		return run(func(c *engine.Call) {
			n, k := c.Out.Shape[0], c.Out.Shape[1]
			gemm.Do(p, true, false, n, k, c.In[0].Shape[0], 1, floats(c.In[0]), n, floats(c.In[1]), k, 0, floats(c.Out), k)
		})
	case ops.SumRows:
		return run(func(c *engine.Call) { simd.ColumnSums(p, floats(c.Out), floats(c.In[0]), false) })
	case ops.UpGradH:
		return run(func(c *engine.Call) {
			dy, b, dh := floats(c.In[0]), floats(c.In[1]), floats(c.Out)
			t, n, width := c.In[0].Shape[0], c.In[0].Shape[1], c.Out.Shape[1]
			for _, part := range s.Parts {
				r := part.Rank
				gemm.Do(p, false, false, t, r, part.Width, part.Scale, dy[part.Offset:], n, b, r, 0, dh, width)
				dh, b = dh[r:], b[part.Width*r:]
			}
		})
	case ops.UpGradB:
		return run(func(c *engine.Call) {
			dy, h, db := floats(c.In[0]), floats(c.In[1]), floats(c.Out)
			t, n, width := c.In[0].Shape[0], c.In[0].Shape[1], c.In[1].Shape[1]
			for _, part := range s.Parts {
				r := part.Rank
				gemm.Do(p, true, false, part.Width, r, t, part.Scale, dy[part.Offset:], n, h, width, 0, db, r)
				h, db = h[r:], db[part.Width*r:]
			}
		})
	}
	return d.down(spec)
}

// base prepares the output of a product that may add, and returns its beta.
func base(p *pool.Pool, c *engine.Call, out []float32) float32 {
	if c.Base.Mem == nil {
		return 0
	}
	setBase(p, c, out)
	return 1
}

// forward sets y = x W' + b (+ base).
func (d *Device) forward(c *engine.Call, w *gemm.Packed, bias []float32) {
	x, y := floats(c.In[0]), floats(c.Out)
	t, k, n := c.In[0].Shape[0], c.In[0].Shape[1], c.Out.Shape[1]
	beta := base(d.pool, c, y)
	if w != nil {
		w.NT(d.pool, t, x, k, beta, y, n)
	} else {
		gemm.Do(d.pool, false, true, t, n, k, 1, x, k, floats(c.In[1]), k, beta, y, n)
	}
	if bias != nil {
		simd.AddBias(d.pool, y, y, bias)
	}
}

// lowsOf returns the adapters as the matrix product takes them, but for h and B, and whether it takes them all.
func lowsOf(parts ops.Parts) (lows []gemm.Low, fits bool) {
	for _, part := range parts {
		lows = append(lows, gemm.Low{Offset: part.Offset, Width: part.Width, Rank: part.Rank, Alpha: part.Scale})
		if part.Rank > gemm.MaxRank {
			return nil, false
		}
	}
	return lows, true
}

// forwardLow sets y = x W' (+ base), plus h_i B_i' on the columns of part i, in one pass over y.
func (d *Device) forwardLow(c *engine.Call, w *gemm.Packed, lows []gemm.Low) {
	x, h, b, y := floats(c.In[0]), floats(c.In[2]), floats(c.In[3]), floats(c.Out)
	for i := range lows {
		l := &lows[i]
		l.H, l.LDH, l.B = h, c.In[2].Shape[1], b
		h, b = h[l.Rank:], b[l.Width*l.Rank:]
	}
	w.NTLow(d.pool, c.In[0].Shape[0], x, c.In[0].Shape[1], base(d.pool, c, y), y, c.Out.Shape[1], lows)
}

// up adds Scale_i h_i B_i' to the columns of part i.
func (d *Device) up(c *engine.Call, parts ops.Parts) {
	h, b, y := floats(c.In[2]), floats(c.In[3]), floats(c.Out)
	t, n, width := c.Out.Shape[0], c.Out.Shape[1], c.In[2].Shape[1]
	for _, part := range parts {
		r := part.Rank
		gemm.Do(d.pool, false, true, t, part.Width, r, part.Scale, h, width, b, r, 1, y[part.Offset:], n)
		h, b = h[r:], b[part.Width*r:]
	}
}

// down returns the kernels of an adapter's first half.
func (d *Device) down(spec ops.Spec) *engine.Kernel {
	p := d.pool
	var k *engine.Kernel
	switch s := spec.(type) {
	case ops.Down:
		drop := d.dropout(s.Dropout)
		k = run(func(c *engine.Call) {
			t, width, r := c.In[0].Shape[0], c.In[0].Shape[1], c.Out.Shape[1]
			x := drop(c, floats(c.In[0]), width)
			gemm.Do(p, false, true, t, r, width, s.Scale, x, width, floats(c.In[1]), width, 0, floats(c.Out), r)
		})
		if s.Dropout.Rate > 0 {
			k.Scratch = func(c *engine.Call) int64 { return c.In[0].Bytes() }
		}
	case ops.DownGradA:
		drop := d.dropout(s.Dropout)
		k = run(func(c *engine.Call) {
			t, width, r := c.In[1].Shape[0], c.In[1].Shape[1], c.Out.Shape[0]
			x := drop(c, floats(c.In[1]), width)
			gemm.Do(p, true, false, r, width, t, s.Scale, floats(c.In[0]), r, x, width, 0, floats(c.Out), width)
		})
		if s.Dropout.Rate > 0 {
			k.Scratch = func(c *engine.Call) int64 { return c.In[1].Bytes() }
		}
	case ops.DownGradX:
		if s.Dropout.Rate == 0 {
			k = run(func(c *engine.Call) {
				t, width, r := c.Out.Shape[0], c.Out.Shape[1], c.In[0].Shape[1]
				dx := floats(c.Out)
				gemm.Do(p, false, false, t, width, r, s.Scale, floats(c.In[0]), r, floats(c.In[1]), width, base(p, c, dx), dx, width)
			})
		} else {
			drop := d.dropout(s.Dropout)
			k = run(func(c *engine.Call) {
				t, width, r := c.Out.Shape[0], c.Out.Shape[1], c.In[0].Shape[1]
				dx := floats(c.Scratch)[:t*width]
				gemm.Do(p, false, false, t, width, r, s.Scale, floats(c.In[0]), r, floats(c.In[1]), width, 0, dx, width)
				drop(c, dx, width)
				if c.Base.Mem != nil {
					simd.Add(p, floats(c.Out), floats(c.Base), dx)
				} else {
					simd.Copy(p, floats(c.Out), dx)
				}
			})
			k.Scratch = func(c *engine.Call) int64 { return c.Out.Bytes() }
		}
		k.Adds = true
	}
	return k
}

// dropout returns the function that drops x into the call's scratch (x may be the scratch) and returns it; of rate
// 0 the function that returns x. Inputs 2, 3 and 4 of the call are texts, cu and step.
func (d *Device) dropout(s ops.Dropout) func(c *engine.Call, x []float32, width int) []float32 {
	if s.Rate == 0 {
		return func(_ *engine.Call, x []float32, _ int) []float32 { return x }
	}
	key := philox.NewKey(s.Seed, s.Site)
	return func(c *engine.Call, x []float32, width int) []float32 {
		y := floats(c.Scratch)[:len(x)]
		simd.Dropout(d.pool, y, x, ints(c.In[3]), identities(c.In[2]), width, key, uint32(ints(c.In[4])[0]), s.Rate)
		return y
	}
}
