package metric

import "math"

// Similarity compares two embeddings; the greater, the more alike.
type Similarity func(x, y []float32) float64

// Dot is sum x_i y_i.
func Dot(x, y []float32) float64 {
	sum := 0.0
	for i, v := range x {
		sum += float64(v) * float64(y[i]) // the product of two float32 is exact
	}
	return sum
}

// Manhattan is -sum |x_i - y_i|.
func Manhattan(x, y []float32) float64 {
	sum := 0.0
	for i, v := range x {
		sum += math.Abs(float64(v) - float64(y[i]))
	}
	return -sum
}

// Euclidean is -sqrt(sum (x_i - y_i)^2).
func Euclidean(x, y []float32) float64 {
	sum := 0.0
	for i, v := range x {
		d := float64(v) - float64(y[i])
		sum += float64(d * d)
	}
	return -math.Sqrt(sum)
}

// Cosine is
//
//	1 - |x/|x| - y/|y||^2 / 2
//
// as scikit-learn's paired_cosine_distances has it: embeddings that are equal give exactly 1, and tie, which
// x.y / (|x||y|) does not do. A zero vector stays zero, so that its cosine with another is 1/2.
func Cosine(x, y []float32) float64 {
	a, b := norm(x), norm(y)
	sum := 0.0
	for i, v := range x {
		d := float64(v)/a - float64(y[i])/b
		sum += float64(d * d)
	}
	return 1 - sum/2
}

// norm is |x|, and 1 for a zero vector, which then stays zero when divided by it.
func norm(x []float32) float64 {
	n := math.Sqrt(Dot(x, x))
	if n == 0 {
		return 1
	}
	return n
}

// similarities are the kinds of mteb, by the names of its scores. The first is the model's own similarity, which is
// the cosine here.
var similarities = []struct {
	name string
	of   Similarity
}{
	{"similarity", Cosine},
	{"cosine", Cosine},
	{"manhattan", Manhattan},
	{"euclidean", Euclidean},
	{"dot", Dot},
}

// paired compares row i of x with row i of y.
func (s Similarity) paired(x, y Rows) []float64 {
	out := make([]float64, x.Len())
	for i := range out {
		out[i] = s(x.Row(i), y.Row(i))
	}
	return out
}
