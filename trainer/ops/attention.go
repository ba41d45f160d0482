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
	Anneal Anneal
}

// Anneal opens a causal mask over the steps of a training (Gong et al. 2024, "Scaling diffusion language models via
// adaptation from autoregressive models", arXiv 2410.17891): at step s, 0 the first, query i also sees each key j that Mask hides with
// probability r(s), drawn anew at each step and once for all texts, heads and layers.
//
//	r(s) = min(256, floor(256 (s+1) / Steps)) / 256
//	open(i, j, s): byte j%16 of Philox((Seed, AnnealSite), (step s, text 0, token i, block j/16)) < 256 r(s)
//
// (Bytes from the least significant of the first word on.) What is open is a function of Seed, the step and two positions
// alone: of no packing, no phase and no device. From step Steps-1 on the mask is the bidirectional one without a window.
// Steps 0 is no annealing.
type Anneal struct {
	Steps int64
	Seed  uint64
}

// AnnealSite is the site of the random numbers of Anneal.
const AnnealSite = 0xA22EA100

// Open returns 256 r(step).
func (a Anneal) Open(step int64) int {
	if step+1 >= a.Steps {
		return 256
	}
	return int(256 * (step + 1) / a.Steps)
}

// Attention is grouped-head attention over ragged texts: (qkv [T, (Heads+2KV)*HeadDim], cu [B+1], step [1] if
// Mask.Anneal) -> [T, Heads*HeadDim]. Query head h reads key/value head h / (Heads/KV). It saves the log-sum-exp [T, Heads].
type Attention struct {
	Heads, KV, HeadDim int
	Mask               Mask
}

// Signature implements Spec.
func (a Attention) Signature() ([]Kind, Kind) {
	if a.Mask.Anneal.Steps > 0 {
		return []Kind{Matrix, Ints, Ints}, Matrix
	}
	return []Kind{Matrix, Ints}, Matrix
}

// Shape implements Spec.
func (a Attention) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("qkv's width", in[0][1], (a.Heads+2*a.KV)*a.HeadDim)
	return r.shape(in[0][0], a.Heads*a.HeadDim)
}

// Saved implements Saver.
func (a Attention) Saved(in []tensor.Shape) int { return in[0][0] * a.Heads }

// Wants implements Differentiable.
func (a Attention) Wants() []bool {
	in, _ := a.Signature()
	wants := make([]bool, len(in))
	wants[0] = true
	return wants
}

// Grad implements Differentiable.
func (a Attention) Grad(b *Builder, in gorgonia.Nodes, out, grad *gorgonia.Node) gorgonia.Nodes {
	nodes := make(gorgonia.Nodes, len(in))
	nodes[0] = b.Apply(AttentionGrad(a), append(in[:len(in):len(in)], out, grad)...)
	return nodes
}

// AttentionGrad is (qkv [T, W], cu [B+1], step [1] if Mask.Anneal, out [T, Heads*HeadDim], dout) -> dqkv [T, W]. It reads
// what out saved.
type AttentionGrad struct {
	Heads, KV, HeadDim int
	Mask               Mask
}

// Signature implements Spec.
func (a AttentionGrad) Signature() ([]Kind, Kind) {
	in, _ := Attention(a).Signature()
	return append(in, Matrix, Matrix), Matrix
}

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
