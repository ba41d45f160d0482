package evaluate

import (
	"errors"
	"fmt"

	"github.com/counterpoint-ml/counterpoint/data"
)

// ErrNonFinite says that embeddings have NaN or infinite values, which have no place in an order.
var ErrNonFinite = errors.New("evaluate: embeddings are not finite")

// depth is how many documents are kept for each query, as mteb does; MAP is cut there.
const depth = 1000

// measures are the metrics of a retrieval suite: our name, and trec_eval's.
var measures = [][2]string{
	{"ndcg@10", "ndcg_cut_10"},
	{"mrr@10", "mrr_10"},
	{"recall@1", "recall_1"},
	{"recall@10", "recall_10"},
	{"recall@100", "recall_100"},
	{"map", "map_cut_1000"},
	{"r@1", "recall_1"},
	{"success@1", "success_1"},
}

// Metrics returns the names of the metrics of a retrieval suite.
func Metrics() []string {
	names := make([]string, len(measures))
	for i, m := range measures {
		names[i] = m[0]
	}
	return names
}

// Score scores the gathered embeddings of a suite: rows [Q+D, width] in slot order, queries first. Rows are
// compared by inner product, so unit rows are compared by cosine. The result has every name of Metrics.
func Score(sheet *data.Sheet, rows []float32, width int) (map[string]float64, error) {
	run, err := Retrieve(sheet, rows, width)
	if err != nil {
		return nil, err
	}
	return ScoreRun(run, sheet.Qrels)
}

// Retrieve returns the documents that Score scores: the 1,000 best of each query.
func Retrieve(sheet *data.Sheet, rows []float32, width int) (Run, error) {
	q, d := len(sheet.Queries), len(sheet.Documents)
	if width < 1 || len(rows) != (q+d)*width {
		return nil, fmt.Errorf("score suite %s: %d values of width %d for %d queries and %d documents", sheet.Name, len(rows), width, q, d)
	}
	found, err := Search(rows[:q*width], rows[q*width:], width, sheet.Documents, depth)
	if err != nil {
		return nil, fmt.Errorf("score suite %s: %w", sheet.Name, err)
	}
	run := make(Run, q)
	for i, id := range sheet.Queries {
		run[id] = found[i]
	}
	return run, nil
}

// ScoreRun returns every metric of Metrics of a run, averaged over all judged queries.
func ScoreRun(run Run, qrels data.Qrels) (map[string]float64, error) {
	if len(qrels) == 0 {
		return nil, errors.New("score a run: no judgments")
	}
	out := make(map[string]float64, len(measures))
	for _, query := range sortedKeys(qrels) {
		r := Judge(Rank(run[query], Single), qrels[query])
		for _, m := range measures {
			value, err := r.Measure(m[1])
			if err != nil {
				return nil, err
			}
			out[m[0]] += value
		}
	}
	for name, sum := range out {
		out[name] = sum / float64(len(qrels)) // once, so that the mean of ones is one
	}
	return out, nil
}
