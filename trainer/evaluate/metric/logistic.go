package metric

import (
	"fmt"
	"math"
	"slices"
)

// LogisticOptions are when the fit stops; zero values stand for those of scikit-learn.
type LogisticOptions struct {
	Tolerance  float64 // 1e-4: greatest component of the gradient of the objective over the number of rows
	Iterations int     // 100
	Decrease   float64 // 64 * 2^-52: least relative decrease of an iteration
}

// Logistic is a logistic regression with an L2 penalty on the weights (scikit-learn's LogisticRegression, C = 1).
type Logistic struct {
	Classes    []int       // the labels, ascending
	Weights    [][]float64 // [1, width] for two labels, else [labels, width]
	Intercepts []float64
	Objective  float64 // at the end
	Iterations int
}

// FitLogistic minimises, from zero and by L-BFGS,
//
//	sum over rows of -log p(y_i | x_i)  +  |W|^2 / 2
//
// the intercepts are free of the penalty. With two labels p(1) = 1 / (1 + exp(-(w.x + b))), with more p is the softmax
// of W x + b.
func FitLogistic(x Rows, labels []int, o LogisticOptions) (*Logistic, error) {
	if err := x.check("train", len(labels)); err != nil {
		return nil, err
	}
	if o.Tolerance == 0 {
		o.Tolerance = 1e-4
	}
	if o.Iterations == 0 {
		o.Iterations = 100
	}
	if o.Decrease == 0 {
		o.Decrease = 64.0 / (1 << 52)
	}
	m := &Logistic{Classes: distinct(labels)}
	if len(m.Classes) < 2 {
		return nil, fmt.Errorf("fit a logistic regression: all %d rows have the label %d; two labels are needed", len(labels), labels[0])
	}
	heads := len(m.Classes)
	if heads == 2 {
		heads = 1
	}
	d := x.Width
	wide := make([]float64, len(x.Data))
	for i, v := range x.Data {
		wide[i] = float64(v)
	}
	class := make([]int, len(labels))
	for i, label := range labels {
		class[i], _ = slices.BinarySearch(m.Classes, label)
	}
	n := float64(len(labels))
	// As scikit-learn does, the mean over the rows is minimised, which says what the tolerance means.
	objective := func(w, g []float64) float64 { // w: heads rows of d weights and an intercept
		loss := 0.0
		for h := range heads {
			for j := range d {
				v := w[h*(d+1)+j]
				loss += float64(v*v) / (2 * n)
				g[h*(d+1)+j] = v / n
			}
			g[h*(d+1)+d] = 0
		}
		return loss + dataLoss(wide, class, w, g, d)/n
	}
	w := make([]float64, heads*(d+1))
	m.Objective, m.Iterations = minimise(objective, w, o.Tolerance, o.Decrease, o.Iterations)
	m.Objective *= n
	for h := range heads {
		m.Weights = append(m.Weights, w[h*(d+1):h*(d+1)+d])
		m.Intercepts = append(m.Intercepts, w[h*(d+1)+d])
	}
	return m, nil
}

// dataLoss is the sum over the rows of -log p(class), and adds its gradient over the number of rows to g. Rows are
// taken by fours, so that each weight is read once for four of them.
func dataLoss(wide []float64, class []int, w, g []float64, d int) float64 {
	heads, loss := len(w)/(d+1), 0.0
	var logits [4][]float64
	for r := range logits {
		logits[r] = make([]float64, heads)
	}
	empty := make([]float64, d)
	for i := 0; i < len(class); i += 4 {
		var x [4][]float64
		for r := range x {
			if x[r] = empty; i+r < len(class) {
				x[r] = wide[(i+r)*d : (i+r+1)*d]
			}
		}
		for h := range heads {
			wh := w[h*(d+1) : (h+1)*(d+1)]
			s0, s1, s2, s3 := wh[d], wh[d], wh[d], wh[d]
			x0, x1, x2, x3 := x[0], x[1][:len(x[0])], x[2][:len(x[0])], x[3][:len(x[0])]
			for j, v := range wh[:len(x0)] {
				s0 += float64(v * x0[j])
				s1 += float64(v * x1[j])
				s2 += float64(v * x2[j])
				s3 += float64(v * x3[j])
			}
			logits[0][h], logits[1][h], logits[2][h], logits[3][h] = s0, s1, s2, s3
		}
		for r := range logits {
			if i+r < len(class) {
				loss += logLoss(logits[r], class[i+r]) // logits become the derivatives
			} else {
				clear(logits[r])
			}
		}
		n := float64(len(class))
		for h := range heads {
			gh := g[h*(d+1) : (h+1)*(d+1)]
			e0, e1, e2, e3 := logits[0][h]/n, logits[1][h]/n, logits[2][h]/n, logits[3][h]/n
			x0, x1, x2, x3 := x[0], x[1][:len(x[0])], x[2][:len(x[0])], x[3][:len(x[0])]
			row := gh[:len(x0)]
			for j := range row {
				row[j] += (float64(e0*x0[j]) + float64(e1*x1[j])) + (float64(e2*x2[j]) + float64(e3*x3[j]))
			}
			gh[d] += (e0 + e1) + (e2 + e3)
		}
	}
	return loss
}

// logLoss is -log p(class), and puts its derivative by the logits into them.
func logLoss(logits []float64, class int) float64 {
	if len(logits) == 1 {
		z := logits[0]
		if class == 1 {
			logits[0] = -1 / (1 + math.Exp(z))
			return softplus(-z)
		}
		logits[0] = 1 / (1 + math.Exp(-z))
		return softplus(z)
	}
	sum := logSumExp(logits)
	loss := sum - logits[class]
	for h := range logits {
		logits[h] = math.Exp(logits[h] - sum)
	}
	logits[class]--
	return loss
}

// softplus is log(1 + exp(z)).
func softplus(z float64) float64 { return max(z, 0) + math.Log1p(math.Exp(-math.Abs(z))) }

// dotWide is a.b, as four sums that are added in the end: (s0 + s1) + (s2 + s3).
func dotWide(a, b []float64) float64 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float64
	i := 0
	for ; i+4 <= len(a); i += 4 {
		x, y := a[i:i+4:i+4], b[i:i+4:i+4]
		s0 += float64(x[0] * y[0])
		s1 += float64(x[1] * y[1])
		s2 += float64(x[2] * y[2])
		s3 += float64(x[3] * y[3])
	}
	for ; i < len(a); i++ {
		s0 += float64(a[i] * b[i])
	}
	return (s0 + s1) + (s2 + s3)
}

// Decision are the logits of an embedding: one for two labels, else one for each.
func (m *Logistic) Decision(x []float32) []float64 {
	wide := make([]float64, len(x))
	for j, v := range x {
		wide[j] = float64(v)
	}
	out := make([]float64, len(m.Weights))
	for h, w := range m.Weights {
		out[h] = dotWide(w, wide) + m.Intercepts[h]
	}
	return out
}

// Predict is the most probable label of each row; of equals the first.
func (m *Logistic) Predict(x Rows) []int {
	out := make([]int, x.Len())
	for i := range out {
		logits := m.Decision(x.Row(i))
		best := 0
		if len(logits) == 1 {
			if logits[0] > 0 {
				best = 1
			}
		} else {
			for h, z := range logits {
				if z > logits[best] {
					best = h
				}
			}
		}
		out[i] = m.Classes[best]
	}
	return out
}
