package cpu

import (
	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
)

// linear8 is the kernel of y = x W' + b (+ base) with W in 8 bits; then more adds to y.
func (d *Device) linear8(q *gemm.Int8, bias func(c *engine.Call) []float32, more func(c *engine.Call)) *engine.Kernel {
	k := run(func(c *engine.Call) {
		y := floats(c.Out)
		t, k, n := c.In[0].Shape[0], c.In[0].Shape[1], c.Out.Shape[1]
		q.NT(d.pool, t, floats(c.In[0]), k, bias(c), base(d.pool, c, y) != 0, y, n, data(c.Scratch))
		more(c)
	})
	k.Adds = true
	k.Scratch = func(c *engine.Call) int64 { return q.Scratch(c.In[0].Shape[0]) }
	return k
}

// optional returns an input that is there if present.
func optional(present bool, c *engine.Call, i int) []float32 {
	if !present {
		return nil
	}
	return floats(c.In[i])
}

// int8Of returns the 8-bit form of a frozen matrix [n, k] on a device that computes with it, nil of another. Only the
// form is kept of a matrix that is a memory of its own.
func (d *Device) int8Of(t engine.Tensor) *gemm.Int8 {
	if !d.int8 || !t.Frozen || t.Mem == nil || t.Bytes() != t.Mem.Bytes() {
		return nil
	}
	m := t.Mem.(*memory)
	m.mu.Lock()
	q := m.bytes8
	m.mu.Unlock()
	if q != nil {
		return q
	}
	q = gemm.PackInt8(floats(t), t.Shape[0], t.Shape[1]) // outside of the lock: it may unpack
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bytes8 == nil {
		m.bytes8, m.whole, m.packed, m.halves = q, nil, nil, nil
		m.bytes.Store(nil)
	}
	return m.bytes8
}
