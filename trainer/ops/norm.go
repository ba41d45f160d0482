package ops

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// RMSNorm is (x [T, d], w [d]) -> w * x / sqrt(mean(x^2) + Eps), row by row.
type RMSNorm struct {
	Eps    float32
	Frozen bool // w has no gradient
}

// Signature implements Spec.
func (RMSNorm) Signature() ([]Kind, Kind) { return []Kind{Matrix, Vector}, Matrix }

// Shape implements Spec.
func (RMSNorm) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("w's length", in[1][0], in[0][1])
	return r.shape(in[0]...)
}

// Wants implements Differentiable.
func (n RMSNorm) Wants() []bool { return []bool{true, !n.Frozen} }

// Grad implements Differentiable.
func (n RMSNorm) Grad(b *Builder, in gorgonia.Nodes, _, grad *gorgonia.Node) gorgonia.Nodes {
	dx := b.Apply(RMSNormGradX{n.Eps, !n.Frozen}, in[0], in[1], grad)
	if n.Frozen {
		return gorgonia.Nodes{dx, nil}
	}
	return gorgonia.Nodes{dx, b.Apply(RMSNormGradW{n.Eps}, in[0], in[1], grad, dx)}
}

// RMSNormGradX is (x [T, d], w [d], dy [T, d]) -> dx [T, d]; with Both it saves dw [d]. With r = 1/rms(x):
//
//	dx = r (w dy - x r^2 mean(w dy x)),  dw = sum over rows of r x dy
type RMSNormGradX struct {
	Eps  float32
	Both bool
}

// Signature implements Spec.
func (RMSNormGradX) Signature() ([]Kind, Kind) { return []Kind{Matrix, Vector, Matrix}, Matrix }

// Shape implements Spec.
func (RMSNormGradX) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("w's length", in[1][0], in[0][1])
	r.same("dy's rows", in[2][0], in[0][0])
	r.same("dy's width", in[2][1], in[0][1])
	return r.shape(in[0]...)
}

// Saved implements Saver.
func (n RMSNormGradX) Saved(in []tensor.Shape) int {
	if !n.Both {
		return 0
	}
	return in[1][0]
}

// RMSNormGradW is (x, w, dy, dx) -> dw [d], the second result of dx.
type RMSNormGradW struct{ Eps float32 }

// Signature implements Spec.
func (RMSNormGradW) Signature() ([]Kind, Kind) {
	return []Kind{Matrix, Vector, Matrix, Matrix}, Vector
}

// Shape implements Spec.
func (RMSNormGradW) Shape(in []tensor.Shape) (tensor.Shape, error) { return in[1].Clone(), nil }

// Source implements Second.
func (n RMSNormGradW) Source() (Spec, int) { return RMSNormGradX{n.Eps, true}, 0 }

// HeadNorm normalises each query and key head of packed qkv by itself (Qwen3), before the rotation:
// (qkv [T, (Heads+2KV)*HeadDim], wq [HeadDim], wk [HeadDim]) -> the same shape. Values are copied.
type HeadNorm struct {
	Heads, KV, HeadDim int
	Eps                float32
	Frozen             bool
}

// Signature implements Spec.
func (HeadNorm) Signature() ([]Kind, Kind) { return []Kind{Matrix, Vector, Vector}, Matrix }

// Shape implements Spec.
func (h HeadNorm) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("qkv's width", in[0][1], (h.Heads+2*h.KV)*h.HeadDim)
	r.same("wq's length", in[1][0], h.HeadDim)
	r.same("wk's length", in[2][0], h.HeadDim)
	return r.shape(in[0]...)
}

// Wants implements Differentiable.
func (h HeadNorm) Wants() []bool { return []bool{true, !h.Frozen, !h.Frozen} }

// Grad implements Differentiable.
func (h HeadNorm) Grad(b *Builder, in gorgonia.Nodes, _, grad *gorgonia.Node) gorgonia.Nodes {
	dx := b.Apply(HeadNormGradX(h), in[0], in[1], in[2], grad)
	if h.Frozen {
		return gorgonia.Nodes{dx, nil, nil}
	}
	dwq := b.Apply(HeadNormGradW{Of: HeadNormGradX(h)}, in[0], in[1], in[2], grad, dx)
	dwk := b.Apply(HeadNormGradW{Of: HeadNormGradX(h), Key: true}, in[0], in[1], in[2], grad, dx)
	return gorgonia.Nodes{dx, dwq, dwk}
}

// HeadNormGradX is (qkv, wq, wk, dy [T, W]) -> dqkv [T, W]. Unless Frozen it saves dwq, then dwk from value KeyOffset on.
type HeadNormGradX struct {
	Heads, KV, HeadDim int
	Eps                float32
	Frozen             bool
}

// Signature implements Spec.
func (HeadNormGradX) Signature() ([]Kind, Kind) {
	return []Kind{Matrix, Vector, Vector, Matrix}, Matrix
}

// Shape implements Spec.
func (HeadNormGradX) Shape(in []tensor.Shape) (tensor.Shape, error) { return in[0].Clone(), nil }

// KeyOffset is where dwk begins among the saved values: dwq is padded so that dwk is aligned.
func (h HeadNormGradX) KeyOffset() int { return (h.HeadDim + 15) &^ 15 }

// Saved implements Saver.
func (h HeadNormGradX) Saved([]tensor.Shape) int {
	if h.Frozen {
		return 0
	}
	return h.KeyOffset() + h.HeadDim
}

// HeadNormGradW is (qkv, wq, wk, dy, dx) -> dwq or dwk [HeadDim], saved by dx.
type HeadNormGradW struct {
	Of  HeadNormGradX
	Key bool
}

// Signature implements Spec.
func (HeadNormGradW) Signature() ([]Kind, Kind) {
	return []Kind{Matrix, Vector, Vector, Matrix, Matrix}, Vector
}

// Shape implements Spec.
func (HeadNormGradW) Shape(in []tensor.Shape) (tensor.Shape, error) { return in[1].Clone(), nil }

// Source implements Second.
func (h HeadNormGradW) Source() (Spec, int) {
	if h.Key {
		return h.Of, h.Of.KeyOffset()
	}
	return h.Of, 0
}

// Normalize divides rows by their L2 norm: x [B, d] -> x / max(|x|, 1e-12).
type Normalize struct{}

// Signature implements Spec.
func (Normalize) Signature() ([]Kind, Kind) { return []Kind{Matrix}, Matrix }

// Shape implements Spec.
func (Normalize) Shape(in []tensor.Shape) (tensor.Shape, error) { return in[0].Clone(), nil }

// Wants implements Differentiable.
func (Normalize) Wants() []bool { return []bool{true} }

// Grad implements Differentiable.
func (n Normalize) Grad(b *Builder, in gorgonia.Nodes, _, grad *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{b.Apply(NormalizeGrad(n), in[0], grad)}
}

// NormalizeGrad is (x [B, d], dy [B, d]) -> (dy - y (y . dy)) / |x|, with y = x / |x|.
type NormalizeGrad struct{}

// Signature implements Spec.
func (NormalizeGrad) Signature() ([]Kind, Kind) { return []Kind{Matrix, Matrix}, Matrix }

// Shape implements Spec.
func (NormalizeGrad) Shape(in []tensor.Shape) (tensor.Shape, error) { return in[0].Clone(), nil }
