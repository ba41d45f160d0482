// Package metric scores embeddings on the tasks that are not retrieval, as mteb does: similarity, pairs, clustering,
// classification, bitext and summaries. Everything is pure, in float64, and the same on every machine.
//
// The definitions are those of mteb 2.26 over scikit-learn 1.9, scipy 1.17 and numpy 2.4; each function names its own.
package metric

import (
	"fmt"
	"math"
)

// Rows are embeddings [N, Width], one after another. They need not be of length one.
type Rows struct {
	Data  []float32
	Width int
}

// Len is N.
func (r Rows) Len() int {
	if r.Width == 0 {
		return 0
	}
	return len(r.Data) / r.Width
}

// Row is embedding i; it is not a copy.
func (r Rows) Row(i int) []float32 { return r.Data[i*r.Width : (i+1)*r.Width] }

// Select copies the rows named, in the order named.
func (r Rows) Select(rows []int) Rows {
	out := Rows{Data: make([]float32, 0, len(rows)*r.Width), Width: r.Width}
	for _, i := range rows {
		out.Data = append(out.Data, r.Row(i)...)
	}
	return out
}

// Scores are a task's scores by mteb's names.
type Scores map[string]float64

// Task is one kind of evaluation with its embeddings and labels.
type Task interface {
	// Score computes every score. A score that is not defined for the data (a correlation with constant gold) is NaN.
	Score() (Scores, error)
	// Main is the name of the score that stands for the task.
	Main() string
}

var (
	_ Task = STS{}
	_ Task = Pairs{}
	_ Task = Classification{}
	_ Task = Clustering{}
	_ Task = ClusteringSets{}
	_ Task = Bitext{}
	_ Task = Summaries{}
)

// NonFiniteError says which row of which side of a task has a NaN or an infinity.
type NonFiniteError struct {
	Side string // as the field of the task is called, in lower case
	Row  int    // from 0
}

func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("the embedding in row %d of %s is not finite", e.Row, e.Side)
}

// check holds rows against the shape that goes with n labels.
func (r Rows) check(side string, n int) error {
	switch {
	case r.Width < 1 || len(r.Data)%r.Width != 0:
		return fmt.Errorf("%s: %d values are not rows of width %d", side, len(r.Data), r.Width)
	case r.Len() != n:
		return fmt.Errorf("%s: %d rows, want %d", side, r.Len(), n)
	case n == 0:
		return fmt.Errorf("%s: no rows", side)
	}
	for i, v := range r.Data {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return &NonFiniteError{Side: side, Row: i / r.Width}
		}
	}
	return nil
}

// checkPair holds two sides of equal width, n rows each, against their shapes.
func checkPair(a, b string, x, y Rows, n int) error {
	if x.Width != y.Width {
		return fmt.Errorf("%s and %s: widths %d and %d differ", a, b, x.Width, y.Width)
	}
	if err := x.check(a, n); err != nil {
		return err
	}
	return y.check(b, n)
}

// mean and deviation (of the population) of values.
func meanAndDeviation(values []float64) (mean, deviation float64) {
	for _, v := range values {
		mean += v
	}
	mean /= float64(len(values))
	for _, v := range values {
		deviation += float64((v - mean) * (v - mean))
	}
	return mean, math.Sqrt(deviation / float64(len(values)))
}
