package engine

import "github.com/counterpoint-ml/counterpoint/trainer/ops"

// adders are the ops whose kernels may add to a base (Kernel.Adds). A device that cannot refuses the graph by
// ErrUnsupported at Compile, so what is fused does not depend on the device.
func adder(s ops.Spec) bool {
	switch s.(type) {
	case ops.Linear, ops.LinearGradX, ops.Up, ops.DownGradX, ops.RMSNormGradX, ops.EmbedGrad:
		return true
	}
	return false
}

// fuse removes a sum a + b where b, computed after a and read by nobody else, can be added to a by its own kernel.
func (c *compiler) fuse() {
	at := map[*value]int{}
	for i, ins := range c.prog.code {
		at[ins.out] = i
		if ins.saved != nil {
			at[ins.saved] = i
		}
	}
	position := func(v *value) int {
		if v.leaf {
			return -1
		}
		return at[v.root()]
	}
	gone := map[*instr]bool{}
	for _, add := range c.prog.code {
		if _, ok := add.spec.(ops.Add); !ok {
			continue
		}
		a, b := add.in[0], add.in[1]
		if position(a) > position(b) {
			a, b = b, a
		}
		if a == b || b.leaf || b.of != nil || b.uses != 1 || b.output || b.into != nil {
			continue
		}
		i := c.prog.code[position(b)]
		if i.out != b || i.base != nil || i.stage != add.stage || !adder(i.spec) {
			continue
		}
		i.base, i.out = a, add.out
		at[add.out] = position(b)
		gone[add] = true
	}
	code := c.prog.code[:0]
	for _, i := range c.prog.code {
		if !gone[i] {
			code = append(code, i)
		}
	}
	c.prog.code = code
}
