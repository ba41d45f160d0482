package ops

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Embed gathers: (ids [T], table [V, d]) -> [T, d], row t = table[ids[t]].
type Embed struct{ Frozen bool }

// Signature implements Spec.
func (Embed) Signature() ([]Kind, Kind) { return []Kind{Ints, Matrix}, Matrix }

// Shape implements Spec.
func (Embed) Shape(in []tensor.Shape) (tensor.Shape, error) {
	return tensor.Shape{in[0][0], in[1][1]}, nil
}

// Wants implements Differentiable.
func (e Embed) Wants() []bool { return []bool{false, !e.Frozen} }

// Grad implements Differentiable.
func (e Embed) Grad(b *Builder, in gorgonia.Nodes, _, grad *gorgonia.Node) gorgonia.Nodes {
	if e.Frozen {
		return gorgonia.Nodes{nil, nil}
	}
	return gorgonia.Nodes{nil, b.Apply(EmbedGrad{Rows: in[1].Shape()[0]}, in[0], grad)}
}

// EmbedGrad scatters: (ids [T], dy [T, d]) -> [Rows, d], row v = sum of dy[t] over ids[t] = v in ascending t;
// zero where no token is v.
type EmbedGrad struct{ Rows int }

// Signature implements Spec.
func (EmbedGrad) Signature() ([]Kind, Kind) { return []Kind{Ints, Matrix}, Matrix }

// Shape implements Spec.
func (e EmbedGrad) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("dy's rows", in[1][0], in[0][0])
	return r.shape(e.Rows, in[1][1])
}

// Select gathers rows of a packed batch: (x [T, d], rows [P]) -> [P, d], row p = x[rows[p]]; the positions that a
// language-model objective predicts.
type Select struct{}

// Signature implements Spec.
func (Select) Signature() ([]Kind, Kind) { return []Kind{Matrix, Ints}, Matrix }

// Shape implements Spec.
func (Select) Shape(in []tensor.Shape) (tensor.Shape, error) {
	return tensor.Shape{in[1][0], in[0][1]}, nil
}

// Wants implements Differentiable.
func (Select) Wants() []bool { return []bool{true, false} }

// Grad implements Differentiable.
func (Select) Grad(b *Builder, in gorgonia.Nodes, _, grad *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{b.Apply(SelectGrad{}, in[0], in[1], grad), nil}
}

// SelectGrad scatters: (x [T, d], rows [P], dy [P, d]) -> [T, d], row t = sum of dy[p] over rows[p] = t, else
// zero. Of x only the shape is used.
type SelectGrad struct{}

// Signature implements Spec.
func (SelectGrad) Signature() ([]Kind, Kind) { return []Kind{Matrix, Ints, Matrix}, Matrix }

// Shape implements Spec.
func (SelectGrad) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("dy's rows", in[2][0], in[1][0])
	r.same("dy's width", in[2][1], in[0][1])
	return r.shape(in[0]...)
}

// Add is the residual connection: (a [T, d], b [T, d]) -> a + b.
type Add struct{}

// Signature implements Spec.
func (Add) Signature() ([]Kind, Kind) { return []Kind{Matrix, Matrix}, Matrix }

// Shape implements Spec.
func (Add) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("b's rows", in[1][0], in[0][0])
	r.same("b's width", in[1][1], in[0][1])
	return r.shape(in[0]...)
}

// Wants implements Differentiable.
func (Add) Wants() []bool { return []bool{true, true} }

// Grad implements Differentiable.
func (Add) Grad(_ *Builder, _ gorgonia.Nodes, _, grad *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{grad, grad}
}

// Pooling is how the rows of a text become one.
type Pooling string

// The poolings, over the tokens of a text after its first skip ones.
const (
	Mean         Pooling = "mean"
	WeightedMean Pooling = "weighted_mean" // weights 1..n over their sum
	LastToken    Pooling = "last_token"
	FirstToken   Pooling = "first_token"
)

// Pool is (x [T, d], cu [B+1], skip [B]) -> [B, d]. A text whose tokens are all skipped gives zeros.
type Pool struct{ Kind Pooling }

// Signature implements Spec.
func (Pool) Signature() ([]Kind, Kind) { return []Kind{Matrix, Ints, Ints}, Matrix }

// Shape implements Spec.
func (Pool) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("cu's length", in[1][0], in[2][0]+1)
	return r.shape(in[2][0], in[0][1])
}

// Wants implements Differentiable.
func (Pool) Wants() []bool { return []bool{true, false, false} }

// Grad implements Differentiable.
func (p Pool) Grad(b *Builder, in gorgonia.Nodes, _, grad *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{b.Apply(PoolGrad(p), in[0], in[1], in[2], grad), nil, nil}
}

// PoolGrad is (x [T, d], cu [B+1], skip [B], dy [B, d]) -> [T, d]. Of x only the shape is used.
type PoolGrad struct{ Kind Pooling }

// Signature implements Spec.
func (PoolGrad) Signature() ([]Kind, Kind) { return []Kind{Matrix, Ints, Ints, Matrix}, Matrix }

// Shape implements Spec.
func (PoolGrad) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("dy's rows", in[3][0], in[2][0])
	r.same("dy's width", in[3][1], in[0][1])
	return r.shape(in[0]...)
}

// ShapeOnly says which input of a spec gives its shape only, not its values, or -1: a machine need not keep it.
func ShapeOnly(s Spec) int {
	switch s.(type) {
	case SelectGrad, PoolGrad:
		return 0
	}
	return -1
}

// Copy is x -> x, of any kind but Ints. Machines use it where a value must also be elsewhere.
type Copy struct{}

// Signature implements Spec.
func (Copy) Signature() ([]Kind, Kind) { return []Kind{Matrix}, Matrix }

// Shape implements Spec.
func (Copy) Shape(in []tensor.Shape) (tensor.Shape, error) { return in[0].Clone(), nil }
