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

// LossOf returns the loss of a CrossEntropy or InfoNCE node that was differentiated, as the backward pass finds it on
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

// InfoNCE is the contrastive loss over a gathered batch: (E [R, d], documents [R-Q]) -> scalar. Rows 0..Q-1 of E are
// the queries, row Q+j is document j; query i's positive is document i. With s_ij = E_i . E_(Q+j) / Temperature,
//
//	L = 1/Q sum_i [ log sum_j exp(s_ij) - s_ii ]
//
// With Masked, j != i is left out of row i where documents[j] = documents[i] (van den Oord et al. 2018, eq. 4; false
// negatives by identity). Symmetric averages L with the loss of documents 0..Q-1 over the queries.
type InfoNCE struct {
	Temperature float64
	Masked      bool
	Symmetric   bool
}

// Signature implements Spec.
func (InfoNCE) Signature() ([]Kind, Kind) { return []Kind{Matrix, Ints}, Scalar }

// Shape implements Spec.
func (InfoNCE) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	if q := in[0][0] - in[1][0]; q < 1 || q > in[1][0] {
		r.same("the number of queries (rows less documents, and no more than documents)", q, in[1][0])
	}
	return r.shape()
}

// Wants implements Differentiable.
func (InfoNCE) Wants() []bool { return []bool{true, false} }

// Grad implements Differentiable.
func (n InfoNCE) Grad(b *Builder, in gorgonia.Nodes, _, grad *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{b.Apply(InfoNCEGrad(n), in[0], in[1], grad), nil}
}

// InfoNCEGrad is (E [R, d], documents [R-Q], grad) -> dE [R, d]. It saves the loss (not times grad).
type InfoNCEGrad InfoNCE

// Signature implements Spec.
func (InfoNCEGrad) Signature() ([]Kind, Kind) { return []Kind{Matrix, Ints, Scalar}, Matrix }

// Shape implements Spec.
func (InfoNCEGrad) Shape(in []tensor.Shape) (tensor.Shape, error) { return in[0].Clone(), nil }

// Saved implements Saver.
func (InfoNCEGrad) Saved([]tensor.Shape) int { return LossPad }

// InfoNCELoss is (E, documents, grad, dE) -> the loss, saved by dE.
type InfoNCELoss InfoNCE

// Signature implements Spec.
func (InfoNCELoss) Signature() ([]Kind, Kind) { return []Kind{Matrix, Ints, Scalar, Matrix}, Scalar }

// Shape implements Spec.
func (InfoNCELoss) Shape([]tensor.Shape) (tensor.Shape, error) { return tensor.Shape{}, nil }

// Source implements Second.
func (n InfoNCELoss) Source() (Spec, int) { return InfoNCEGrad(n), 0 }
