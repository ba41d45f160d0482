package ops

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Rotary turns the query and key heads of packed qkv by their position in their text, as halves (x1, x2) ->
// (x1 cos - x2 sin, x2 cos + x1 sin): (qkv [T, W], cu [B+1]) -> [T, W]. Values are copied. Angles are
// float32(position) * Frequencies[i], i < HeadDim/2. Inverse turns back, which is the gradient.
type Rotary struct {
	Heads, KV   int
	HeadDim     int
	Frequencies []float32
	Inverse     bool
}

// Signature implements Spec.
func (Rotary) Signature() ([]Kind, Kind) { return []Kind{Matrix, Ints}, Matrix }

// Shape implements Spec.
func (o Rotary) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("twice the number of frequencies", 2*len(o.Frequencies), o.HeadDim)
	return r.shape(in[0]...)
}

// Wants implements Differentiable.
func (Rotary) Wants() []bool { return []bool{true, false} }

// Grad implements Differentiable.
func (o Rotary) Grad(b *Builder, in gorgonia.Nodes, _, grad *gorgonia.Node) gorgonia.Nodes {
	o.Inverse = !o.Inverse
	return gorgonia.Nodes{b.Apply(o, grad, in[1]), nil}
}

// Mask says which keys a query sees within its text.
type Mask struct {
	Causal bool
	Window int // 0 = none. Causal: 0 <= i-j < Window; bidirectional: |i-j| <= Window
}

// Attention is grouped-head attention over ragged texts: (qkv [T, (Heads+2KV)*HeadDim], cu [B+1]) ->
// [T, Heads*HeadDim]. Query head h reads key/value head h / (Heads/KV). It saves the log-sum-exp [T, Heads].
type Attention struct {
	Heads, KV, HeadDim int
	Mask               Mask
}

// Signature implements Spec.
func (Attention) Signature() ([]Kind, Kind) { return []Kind{Matrix, Ints}, Matrix }

// Shape implements Spec.
func (a Attention) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("qkv's width", in[0][1], (a.Heads+2*a.KV)*a.HeadDim)
	return r.shape(in[0][0], a.Heads*a.HeadDim)
}

// Saved implements Saver.
func (a Attention) Saved(in []tensor.Shape) int { return in[0][0] * a.Heads }

// Wants implements Differentiable.
func (Attention) Wants() []bool { return []bool{true, false} }

// Grad implements Differentiable.
func (a Attention) Grad(b *Builder, in gorgonia.Nodes, out, grad *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{b.Apply(AttentionGrad(a), in[0], in[1], out, grad), nil}
}

// AttentionGrad is (qkv [T, W], cu [B+1], out [T, Heads*HeadDim], dout) -> dqkv [T, W]. It reads what out saved.
type AttentionGrad struct {
	Heads, KV, HeadDim int
	Mask               Mask
}

// Signature implements Spec.
func (AttentionGrad) Signature() ([]Kind, Kind) { return []Kind{Matrix, Ints, Matrix, Matrix}, Matrix }

// Shape implements Spec.
func (AttentionGrad) Shape(in []tensor.Shape) (tensor.Shape, error) { return in[0].Clone(), nil }

// Reads implements Reader.
func (a AttentionGrad) Reads() Spec { return Attention(a) }

// SwiGLU is x [T, 2f] = [gate | up] -> silu(gate) * up [T, f].
type SwiGLU struct{}

// Signature implements Spec.
func (SwiGLU) Signature() ([]Kind, Kind) { return []Kind{Matrix}, Matrix }

// Shape implements Spec.
func (SwiGLU) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("the rest of x's width by 2", in[0][1]%2, 0)
	return r.shape(in[0][0], in[0][1]/2)
}

// Wants implements Differentiable.
func (SwiGLU) Wants() []bool { return []bool{true} }

// Grad implements Differentiable.
func (SwiGLU) Grad(b *Builder, in gorgonia.Nodes, _, grad *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{b.Apply(SwiGLUGrad{}, in[0], grad)}
}

// SwiGLUGrad is (x [T, 2f], dy [T, f]) -> dx [T, 2f].
type SwiGLUGrad struct{}

// Signature implements Spec.
func (SwiGLUGrad) Signature() ([]Kind, Kind) { return []Kind{Matrix, Matrix}, Matrix }

// Shape implements Spec.
func (SwiGLUGrad) Shape(in []tensor.Shape) (tensor.Shape, error) { return in[0].Clone(), nil }
