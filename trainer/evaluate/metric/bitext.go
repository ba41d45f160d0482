package metric

import (
	"fmt"
	"math"
)

// Bitext is bitext mining: the row of Y nearest to X[i] by cosine should be row i, or Gold[i] (mteb's
// AbsTaskBitextMining).
type Bitext struct {
	X, Y Rows
	Gold []int // nil: the same row
}

// Main is f1.
func (Bitext) Main() string { return "f1" }

// Score has accuracy, and precision, recall and f1 weighted over the rows that are right answers.
func (t Bitext) Score() (Scores, error) {
	gold := t.Gold
	if gold == nil {
		gold = sequence(t.X.Len())
	}
	found, err := t.Nearest()
	if err != nil {
		return nil, err
	}
	all, err := LabelScores(gold, found)
	if err != nil {
		return nil, err
	}
	return Scores{"accuracy": all["accuracy"], "precision": all["precision_weighted"], "recall": all["recall_weighted"], "f1": all["f1_weighted"]}, nil
}

// Nearest is the row of Y with the greatest cosine to each row of X; of equals the first.
func (t Bitext) Nearest() ([]int, error) {
	n := t.X.Len()
	if t.Gold != nil {
		n = len(t.Gold)
	}
	if err := t.Y.check("y", t.Y.Len()); err != nil {
		return nil, err
	}
	if t.X.Width != t.Y.Width {
		return nil, fmt.Errorf("x and y: widths %d and %d differ", t.X.Width, t.Y.Width)
	}
	if err := t.X.check("x", n); err != nil {
		return nil, err
	}
	x, y, d := t.X.unit(), t.Y.unit(), t.X.Width
	out := make([]int, n)
	share(n, 64, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			best := math.Inf(-1)
			for j := range t.Y.Len() {
				if v := dotWide(x[i*d:(i+1)*d], y[j*d:(j+1)*d]); v > best {
					out[i], best = j, v
				}
			}
		}
	})
	return out, nil
}

// unit are the rows scaled to length one, a zero row as it is: [N, width].
func (r Rows) unit() []float64 {
	out := make([]float64, len(r.Data))
	for i := range r.Len() {
		n := norm(r.Row(i))
		for j, v := range r.Row(i) {
			out[i*r.Width+j] = float64(v) / n
		}
	}
	return out
}
