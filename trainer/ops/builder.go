package ops

import (
	"fmt"
	"reflect"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Builder adds ops to a graph. Its first error sticks: later calls return nil, and Err says what went wrong.
type Builder struct {
	g    *gorgonia.ExprGraph
	host Host
	err  error
	seen map[string]bool
}

// New returns a builder of a new graph. host may be nil: then only package engine can run the graph.
func New(host Host) *Builder {
	return &Builder{g: gorgonia.NewGraph(), host: host, seen: map[string]bool{}}
}

// Graph returns the graph.
func (b *Builder) Graph() *gorgonia.ExprGraph { return b.g }

// Err returns the first error.
func (b *Builder) Err() error { return b.err }

// Input adds a leaf. Its name must be new: gorgonia silently merges leaves of one name, type and shape.
func (b *Builder) Input(kind Kind, name string, shape ...int) *gorgonia.Node {
	if b.err != nil {
		return nil
	}
	if b.seen[name] {
		b.err = fmt.Errorf("ops: two inputs are named %q", name)
		return nil
	}
	b.seen[name] = true
	of := tensor.Float32
	if kind == Ints {
		of = tensor.Int32
	}
	if kind == Scalar {
		return gorgonia.NewScalar(b.g, of, gorgonia.WithName(name))
	}
	return gorgonia.NewTensor(b.g, of, len(shape), gorgonia.WithShape(shape...), gorgonia.WithName(name))
}

// Apply adds the node spec(in...). The same spec of the same nodes is the same node.
func (b *Builder) Apply(spec Spec, in ...*gorgonia.Node) *gorgonia.Node {
	if b.err != nil {
		return nil
	}
	const salts = 8 // each a fresh chance of 1 - nodes/2^32
	for salt := range salts {
		node, err := gorgonia.ApplyOp(&Op{Spec: spec, b: b, salt: salt}, in...)
		if err != nil {
			b.err = fmt.Errorf("ops: %w", err)
			return nil
		}
		if b.is(node, spec, in) {
			return node
		}
	}
	b.err = fmt.Errorf("ops: the hash of %s collided %d times", Name(spec), salts)
	return nil
}

// is guards against gorgonia's hash-consing: nodes are merged when 32 bits agree, whatever their children.
func (b *Builder) is(node *gorgonia.Node, spec Spec, in []*gorgonia.Node) bool {
	op, ok := node.Op().(*Op)
	if !ok || !reflect.DeepEqual(op.Spec, spec) {
		return false
	}
	children := Children(b.g, node)
	if len(children) != len(in) {
		return false
	}
	for i := range in {
		if children[i] != in[i] {
			return false
		}
	}
	return true
}

// Children returns a node's inputs in argument order.
func Children(g *gorgonia.ExprGraph, node *gorgonia.Node) []*gorgonia.Node {
	it := g.From(node.ID())
	if it == nil {
		return nil
	}
	out := make([]*gorgonia.Node, 0, it.Len())
	for it.Next() {
		out = append(out, it.Node().(*gorgonia.Node))
	}
	return out
}

// Grad returns the gradients of the scalar cost.
func (b *Builder) Grad(cost *gorgonia.Node, wrt ...*gorgonia.Node) gorgonia.Nodes {
	if b.err != nil {
		return nil
	}
	nodes, err := gorgonia.Grad(cost, wrt...)
	if err == nil {
		err = b.err
	}
	if err != nil {
		b.err = fmt.Errorf("ops: differentiate: %w", err)
		return nil
	}
	return nodes
}
