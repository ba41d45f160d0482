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
	logits := make([]float64, heads)
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
		for i, c := range class {
			row := wide[i*d : (i+1)*d]
			for h := range logits {
				logits[h] = dotWide(w[h*(d+1):h*(d+1)+d], row) + w[h*(d+1)+d]
			}
			loss += logLoss(logits, c) / n // logits become the derivatives
			for h, e := range logits {
				gh := g[h*(d+1) : (h+1)*(d+1)]
				e /= n
				for j, v := range row {
					gh[j] += float64(e * v)
				}
				gh[d] += e
			}
		}
		return loss
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

func dotWide(a, b []float64) float64 {
	b = b[:len(a)]
	sum := 0.0
	for i, v := range a {
		sum += float64(v * b[i])
	}
	return sum
}

// Decision are the logits of an embedding: one for two labels, else one for each.
func (m *Logistic) Decision(x []float32) []float64 {
	out := make([]float64, len(m.Weights))
	for h, w := range m.Weights {
		for j, v := range x {
			out[h] += float64(w[j] * float64(v))
		}
		out[h] += m.Intercepts[h]
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
