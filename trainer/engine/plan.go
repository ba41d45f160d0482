package engine

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// plan finds lifetimes, lets results take the place of values that die, and places everything in one arena:
// inputs and constants, then values, then the kernels' scratch.
func (c *compiler) plan() error {
	p := c.prog
	c.lifetimes()
	var blocks []*block
	for _, v := range p.leaves {
		v.block = &block{size: roundUp(sizeOf(v.layout, p.largest)), first: -1, last: len(p.code)}
		blocks = append(blocks, v.block)
	}
	for n, i := range p.code {
		b, err := c.home(n, i)
		if err != nil {
			return err
		}
		if b != nil {
			blocks = append(blocks, b)
		}
	}
	p.arena = place(blocks)
	p.scratchAt = p.arena
	for _, i := range p.code {
		if i.kernel.Scratch != nil {
			call := i.call(p.largest)
			p.scratch = max(p.scratch, roundUp(i.kernel.Scratch(&call)))
		}
	}
	p.arena += p.scratch
	p.stages = make([]int, len(p.outputs)+1)
	for n, i := range p.code {
		p.stages[i.stage+1] = n + 1
	}
	for s := 1; s < len(p.stages); s++ {
		p.stages[s] = max(p.stages[s], p.stages[s-1])
	}
	return nil
}

func (c *compiler) lifetimes() {
	p := c.prog
	ends := make([]int, len(p.outputs))
	for n, i := range p.code {
		i.out.def = n
		if i.saved != nil {
			i.saved.def = n
		}
		for j, v := range i.in {
			if j != ops.ShapeOnly(i.spec) {
				v.root().last = n
			}
		}
		if i.base != nil {
			i.base.root().last = n
		}
		if i.read != nil {
			i.read.last = n
		}
		ends[i.stage] = n
	}
	for s, outs := range p.outputs {
		for _, v := range outs {
			r := v.root()
			r.last = max(r.last, ends[s])
		}
	}
}

// home gives the result of instruction n a block: that of an input which dies there, or a new one, or none.
func (c *compiler) home(n int, i *instr) (*block, error) {
	size, last := int64(0), i.out.last
	if i.out.into == nil {
		size = roundUp(sizeOf(i.out.layout, c.o.Largest))
	}
	if s := i.saved; s != nil && s.into == nil {
		s.delta = size
		size += roundUp(sizeOf(s.layout, c.o.Largest))
		last = max(last, s.last)
	}
	last = max(last, n)
	if size == 0 {
		return nil, nil
	}
	if i.out.into == nil && i.saved == nil {
		for _, v := range c.candidates(i) {
			if v.of == nil && v.block != nil && !v.leaf && v.delta == 0 && v.block.last == n && v.block.size >= size {
				v.block.last = last
				i.out.block = v.block
				return nil, nil
			}
		}
	}
	b := &block{size: size, first: n, last: last}
	if i.out.into == nil {
		i.out.block = b
	}
	if i.saved != nil && i.saved.into == nil {
		i.saved.block = b
	}
	if i.kernel.Run == nil {
		return nil, fmt.Errorf("engine: device %s: kernel of %s has no Run", c.dev.Name(), ops.Name(i.spec))
	}
	return b, nil
}

// candidates are the inputs whose place the result may take.
func (c *compiler) candidates(i *instr) []*value {
	if i.base != nil {
		for _, v := range i.in {
			if v == i.base {
				return nil // the kernel still reads it
			}
		}
		return []*value{i.base}
	}
	var list []*value
	for _, j := range i.kernel.InPlace {
		v := i.in[j]
		shared := 0
		for _, o := range i.in {
			if o.block != nil && o.block == v.block {
				shared++
			}
		}
		if shared == 1 || (shared == 2 && len(i.in) == 2 && i.in[0] == i.in[1]) {
			list = append(list, v)
		}
	}
	return list
}

// call describes the instruction for some extents, without places.
func (i *instr) call(e Extents) Call {
	c := Call{In: make([]Tensor, len(i.in)), Out: i.out.largest(e)}
	for j, v := range i.in {
		c.In[j] = v.largest(e)
	}
	return c
}

func shapesOf(in []*value, e Extents) []tensor.Shape {
	shapes := make([]tensor.Shape, len(in))
	for i, v := range in {
		t := v.tensor(e)
		shapes[i] = tensor.Shape(append([]int(nil), t.Shape[:t.Rank]...))
	}
	return shapes
}
