package ops

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Linear is (x [T, k], W [n, k], b [n] if Bias) -> x W' + b.
type Linear struct {
	Bias   bool
	Frozen bool // W and b have no gradient
}

// Signature implements Spec.
func (l Linear) Signature() ([]Kind, Kind) {
	if l.Bias {
		return []Kind{Matrix, Matrix, Vector}, Matrix
	}
	return []Kind{Matrix, Matrix}, Matrix
}

// Shape implements Spec.
func (l Linear) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("x's width", in[0][1], in[1][1])
	if l.Bias {
		r.same("b's length", in[2][0], in[1][0])
	}
	return r.shape(in[0][0], in[1][0])
}

// Wants implements Differentiable.
func (l Linear) Wants() []bool {
	if l.Bias {
		return []bool{true, !l.Frozen, !l.Frozen}
	}
	return []bool{true, !l.Frozen}
}

// Grad implements Differentiable.
func (l Linear) Grad(b *Builder, in gorgonia.Nodes, _, grad *gorgonia.Node) gorgonia.Nodes {
	out := make(gorgonia.Nodes, len(in))
	out[0] = b.Apply(LinearGradX{}, grad, in[1])
	if !l.Frozen {
		out[1] = b.Apply(LinearGradW{}, grad, in[0])
		if l.Bias {
			out[2] = b.Apply(SumRows{}, grad)
		}
	}
	return out
}

// LinearGradX is (dy [T, n], W [n, k]) -> dy W.
type LinearGradX struct{}

// Signature implements Spec.
func (LinearGradX) Signature() ([]Kind, Kind) { return []Kind{Matrix, Matrix}, Matrix }

// Shape implements Spec.
func (LinearGradX) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("dy's width", in[0][1], in[1][0])
	return r.shape(in[0][0], in[1][1])
}

// LinearGradW is (dy [T, n], x [T, k]) -> dy' x [n, k].
type LinearGradW struct{}

// Signature implements Spec.
func (LinearGradW) Signature() ([]Kind, Kind) { return []Kind{Matrix, Matrix}, Matrix }

// Shape implements Spec.
func (LinearGradW) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("x's rows", in[1][0], in[0][0])
	return r.shape(in[0][1], in[1][1])
}

// SumRows is dy [T, n] -> the sum of its rows [n].
type SumRows struct{}

// Signature implements Spec.
func (SumRows) Signature() ([]Kind, Kind) { return []Kind{Matrix}, Vector }

// Shape implements Spec.
func (SumRows) Shape(in []tensor.Shape) (tensor.Shape, error) { return tensor.Shape{in[0][1]}, nil }

// Dropout says which numbers of Philox drop the input of an adapter: those at (seed, Site), (step, text, token,
// element). Its inputs are texts [B] (identities), cu [B+1] and step [1]. Rate 0 drops nothing and reads none of them.
type Dropout struct {
	Rate float64
	Seed uint64
	Site uint32
}

// Down is the first half of the LoRA adapters of a fused linear: (x [T, k], A [r, k], texts [B], cu [B+1], step [1])
// -> Scale * drop(x) A' [T, r]. Adapters that read the same x share one A, their rows one after another, and one
// dropout mask.
type Down struct {
	Scale   float32
	Dropout Dropout
}

// Signature implements Spec.
func (Down) Signature() ([]Kind, Kind) { return []Kind{Matrix, Matrix, Ints, Ints, Ints}, Matrix }

// Shape implements Spec.
func (Down) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("x's width", in[0][1], in[1][1])
	r.same("cu's length", in[3][0], in[2][0]+1)
	return r.shape(in[0][0], in[1][0])
}

// Wants implements Differentiable.
func (Down) Wants() []bool { return []bool{true, true, false, false, false} }

// Grad implements Differentiable.
func (d Down) Grad(b *Builder, in gorgonia.Nodes, _, grad *gorgonia.Node) gorgonia.Nodes {
	dx := b.Apply(DownGradX(d), grad, in[1], in[2], in[3], in[4])
	da := b.Apply(DownGradA(d), grad, in[0], in[2], in[3], in[4])
	return gorgonia.Nodes{dx, da, nil, nil, nil}
}

// DownGradX is (dh [T, r], A [r, k], texts, cu, step) -> Scale * drop(dh A) [T, k], by the mask of the forward.
type DownGradX struct {
	Scale   float32
	Dropout Dropout
}

// Signature implements Spec.
func (DownGradX) Signature() ([]Kind, Kind) { return []Kind{Matrix, Matrix, Ints, Ints, Ints}, Matrix }

// Shape implements Spec.
func (DownGradX) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("dh's width", in[0][1], in[1][0])
	return r.shape(in[0][0], in[1][1])
}

// DownGradA is (dh [T, r], x [T, k], texts, cu, step) -> Scale * dh' drop(x) [r, k].
type DownGradA struct {
	Scale   float32
	Dropout Dropout
}

// Signature implements Spec.
func (DownGradA) Signature() ([]Kind, Kind) { return []Kind{Matrix, Matrix, Ints, Ints, Ints}, Matrix }

// Shape implements Spec.
func (DownGradA) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("x's rows", in[1][0], in[0][0])
	return r.shape(in[0][1], in[1][1])
}

// Part is one adapted matrix of a fused linear: columns [Offset, Offset+Width) of the output, an adapter of its own rank,
// and a factor of it besides Down's.
type Part struct {
	Offset, Width int
	Rank          int
	Scale         float32
}

// Parts are the adapters of a fused linear. Adapter i reads the next Rank columns of h; its B [Width, Rank] is the next
// values of the stacked B.
type Parts []Part

// Ranks returns the sum of the ranks: h's width.
func (p Parts) Ranks() int {
	n := 0
	for _, part := range p {
		n += part.Rank
	}
	return n
}

// Shape returns that of the stacked B: [sum of widths, rank], or, of adapters with different ranks, [values, 1].
func (p Parts) Shape() (rows, columns int) {
	columns = p[0].Rank
	for _, part := range p {
		if part.Rank != p[0].Rank {
			columns = 1
		}
	}
	for _, part := range p {
		rows += part.Width * part.Rank / columns
	}
	return rows, columns
}

// Up is a frozen linear with the second half of its adapters: (x [T, k], W [n, k], h [T, r], B, b [n] if Bias) ->
// x W' + b, plus Scale_i h_i B_i' on the columns of each part i; r and the shape of B are those of Parts.
type Up struct {
	Bias  bool
	Parts Parts
}

// Signature implements Spec.
func (u Up) Signature() ([]Kind, Kind) {
	if u.Bias {
		return []Kind{Matrix, Matrix, Matrix, Matrix, Vector}, Matrix
	}
	return []Kind{Matrix, Matrix, Matrix, Matrix}, Matrix
}

// Shape implements Spec.
func (u Up) Shape(in []tensor.Shape) (tensor.Shape, error) {
	var r rule
	r.same("x's width", in[0][1], in[1][1])
	r.same("h's rows", in[2][0], in[0][0])
	rows, columns := u.Parts.Shape()
	r.same("h's width", in[2][1], u.Parts.Ranks())
	r.same("B's rows", in[3][0], rows)
	r.same("B's width", in[3][1], columns)
	if u.Bias {
		r.same("b's length", in[4][0], in[1][0])
	}
	return r.shape(in[0][0], in[1][0])
}

// Wants implements Differentiable.
func (u Up) Wants() []bool {
	if u.Bias {
		return []bool{true, false, true, true, false}
	}
	return []bool{true, false, true, true}
}

// Grad implements Differentiable.
func (u Up) Grad(b *Builder, in gorgonia.Nodes, _, grad *gorgonia.Node) gorgonia.Nodes {
	out := make(gorgonia.Nodes, len(in))
	out[0] = b.Apply(LinearGradX{}, grad, in[1])
	out[2] = b.Apply(UpGradH{u.Parts}, grad, in[3])
	out[3] = b.Apply(UpGradB{u.Parts}, grad, in[2])
	return out
}

// UpGradH is (dy [T, n], B) -> dh [T, r], dh_i = Scale_i dy_i B_i.
type UpGradH struct{ Parts Parts }

// Signature implements Spec.
func (UpGradH) Signature() ([]Kind, Kind) { return []Kind{Matrix, Matrix}, Matrix }

// Shape implements Spec.
func (u UpGradH) Shape(in []tensor.Shape) (tensor.Shape, error) {
	return tensor.Shape{in[0][0], u.Parts.Ranks()}, nil
}

// UpGradB is (dy [T, n], h [T, r]) -> dB, dB_i = Scale_i dy_i' h_i.
type UpGradB struct{ Parts Parts }

// Signature implements Spec.
func (UpGradB) Signature() ([]Kind, Kind) { return []Kind{Matrix, Matrix}, Matrix }

// Shape implements Spec.
func (u UpGradB) Shape([]tensor.Shape) (tensor.Shape, error) {
	rows, columns := u.Parts.Shape()
	return tensor.Shape{rows, columns}, nil
}
