package metric

import (
	"errors"
	"fmt"
	"math"
)

// Classification fits logistic regressions on small samples of the training embeddings and predicts the labels of the
// test embeddings (mteb's AbsTaskClassification). Zero values of the settings stand for mteb's.
type Classification struct {
	Train, Test             Rows
	TrainLabels, TestLabels []int
	Experiments             int    // 10
	PerLabel                int    // 8 rows of each label
	Seed                    uint32 // 42; 0 is not available
	Logistic                LogisticOptions
}

// Experiment is one sample of the training rows, and what its regression predicts.
type Experiment struct {
	Rows        []int // in the order fitted
	Iterations  int
	Predictions []int
	Scores      Scores
}

// Main is accuracy.
func (Classification) Main() string { return "accuracy" }

func (t Classification) defaults() Classification {
	if t.Experiments == 0 {
		t.Experiments = 10
	}
	if t.PerLabel == 0 {
		t.PerLabel = 8
	}
	if t.Seed == 0 {
		t.Seed = 42
	}
	return t
}

// Score has the means over the experiments of every score of LabelScores.
func (t Classification) Score() (Scores, error) {
	experiments, err := t.Run()
	if err != nil {
		return nil, err
	}
	return MeanScores(experiments), nil
}

// MeanScores are the means of the experiments' scores; each over the experiments that have it.
func MeanScores(experiments []Experiment) Scores {
	out, n := Scores{}, map[string]int{}
	for _, e := range experiments {
		for name, value := range e.Scores {
			out[name] += value
			n[name]++
		}
	}
	for name := range out {
		out[name] /= float64(n[name])
	}
	return out
}

// Run does the experiments, on all threads; they do not depend on one another.
func (t Classification) Run() ([]Experiment, error) {
	t = t.defaults()
	if t.Train.Width != t.Test.Width {
		return nil, fmt.Errorf("train and test: widths %d and %d differ", t.Train.Width, t.Test.Width)
	}
	if err := t.Train.check("train", len(t.TrainLabels)); err != nil {
		return nil, err
	}
	if err := t.Test.check("test", len(t.TestLabels)); err != nil {
		return nil, err
	}
	samples := Undersample(t.TrainLabels, t.Seed, t.PerLabel, t.Experiments)
	out, failed := make([]Experiment, len(samples)), make([]error, len(samples))
	share(len(samples), 1, func(lo, hi int) {
		for n := lo; n < hi; n++ {
			if out[n], failed[n] = t.experiment(samples[n]); failed[n] != nil {
				failed[n] = fmt.Errorf("experiment %d: %w", n, failed[n])
			}
		}
	})
	return out, errors.Join(failed...)
}

func (t Classification) experiment(rows []int) (Experiment, error) {
	labels := make([]int, len(rows))
	for i, row := range rows {
		labels[i] = t.TrainLabels[row]
	}
	model, err := FitLogistic(t.Train.Select(rows), labels, t.Logistic)
	if err != nil {
		return Experiment{}, err
	}
	e := Experiment{Rows: rows, Iterations: model.Iterations, Predictions: model.Predict(t.Test)}
	e.Scores, err = LabelScores(t.TestLabels, e.Predictions)
	return e, err
}

// Undersample draws the training rows of mteb's experiments: the first perLabel rows of each label in a shuffled
// order. Each experiment shuffles with a generator freshly seeded, but shuffles the list that the one before left.
func Undersample(labels []int, seed uint32, perLabel, experiments int) [][]int {
	list := sequence(len(labels))
	out := make([][]int, experiments)
	for e := range out {
		NewNumpy(seed).Shuffle(list)
		taken := map[int]int{}
		for _, row := range list {
			if label := labels[row]; taken[label] < perLabel {
				taken[label]++
				out[e] = append(out[e], row)
			}
		}
	}
	return out
}

// logSumExp is log sum exp(v), without overflow.
func logSumExp(v []float64) float64 {
	top := math.Inf(-1)
	for _, x := range v {
		top = max(top, x)
	}
	sum := 0.0
	for _, x := range v {
		sum += math.Exp(x - top)
	}
	return top + math.Log(sum)
}
