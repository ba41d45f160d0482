package metric

import "fmt"

// Pairs is pair classification: whether the similarity of X[i] and Y[i] tells pairs labelled 1 from pairs labelled 0
// (mteb's AbsTaskPairClassification).
type Pairs struct {
	X, Y   Rows // [N, width] each
	Labels []int
}

// Main is max_ap.
func (Pairs) Main() string { return "max_ap" }

// Score has K_accuracy, K_f1, K_precision, K_recall and K_ap for K = similarity (the model's own, the cosine), cosine,
// manhattan, euclidean and dot, and max_* for the best over the kinds.
func (t Pairs) Score() (Scores, error) {
	if err := checkPair("x", "y", t.X, t.Y, len(t.Labels)); err != nil {
		return nil, err
	}
	for i, label := range t.Labels {
		if label != 0 && label != 1 {
			return nil, fmt.Errorf("pair %d: label %d; 0 and 1 are allowed", i, label)
		}
	}
	out := Scores{}
	for k, kind := range similarities {
		d := Divide(kind.of.paired(t.X, t.Y), t.Labels)
		for name, value := range map[string]float64{"accuracy": d.Accuracy, "f1": d.F1, "precision": d.Precision, "recall": d.Recall, "ap": d.AP} {
			out[kind.name+"_"+name] = value
			if best, ok := out["max_"+name]; k == 0 || !ok || value > best {
				out["max_"+name] = value
			}
		}
	}
	return out, nil
}

// Division is how well one threshold can divide positives from negatives.
type Division struct {
	Accuracy, AccuracyThreshold float64 // the best accuracy, and where
	F1, Precision, Recall       float64 // the best F1, and precision and recall there
	F1Threshold                 float64
	AP                          float64 // average precision over all thresholds
}

// Divide tries every threshold between distinct neighbouring scores; a pair is held to be positive at or above it.
// Accuracy and F1 are the best of them, the first where several are equal. "Everything is positive" is not tried, as
// mteb never cuts below the last score. A threshold is the mean of its neighbours: -1 (accuracy) and 0 (F1) where
// nothing beats 0. With P and R the precision and recall after the n-th distinct score (scikit-learn):
//
//	AP = sum over n of (R_n - R_n-1) P_n        0 where nothing is positive
func Divide(scores []float64, labels []int) Division {
	order := sortedOrder(negated(scores))
	positives := 0
	for _, label := range labels {
		positives += label
	}
	d := Division{AccuracyThreshold: -1}
	found, before := 0, 0 // positives at or above the threshold, and above the last block
	for n, i := range order {
		found += labels[i]
		if n+1 < len(order) && scores[order[n+1]] == scores[i] {
			continue
		}
		precision := float64(found) / float64(n+1)
		if positives > 0 {
			d.AP += float64(float64(found-before) / float64(positives) * precision)
		}
		before = found
		if n+1 == len(order) {
			break
		}
		threshold := (scores[i] + scores[order[n+1]]) / 2
		negatives := len(order) - positives - (n + 1 - found) // below the threshold
		if accuracy := float64(found+negatives) / float64(len(order)); accuracy > d.Accuracy {
			d.Accuracy, d.AccuracyThreshold = accuracy, threshold
		}
		if found == 0 {
			continue
		}
		recall := float64(found) / float64(positives)
		if f1 := 2 * precision * recall / (precision + recall); f1 > d.F1 {
			d.F1, d.Precision, d.Recall, d.F1Threshold = f1, precision, recall, threshold
		}
	}
	return d
}

func negated(x []float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = -v
	}
	return out
}
