package metric

import (
	"fmt"
	"slices"
)

// LabelScores compares predicted labels with true ones (scikit-learn). With tp, fp and fn counted for each label of
// the union of both,
//
//	precision = tp / (tp + fp)    recall = tp / (tp + fn)    f1 = 2 tp / (2 tp + fp + fn)      0 where undefined
//
// precision, recall and f1 are plain means over the labels, *_weighted means weighted by true counts. Where there are
// two true labels and 1 is one of them, ap and ap_weighted are the average precision of the predicted labels taken as
// scores, as mteb computes it: not that of probabilities.
func LabelScores(labels, predictions []int) (Scores, error) {
	if len(labels) == 0 || len(labels) != len(predictions) {
		return nil, fmt.Errorf("compare %d labels with %d predictions", len(labels), len(predictions))
	}
	truth := distinct(labels)
	union := distinct(append(slices.Clone(labels), predictions...))
	tp, actual, predicted := map[int]int{}, map[int]int{}, map[int]int{}
	right := 0
	for i, label := range labels {
		actual[label]++
		predicted[predictions[i]]++
		if label == predictions[i] {
			tp[label]++
			right++
		}
	}
	n := float64(len(labels))
	out := Scores{"accuracy": float64(right) / n}
	for _, label := range union {
		hit := float64(tp[label])
		for name, value := range map[string]float64{
			"precision": ratio(hit, float64(predicted[label])),
			"recall":    ratio(hit, float64(actual[label])),
			"f1":        ratio(2*hit, float64(actual[label]+predicted[label])),
		} {
			out[name] += value / float64(len(union))
			out[name+"_weighted"] += value * (float64(actual[label]) / n)
		}
	}
	if len(truth) == 2 && slices.Contains(truth, 1) {
		positive := make([]int, len(labels))
		scores := make([]float64, len(labels))
		for i, label := range labels {
			if label == 1 {
				positive[i] = 1
			}
			scores[i] = float64(predictions[i])
		}
		ap := Divide(scores, positive).AP
		out["ap"], out["ap_weighted"] = ap, ap
	}
	return out, nil
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// distinct are the labels that occur, ascending.
func distinct(labels []int) []int {
	out := slices.Clone(labels)
	slices.Sort(out)
	return slices.Compact(out)
}
