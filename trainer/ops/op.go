// Package ops has the fused operations of a backbone and its losses as gorgonia ops: what they are, their types,
// shapes and symbolic gradients. Who computes them is not known here: a device maps a Spec to its kernel
// (package engine), and a Host lets gorgonia's own machines run the same graph in tests.
//
// Letters of shapes: T tokens of a packed batch, B texts, P predicted positions, R rows of a global batch, d width.
package ops

import (
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"reflect"

	"github.com/chewxy/hm"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Kind is the type of an input or output.
type Kind uint8

// The kinds of values in a graph.
const (
	Matrix Kind = iota // float32 [n, m]
	Vector             // float32 [n]
	Ints               // int32 [n]
	Scalar             // float32
)

func (k Kind) hm() hm.Type {
	switch k {
	case Matrix:
		return gorgonia.TensorType{Dims: 2, Of: tensor.Float32}
	case Vector:
		return gorgonia.TensorType{Dims: 1, Of: tensor.Float32}
	case Ints:
		return gorgonia.TensorType{Dims: 1, Of: tensor.Int32}
	default:
		return tensor.Float32
	}
}

// rank is the number of dimensions. gorgonia unifies tensor types of different rank, so ops check it themselves.
func (k Kind) rank() int {
	switch k {
	case Matrix:
		return 2
	case Scalar:
		return 0
	default:
		return 1
	}
}

// Spec is an operation with all its attributes: a plain struct. Its printed form, types and fields, is hashed,
// so two specs with different attributes are never merged.
type Spec interface {
	// Signature returns the kinds of the inputs and of the output.
	Signature() (in []Kind, out Kind)
	// Shape infers the output's shape and checks the inputs'.
	Shape(in []tensor.Shape) (tensor.Shape, error)
}

// Differentiable is a Spec with a gradient.
type Differentiable interface {
	Spec
	// Wants says for which inputs Grad returns a node.
	Wants() []bool
	// Grad builds the gradient with respect to each input that Wants names, nil for the others.
	Grad(b *Builder, in gorgonia.Nodes, out, grad *gorgonia.Node) gorgonia.Nodes
}

// Saver is a Spec whose kernel leaves a second result beside its output, for a gradient op that takes the output
// as an input: log-sum-exp of attention rows, or a second gradient computed in the same pass.
type Saver interface {
	Spec
	// Saved returns the number of float32 of the second result.
	Saved(in []tensor.Shape) int
}

// Second is a Spec whose value is a part of the second result of its last input, a node of the Saver that Source
// returns, whose inputs are the inputs before it; the part begins at value offset. A machine that keeps second
// results (package engine) makes it an alias; another computes it again.
type Second interface {
	Spec
	Source() (saver Spec, offset int)
}

// Reader is a Spec that reads the second result of one of its inputs: with n the number of inputs of the Saver
// Reads(), its inputs 0..n-1 are those of the saver and input n is the saver's output.
type Reader interface {
	Spec
	Reads() Spec
}

// Host computes a spec on gorgonia values. Only gorgonia's own machines ask it.
type Host interface {
	Compute(spec Spec, out gorgonia.Value, in ...gorgonia.Value) error
}

// Op makes a Spec a gorgonia.Op and gorgonia.SDOp.
type Op struct {
	Spec
	b    *Builder
	salt int
}

var (
	_ gorgonia.SDOp            = (*Op)(nil)
	_ gorgonia.UsePreallocDoer = (*Op)(nil)
)

var errNoHost = errors.New("ops: this graph was built without a host, only package engine can run it")

// Arity implements gorgonia.Op.
func (o *Op) Arity() int {
	in, _ := o.Signature()
	return len(in)
}

// Type implements gorgonia.Op. The type is fresh on every call: gorgonia gives it back to a pool.
func (o *Op) Type() hm.Type {
	in, out := o.Signature()
	types := make([]hm.Type, 0, len(in)+1)
	for _, k := range in {
		types = append(types, k.hm())
	}
	return hm.NewFnType(append(types, out.hm())...)
}

// InferShape implements gorgonia.Op.
func (o *Op) InferShape(ds ...gorgonia.DimSizer) (tensor.Shape, error) {
	shapes, err := gorgonia.DimSizersToShapes(ds)
	if err != nil {
		return nil, err
	}
	kinds, _ := o.Signature()
	for i, k := range kinds {
		if rank := len(shapes[i]); rank != k.rank() {
			return nil, fmt.Errorf("%s of shapes %v: input %d has rank %d, want %d", Name(o.Spec), shapes, i, rank, k.rank())
		}
	}
	s, err := o.Shape(shapes)
	if err != nil {
		return nil, fmt.Errorf("%s of shapes %v: %w", Name(o.Spec), shapes, err)
	}
	return s, nil
}

// Do implements gorgonia.Op.
func (o *Op) Do(in ...gorgonia.Value) (gorgonia.Value, error) {
	shapes := make([]tensor.Shape, len(in))
	for i, v := range in {
		shapes[i] = v.Shape()
	}
	shape, err := o.Shape(shapes)
	if err != nil {
		return nil, err
	}
	if _, kind := o.Signature(); kind == Scalar {
		v := gorgonia.NewF32(0)
		return v, o.compute(v, in)
	}
	out := tensor.New(tensor.WithShape(shape...), tensor.Of(tensor.Float32))
	return out, o.compute(out, in)
}

// UsePreallocDo implements gorgonia.UsePreallocDoer.
func (o *Op) UsePreallocDo(out gorgonia.Value, in ...gorgonia.Value) (gorgonia.Value, error) {
	return out, o.compute(out, in)
}

func (o *Op) compute(out gorgonia.Value, in []gorgonia.Value) error {
	if o.b.host == nil {
		return errNoHost
	}
	return o.b.host.Compute(o.Spec, out, in...)
}

// ReturnsPtr implements gorgonia.Op.
func (o *Op) ReturnsPtr() bool { return true }

// CallsExtern implements gorgonia.Op: true makes gorgonia allocate the output and call UsePreallocDo.
func (o *Op) CallsExtern() bool {
	_, out := o.Signature()
	return out != Scalar
}

// OverwritesInput implements gorgonia.Op.
func (o *Op) OverwritesInput() int { return -1 }

// WriteHash implements gorgonia.Op.
func (o *Op) WriteHash(h hash.Hash) { fmt.Fprintf(h, "%T%+v#%d", o.Spec, o.Spec, o.salt) }

// Hashcode implements gorgonia.Op.
func (o *Op) Hashcode() uint32 {
	h := fnv.New32a()
	o.WriteHash(h)
	return h.Sum32()
}

func (o *Op) String() string { return fmt.Sprintf("%s%+v", Name(o.Spec), o.Spec) }

// DiffWRT implements gorgonia.SDOp.
func (o *Op) DiffWRT(n int) []bool {
	if d, ok := o.Spec.(Differentiable); ok {
		return d.Wants()
	}
	return make([]bool, n)
}

// SymDiff implements gorgonia.SDOp.
func (o *Op) SymDiff(in gorgonia.Nodes, out, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	d, ok := o.Spec.(Differentiable)
	if !ok {
		return nil, fmt.Errorf("%s has no gradient", Name(o.Spec))
	}
	nodes := d.Grad(o.b, in, out, grad)
	return nodes, o.b.Err()
}

// Name returns the name of a spec's type, without its package.
func Name(s Spec) string { return reflect.TypeOf(s).Name() }
