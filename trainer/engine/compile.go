package engine

import (
	"fmt"
	"slices"

	"gorgonia.org/gorgonia"

	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// Output is a value that a stage must produce. If Into is set, the value is computed in that place (the model's
// gradient, say) and not in the arena. Otherwise it can be read until the next stage begins.
type Output struct {
	Node *gorgonia.Node
	Into *Tensor
}

// Options say what to compile.
type Options struct {
	Largest Extents           // frames take batches up to this size
	Weights map[string]Tensor // leaves that live outside of the program, by name; the other leaves are its inputs
	Stages  [][]Output        // stage i computes what its outputs need and earlier stages have not computed
	Fuse    bool              // add where a kernel can, instead of in an op of its own; may change the last bits
}

// value is the result of a node, or a leaf.
type value struct {
	layout
	name     string
	def      int       // instruction that computes it; -1 for leaves
	last     int       // last instruction that reads it
	uses     int       // reading instructions and outputs
	into     *Tensor   // outside of the arena
	constant []float32 // of a constant
	leaf     bool
	of       *value // the second result that this value is a part of
	at       int64  // where in it, in bytes
	output   bool
	block    *block
	delta    int64 // place within the block
}

// instr is one call of a kernel.
type instr struct {
	spec   ops.Spec
	kernel *Kernel
	in     []*value
	out    *value
	base   *value // added to the result
	read   *value // its second result is read
	saved  *value // the second result, or nil
	stage  int
}

type compiler struct {
	dev    Device
	g      *gorgonia.ExprGraph
	o      Options
	stage  map[*gorgonia.Node]int
	values map[*gorgonia.Node]*value
	saver  map[*value]*instr // who computes a value, for second results
	prog   *Program
}

// Compile plans a program for a device.
func Compile(dev Device, g *gorgonia.ExprGraph, o Options) (*Program, error) {
	c := &compiler{
		dev: dev, g: g, o: o,
		stage:  map[*gorgonia.Node]int{},
		values: map[*gorgonia.Node]*value{},
		saver:  map[*value]*instr{},
		prog:   &Program{dev: dev, largest: o.Largest, inputs: map[string]*value{}},
	}
	for i, outs := range o.Stages {
		for _, out := range outs {
			c.mark(out.Node, i)
		}
	}
	if err := c.translate(); err != nil {
		return nil, err
	}
	if err := c.deliver(); err != nil {
		return nil, err
	}
	if o.Fuse {
		c.fuse()
	}
	c.recompute()
	if err := c.kernels(); err != nil {
		return nil, err
	}
	return c.prog, c.plan()
}

// mark finds the live nodes and the stage in which each is computed.
func (c *compiler) mark(n *gorgonia.Node, stage int) {
	if _, ok := c.stage[n]; ok {
		return
	}
	c.stage[n] = stage
	for _, child := range ops.Children(c.g, n) {
		c.mark(child, stage)
	}
}

// translate makes the instructions, ordered by stage, then by node: gorgonia numbers nodes after their children.
func (c *compiler) translate() error {
	var live []*gorgonia.Node
	for _, n := range c.g.AllNodes() {
		if _, ok := c.stage[n]; ok {
			live = append(live, n)
		}
	}
	slices.SortStableFunc(live, func(a, b *gorgonia.Node) int {
		if d := c.stage[a] - c.stage[b]; d != 0 {
			return d
		}
		return int(a.ID() - b.ID())
	})
	for _, n := range live {
		if err := c.node(n); err != nil {
			return err
		}
	}
	return nil
}

func (c *compiler) node(n *gorgonia.Node) error {
	l, err := layoutOf(n)
	if err != nil {
		return err
	}
	v := &value{layout: l, name: n.Name(), def: -1, last: -1}
	c.values[n] = v
	children := ops.Children(c.g, n)
	if n.Op() == nil {
		v.leaf = true
		if w, ok := c.o.Weights[n.Name()]; ok {
			v.into = &w
			return nil
		}
		c.prog.inputs[n.Name()] = v
		c.prog.leaves = append(c.prog.leaves, v)
		return nil
	}
	if len(children) == 0 {
		return c.constant(n, v)
	}
	spec, err := specOf(n)
	if err != nil {
		return err
	}
	in := make([]*value, len(children))
	for i, child := range children {
		if in[i] = c.values[child]; in[i] == nil {
			return fmt.Errorf("engine: %s comes before its input %v", ops.Name(spec), child)
		}
		in[i].uses++
	}
	if second, ok := spec.(ops.Second); ok { // not computed: an alias
		saver := c.saver[in[len(in)-1]]
		if saver == nil || saver.saved == nil {
			return fmt.Errorf("engine: %s: its last input saves nothing", ops.Name(spec))
		}
		for _, v := range in {
			v.uses--
		}
		_, offset := second.Source()
		v.of, v.at = saver.saved, 4*int64(offset)
		return nil
	}
	i := &instr{spec: spec, in: in, out: v, stage: c.stage[n]}
	if s, ok := spec.(ops.Saver); ok {
		if size := s.Saved(shapesOf(in, c.o.Largest)); size > 0 {
			i.saved = &value{layout: layout{rank: 1, dims: [2]dim{{0, size}}}, name: v.name + ".saved", last: -1}
		}
	}
	if r, ok := spec.(ops.Reader); ok {
		kinds, _ := r.Reads().Signature()
		saver := c.saver[in[len(kinds)]]
		if saver == nil || saver.saved == nil {
			return fmt.Errorf("engine: %s: its input %d saves nothing", ops.Name(spec), len(kinds))
		}
		i.read = saver.saved
		i.read.uses++
	}
	c.saver[v] = i
	c.prog.code = append(c.prog.code, i)
	return nil
}

func (c *compiler) constant(n *gorgonia.Node, v *value) error {
	s, ok := n.Value().(gorgonia.Scalar)
	if !ok {
		return fmt.Errorf("engine: constant %v is not a scalar", n)
	}
	f, ok := s.Data().(float32)
	if !ok {
		return fmt.Errorf("engine: constant %v is not a float32", n)
	}
	v.leaf, v.constant = true, []float32{f}
	c.prog.leaves = append(c.prog.leaves, v)
	return nil
}

// specOf returns a node's op as a Spec. The only op of gorgonia's own is the sum that Backpropagate inserts.
func specOf(n *gorgonia.Node) (ops.Spec, error) {
	switch op := n.Op().(type) {
	case *ops.Op:
		return op.Spec, nil
	default:
		if op.String() == "+ false" {
			return ops.Add{}, nil
		}
		return nil, fmt.Errorf("%w for gorgonia's op %v", ErrUnsupported, op)
	}
}

// deliver decides where outputs are computed, with copies for those that are elsewhere already.
func (c *compiler) deliver() error {
	for stage, outs := range c.o.Stages {
		var list []*value
		for _, out := range outs {
			v := c.values[out.Node]
			v.uses++
			switch {
			case out.Into == nil:
				v.output = true
			case v.root().into == nil && !v.leaf && c.stage[out.Node] == stage && v.whole(c.o.Largest):
				v.into, v.root().into = out.Into, out.Into
			default:
				dst := &value{layout: v.layout, name: v.name + ".copy", last: -1, uses: 1, into: out.Into}
				c.prog.code = append(c.prog.code, &instr{spec: ops.Copy{}, in: []*value{v}, out: dst, stage: stage})
				v = dst
			}
			if t := v.into; t != nil && t.Elements() != int(sizeOf(v.layout, c.o.Largest)/4) {
				return fmt.Errorf("engine: output %s has %d values, its place %d", v.name, sizeOf(v.layout, c.o.Largest)/4, t.Elements())
			}
			list = append(list, v)
		}
		c.prog.outputs = append(c.prog.outputs, list)
	}
	slices.SortStableFunc(c.prog.code, func(a, b *instr) int { return a.stage - b.stage })
	return nil
}

// kernels asks the device for each instruction's kernel.
func (c *compiler) kernels() error {
	for _, i := range c.prog.code {
		in := make([]Tensor, len(i.in))
		for j, v := range i.in {
			in[j] = v.largest(c.o.Largest)
		}
		k, err := c.dev.Kernel(i.spec, in, i.out.largest(c.o.Largest))
		if err != nil {
			return fmt.Errorf("engine: device %s: %s: %w", c.dev.Name(), ops.Name(i.spec), err)
		}
		i.kernel = k
	}
	return nil
}

// root is where the value lives.
func (v *value) root() *value {
	if v.of != nil {
		return v.of
	}
	return v
}

// whole says whether the value is all of its root.
func (v *value) whole(e Extents) bool { return sizeOf(v.layout, e) == sizeOf(v.root().layout, e) }

// largest describes the value before anything is placed: weights as they are.
func (v *value) largest(e Extents) Tensor {
	if v.into != nil {
		return *v.into
	}
	return v.tensor(e)
}

func sizeOf(l layout, e Extents) int64 {
	t := l.tensor(e)
	return t.Bytes()
}
