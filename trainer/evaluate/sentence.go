package evaluate

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data"
)

// SentenceTransformers returns what its InformationRetrievalEvaluator reports: accuracy, precision, recall, ndcg, mrr
// and map @k. Its rules are others than trec_eval's: scores tie in float64 and then by id ascending, every positive
// grade is a gain of 1, AP is divided by min(k, R), and the mean is over the
// queries of the run with a relevant document.
func SentenceTransformers(run Run, qrels data.Qrels, cuts ...int) map[string]float64 {
	out := map[string]float64{}
	n := 0.0
	for _, query := range sortedKeys(qrels) {
		judged := qrels[query]
		relevant := 0
		for _, grade := range judged {
			relevant += min(1, max(0, grade))
		}
		hits, ok := run[query]
		if !ok || relevant == 0 {
			continue
		}
		n++
		hits = slices.Clone(hits)
		slices.SortFunc(hits, func(a, b Hit) int {
			switch {
			case a.Score > b.Score:
				return -1
			case a.Score < b.Score:
				return 1
			}
			return strings.Compare(a.Document, b.Document)
		})
		for _, k := range cuts {
			var found, ap, dcg, best, first float64
			for i, h := range hits[:min(k, len(hits))] {
				if judged[h.Document] < 1 {
					continue
				}
				found++
				ap += found / float64(i+1)
				dcg += 1 / math.Log2(float64(i+2))
				if first == 0 {
					first = 1 / float64(i+1)
				}
			}
			for i := range min(k, relevant) {
				best += 1 / math.Log2(float64(i+2))
			}
			for name, value := range map[string]float64{
				"accuracy": min(1, found), "precision": found / float64(k), "recall": found / float64(relevant),
				"ndcg": dcg / best, "mrr": first, "map": ap / float64(min(k, relevant)),
			} {
				out[fmt.Sprintf("%s@%d", name, k)] += value
			}
		}
	}
	for name := range out {
		out[name] /= n
	}
	return out
}
