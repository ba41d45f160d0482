package engine

import (
	"slices"

	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// near is how many instructions after its own a value is simply kept.
const near = 6

// cheap are the ops whose results are computed again rather than kept from the forward to the backward pass: one pass
// over memory that the backward pass is about to read anyway (Chen et al. 2016, section 3; a third of a LoRA
// layer's activations).
func cheap(s ops.Spec) bool {
	switch s.(type) {
	case ops.RMSNorm, ops.SwiGLU:
		return true
	}
	return false
}

// recompute inserts a second computation of cheap values before their first far use. Only of values whose inputs
// are alive then for other reasons, and are not computed again themselves.
func (c *compiler) recompute() {
	readers := map[*value][]int{}
	makers := map[*value]*instr{}
	for n, i := range c.prog.code {
		makers[i.out] = i
		for j, v := range i.in {
			if j != ops.ShapeOnly(i.spec) {
				readers[v.root()] = append(readers[v.root()], n)
			}
		}
		for _, v := range []*value{i.base, i.read} {
			if v != nil {
				readers[v.root()] = append(readers[v.root()], n)
			}
		}
	}
	before := map[int][]*instr{}
	for n, i := range c.prog.code {
		if !cheap(i.spec) || i.saved != nil || i.base != nil || i.out.output || i.out.into != nil {
			continue
		}
		uses := readers[i.out]
		far := slices.IndexFunc(uses, func(at int) bool { return at > n+near })
		if far < 0 || !c.alive(i, uses[far], readers, makers) {
			continue
		}
		again := *i
		again.out = &value{layout: i.out.layout, name: i.out.name + ".again", last: -1}
		again.stage = c.prog.code[uses[far]].stage
		before[uses[far]] = append(before[uses[far]], &again)
		for _, at := range uses[far:] {
			c.prog.code[at].replace(i.out, again.out)
		}
	}
	var code []*instr
	for n, i := range c.prog.code {
		code = append(append(code, before[n]...), i)
	}
	c.prog.code = code
}

// alive says whether all inputs of an instruction are read at or after a place, and none is a cheap value itself.
func (c *compiler) alive(i *instr, at int, readers map[*value][]int, makers map[*value]*instr) bool {
	for _, v := range i.in {
		if m := makers[v]; m != nil && cheap(m.spec) {
			return false
		}
		if v.leaf || v.into != nil {
			continue
		}
		r := readers[v.root()]
		if r[len(r)-1] < at {
			return false
		}
	}
	return true
}

func (i *instr) replace(old, v *value) {
	for j := range i.in {
		if i.in[j] == old {
			i.in[j] = v
		}
	}
	if i.base == old {
		i.base = v
	}
}
