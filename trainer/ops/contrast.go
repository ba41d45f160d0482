package ops

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// InfoNCE is the contrastive loss over a gathered batch: (E [R, d], documents [R-Q]) -> scalar. Rows 0..Q-1 of E are
// the queries, row Q+j is document j; query i's positive is document i. With s_ij = E_i . E_(Q+j) / Temperature,
//
//	L = 1/Q sum_i [ log sum_j exp(s_ij) - s_ii ]
//
// With Masked, j != i is left out of row i where documents[j] = documents[i] (van den Oord et al. 2018, eq. 4; false
// negatives by identity); with Margin also where E_i . E_(Q+j) is above its bound (false negatives by similarity). Symmetric
// averages L with the loss of documents 0..Q-1 over the queries. What is left out has no gradient by what leaves it out.
type InfoNCE struct {
	Temperature float64
	Masked      bool
	Symmetric   bool
	Margin      Margin
}

// Margin leaves candidates out that are too similar to an anchor to be its negatives: those whose product with it is above p +
// Value, p being that of the right one; Relative: above p + Value |p|. Not On, it leaves none out.
type Margin struct {
	On       bool
	Value    float64
	Relative bool
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

// Explicit is RepLLaMA's loss over a gathered batch: (E [R, d], negatives [Q]) -> scalar. Rows 0..Q-1 of E are the
// queries, row Q+i the positive of query i, and its negatives[i] negatives follow those of the query before it, from row 2Q
// on. With z_ij = E_i . d_ij / d, d_i0 the positive and d_i1, ... the negatives of query i,
//
//	L = 1/Q sum_i [ log sum_j exp(z_ij) - z_i0 ]
type Explicit struct{}

// Signature implements Spec.
func (Explicit) Signature() ([]Kind, Kind) { return []Kind{Matrix, Ints}, Scalar }

// Shape implements Spec.
func (Explicit) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	if q := in[1][0]; q < 1 || 2*q > in[0][0] {
		r.same("the number of queries (at least 1, and no more than half of the rows)", q, in[0][0]/2)
	}
	return r.shape()
}

// Wants implements Differentiable.
func (Explicit) Wants() []bool { return []bool{true, false} }

// Grad implements Differentiable.
func (x Explicit) Grad(b *Builder, in gorgonia.Nodes, _, grad *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{b.Apply(ExplicitGrad(x), in[0], in[1], grad), nil}
}

// ExplicitGrad is (E [R, d], negatives [Q], grad) -> dE [R, d]. It saves the loss (not times grad).
type ExplicitGrad Explicit

// Signature implements Spec.
func (ExplicitGrad) Signature() ([]Kind, Kind) { return []Kind{Matrix, Ints, Scalar}, Matrix }

// Shape implements Spec.
func (ExplicitGrad) Shape(in []tensor.Shape) (tensor.Shape, error) { return in[0].Clone(), nil }

// Saved implements Saver.
func (ExplicitGrad) Saved([]tensor.Shape) int { return LossPad }

// ExplicitLoss is (E, negatives, grad, dE) -> the loss, saved by dE.
type ExplicitLoss Explicit

// Signature implements Spec.
func (ExplicitLoss) Signature() ([]Kind, Kind) { return []Kind{Matrix, Ints, Scalar, Matrix}, Scalar }

// Shape implements Spec.
func (ExplicitLoss) Shape([]tensor.Shape) (tensor.Shape, error) { return tensor.Shape{}, nil }

// Source implements Second.
func (x ExplicitLoss) Source() (Spec, int) { return ExplicitGrad(x), 0 }
