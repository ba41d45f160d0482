package ops

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Surrogate is (E [B, d], dE [B, d]) -> the sum of E * dE: a cost whose gradient by E is dE, which another part of
// the program (the loss over the global batch) has computed.
type Surrogate struct{}

// Signature implements Spec.
func (Surrogate) Signature() ([]Kind, Kind) { return []Kind{Matrix, Matrix}, Scalar }

// Shape implements Spec.
func (Surrogate) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("dE's rows", in[1][0], in[0][0])
	r.same("dE's width", in[1][1], in[0][1])
	return r.shape()
}

// Wants implements Differentiable.
func (Surrogate) Wants() []bool { return []bool{true, false} }

// Grad implements Differentiable.
func (Surrogate) Grad(b *Builder, in gorgonia.Nodes, _, grad *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{b.Apply(Scale{}, in[1], grad), nil}
}

// Scale is (x [B, d], s) -> s * x.
type Scale struct{}

// Signature implements Spec.
func (Scale) Signature() ([]Kind, Kind) { return []Kind{Matrix, Scalar}, Matrix }

// Shape implements Spec.
func (Scale) Shape(in []tensor.Shape) (tensor.Shape, error) { return in[0].Clone(), nil }

// CrossEntropy is a language-model head with its loss: (h [P, d], W [V, d], targets [P], weights [P]) -> the sum over
// p of weights[p] * (log sum_v exp(h_p . W_v) - h_p . W_target). The logits [P, V] are never stored whole. Rows with
// weight 0 or a negative target count nothing.
type CrossEntropy struct{ Frozen bool }

// Signature implements Spec.
func (CrossEntropy) Signature() ([]Kind, Kind) { return []Kind{Matrix, Matrix, Ints, Vector}, Scalar }

// Shape implements Spec.
func (CrossEntropy) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("W's width", in[1][1], in[0][1])
	r.same("the number of targets", in[2][0], in[0][0])
	r.same("the number of weights", in[3][0], in[0][0])
	return r.shape()
}

// Wants implements Differentiable.
func (c CrossEntropy) Wants() []bool { return []bool{true, !c.Frozen, false, false} }

// Grad implements Differentiable.
func (c CrossEntropy) Grad(b *Builder, in gorgonia.Nodes, _, grad *gorgonia.Node) gorgonia.Nodes {
	dh := b.Apply(CrossEntropyGrad{Both: !c.Frozen}, in[0], in[1], in[2], in[3], grad)
	if c.Frozen {
		return gorgonia.Nodes{dh, nil, nil, nil}
	}
	return gorgonia.Nodes{dh, b.Apply(CrossEntropyGradW{}, in[0], in[1], in[2], in[3], grad, dh), nil, nil}
}

// LossOf returns the loss of a CrossEntropy, InfoNCE or Explicit node that was differentiated, as the backward pass finds it on
// its way: a program that wants the gradients and this loss never computes the logits twice.
func LossOf(b *Builder, cost *gorgonia.Node) *gorgonia.Node {
	if b.err != nil {
		return nil
	}
	op, ok := cost.Op().(*Op)
	if !ok || cost.Deriv() == nil {
		return cost
	}
	in := append(Children(b.g, cost), cost.Deriv())
	switch s := op.Spec.(type) {
	case CrossEntropy:
		return b.Apply(CrossEntropyLoss{Both: !s.Frozen}, append(in, b.Apply(CrossEntropyGrad{Both: !s.Frozen}, in...))...)
	case InfoNCE:
		return b.Apply(InfoNCELoss(s), append(in, b.Apply(InfoNCEGrad(s), in...))...)
	case Explicit:
		return b.Apply(ExplicitLoss(s), append(in, b.Apply(ExplicitGrad(s), in...))...)
	}
	return cost
}

// CrossEntropyGrad is (h, W, targets, weights, grad) -> dh [P, d]. It saves the loss (not times grad), then, with
// Both, dW [V, d] from saved value lossPad on.
//
//	dlogits_pv = grad * weights[p] * (softmax_pv - [v = target_p]);  dh = dlogits W;  dW = dlogits' h
type CrossEntropyGrad struct{ Both bool }

// LossPad is the number of saved values before dW: the loss, padded so that dW is aligned.
const LossPad = 16

// Signature implements Spec.
func (CrossEntropyGrad) Signature() ([]Kind, Kind) {
	return []Kind{Matrix, Matrix, Ints, Vector, Scalar}, Matrix
}

// Shape implements Spec.
func (CrossEntropyGrad) Shape(in []tensor.Shape) (tensor.Shape, error) { return in[0].Clone(), nil }

// Saved implements Saver.
func (c CrossEntropyGrad) Saved(in []tensor.Shape) int {
	if !c.Both {
		return LossPad
	}
	return LossPad + in[1][0]*in[1][1]
}

// CrossEntropyGradW is (h, W, targets, weights, grad, dh) -> dW [V, d], saved by dh.
type CrossEntropyGradW struct{}

// Signature implements Spec.
func (CrossEntropyGradW) Signature() ([]Kind, Kind) {
	return []Kind{Matrix, Matrix, Ints, Vector, Scalar, Matrix}, Matrix
}

// Shape implements Spec.
func (CrossEntropyGradW) Shape(in []tensor.Shape) (tensor.Shape, error) { return in[1].Clone(), nil }

// Source implements Second.
func (CrossEntropyGradW) Source() (Spec, int) { return CrossEntropyGrad{Both: true}, LossPad }

// CrossEntropyLoss is (h, W, targets, weights, grad, dh) -> the loss, saved by dh.
type CrossEntropyLoss struct{ Both bool }

// Signature implements Spec.
func (CrossEntropyLoss) Signature() ([]Kind, Kind) {
	return []Kind{Matrix, Matrix, Ints, Vector, Scalar, Matrix}, Scalar
}

// Shape implements Spec.
func (CrossEntropyLoss) Shape([]tensor.Shape) (tensor.Shape, error) { return tensor.Shape{}, nil }

// Source implements Second.
func (c CrossEntropyLoss) Source() (Spec, int) { return CrossEntropyGrad(c), 0 }

// TokenLosses is (h [P, d], W [V, d], targets [P]) -> [P], log sum_v exp(h_p . W_v) - h_p . W_target: the negative
// log-likelihood of each target, for evaluation.
type TokenLosses struct{}

// Signature implements Spec.
func (TokenLosses) Signature() ([]Kind, Kind) { return []Kind{Matrix, Matrix, Ints}, Vector }

// Shape implements Spec.
func (TokenLosses) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("W's width", in[1][1], in[0][1])
	r.same("the number of targets", in[2][0], in[0][0])
	return r.shape(in[0][0])
}
