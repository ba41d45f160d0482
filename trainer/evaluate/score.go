package evaluate

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate/metric"
)

// ErrNonFinite says that embeddings have NaN or infinite values, which have no place in an order.
var ErrNonFinite = errors.New("evaluate: embeddings are not finite")

// depth is how many documents are kept for each query, as mteb does; MAP is cut there.
const depth = 1000

// MainScore is the name under which Score repeats the metric that stands for a suite, so that suites of several kinds
// have one column in common.
const MainScore = "main_score"

// measures are the metrics of a retrieval suite: our name, and trec_eval's.
var measures = [][2]string{
	{"ndcg@10", "ndcg_cut_10"},
	{"ndcg@1", "ndcg_cut_1"},
	{"ndcg@5", "ndcg_cut_5"},
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

// Has reports whether Score gives a metric for a suite.
func Has(sheet *data.Sheet, name string) bool {
	if name == MainScore || name == Main(sheet) {
		return true
	}
	switch sheet.Kind {
	case "":
		return slices.Contains(Metrics(), name) || sheet.Changed != nil && (name == "p-mrr" || name == "score")
	case data.STSTask, data.SummaryTask:
		return slices.Contains([]string{"pearson", "spearman", "cosine_pearson", "cosine_spearman"}, name)
	case data.BitextTask, data.ClassificationTask:
		return slices.Contains([]string{"accuracy", "f1", "precision", "recall"}, name)
	}
	return false
}

// Main returns the name of the metric that stands for a suite.
func Main(sheet *data.Sheet) string {
	if sheet.Main != "" {
		return sheet.Main
	}
	if sheet.Kind == "" {
		return "ndcg@10"
	}
	t, err := task(sheet, nil, 0)
	if err != nil {
		return ""
	}
	return t.Main()
}

// Score scores the gathered embeddings of a suite, rows [slots, width] in slot order. Of retrieval the result has every
// name of Metrics (and p-mrr for FollowIR), of other kinds mteb's names; MainScore is always there. Rows are compared by
// inner product for retrieval, so unit rows are compared by cosine.
func Score(sheet *data.Sheet, rows []float32, width int) (map[string]float64, error) {
	if sheet.Kind == "" {
		run, err := Retrieve(sheet, rows, width)
		if err != nil {
			return nil, err
		}
		return ScoreSheet(sheet, run)
	}
	t, err := task(sheet, rows, width)
	if err != nil {
		return nil, fmt.Errorf("score suite %s: %w", sheet.Name, err)
	}
	scores, err := t.Score()
	var bad *metric.NonFiniteError
	if errors.As(err, &bad) {
		return nil, fmt.Errorf("score suite %s: %w: %w", sheet.Name, err, ErrNonFinite)
	}
	if err != nil {
		return nil, fmt.Errorf("score suite %s: %w", sheet.Name, err)
	}
	main := scores[Main(sheet)]
	if math.IsNaN(main) {
		return nil, fmt.Errorf("score suite %s: %s is not defined: all its labels or all similarities are equal", sheet.Name, Main(sheet))
	}
	out := map[string]float64{MainScore: main}
	for name, v := range scores {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			out[name] = v
		}
	}
	return out, nil
}

// task lays out embeddings and labels for metric; rows nil makes a task without embeddings.
func task(sheet *data.Sheet, rows []float32, width int) (metric.Task, error) {
	all := metric.Rows{Data: rows, Width: width}
	part := func(lo, hi int) metric.Rows {
		if rows == nil || hi*width > len(rows) {
			return metric.Rows{Width: width} // of another length than the labels: Score says so
		}
		return metric.Rows{Data: rows[lo*width : hi*width], Width: width}
	}
	n := len(sheet.Gold)
	switch sheet.Kind {
	case data.STSTask:
		return metric.STS{X: part(0, n), Y: part(n, 2*n), Gold: sheet.Gold}, nil
	case data.PairsTask:
		labels := make([]int, n)
		for i, g := range sheet.Gold {
			labels[i] = int(g)
		}
		return metric.Pairs{X: part(0, n), Y: part(n, 2*n), Labels: labels}, nil
	case data.BitextTask:
		half := all.Len() / 2
		return metric.Bitext{X: part(0, half), Y: part(half, 2*half)}, nil
	case data.SummaryTask:
		return summaries(sheet, all)
	case data.ClassificationTask:
		labels := numbered(sheet.Labels[0])
		return metric.Classification{
			Train: part(0, sheet.Train), Test: part(sheet.Train, len(labels)), TrainLabels: labels[:sheet.Train], TestLabels: labels[sheet.Train:],
		}, nil
	case data.ClusteringTask:
		if sheet.Ends == nil {
			levels := make([][]int, len(sheet.Labels))
			for i, l := range sheet.Labels {
				levels[i] = numbered(l)
			}
			return metric.Clustering{X: all, Levels: levels}, nil
		}
		var sets metric.ClusteringSets
		labels, lo := numbered(sheet.Labels[0]), 0
		for _, hi := range sheet.Ends {
			sets.Sets, sets.Labels = append(sets.Sets, part(lo, hi)), append(sets.Labels, labels[lo:hi])
			lo = hi
		}
		return sets, nil
	}
	return nil, fmt.Errorf("a suite of kind %q; %s are known", sheet.Kind, strings.Join(data.Tasks, ", "))
}

func summaries(sheet *data.Sheet, all metric.Rows) (metric.Task, error) {
	var out metric.Summaries
	choose := func(slots []int32) metric.Rows {
		index := make([]int, 0, len(slots))
		for _, s := range slots {
			if int(s) < all.Len() {
				index = append(index, int(s))
			}
		}
		return all.Select(index)
	}
	for _, s := range sheet.Summaries {
		out.Documents = append(out.Documents, metric.Summary{Human: choose(s.Human), Machine: choose(s.Machine), Gold: s.Gold})
	}
	return out, nil
}

// numbered numbers labels in their order; no label is metric.None.
func numbered(labels []string) []int {
	names := slices.Compact(slices.Sorted(slices.Values(labels)))
	names = slices.DeleteFunc(names, func(s string) bool { return s == "" })
	out := make([]int, len(labels))
	for i, l := range labels {
		out[i] = metric.None
		if at, ok := slices.BinarySearch(names, l); ok {
			out[i] = at
		}
	}
	return out
}

// ScoreSheet returns every metric of Metrics of a suite's run, averaged over all judged queries; for FollowIR over those
// with the original instruction, and p-mrr.
func ScoreSheet(sheet *data.Sheet, run Run) (map[string]float64, error) {
	out, err := ScoreRun(run, scored(sheet))
	if err != nil {
		return nil, fmt.Errorf("score suite %s: %w", sheet.Name, err)
	}
	if sheet.Changed != nil {
		out["p-mrr"], _ = PMRR(run, run, sheet.Changed)
		out["score"] = out[followScore(sheet)]
	}
	main, ok := out[Main(sheet)]
	if !ok {
		return nil, fmt.Errorf("score suite %s: there is no metric %q; %s are known", sheet.Name, Main(sheet), strings.Join(slices.Sorted(maps.Keys(out)), ", "))
	}
	out[MainScore] = main
	return out, nil
}

// scored are the judgments that a suite's means are over: of FollowIR those under the original instruction.
func scored(sheet *data.Sheet) data.Qrels {
	qrels := sheet.Qrels
	if sheet.Changed != nil {
		qrels = maps.Clone(qrels)
		maps.DeleteFunc(qrels, func(query string, _ map[string]int) bool { return !strings.HasSuffix(query, "-og") })
	}
	return qrels
}

// followScore is the metric that FollowIR calls its score: MAP, and of News21 nDCG@5 (Weller et al. 2024, section 4).
func followScore(sheet *data.Sheet) string {
	if strings.Contains(strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(sheet.Name)), "news21") {
		return "ndcg@5"
	}
	return "map"
}

// ScoreRun returns every metric of Metrics of a run, averaged over all judged queries.
func ScoreRun(run Run, qrels data.Qrels) (map[string]float64, error) {
	if len(qrels) == 0 {
		return nil, errors.New("score a run: no judgments")
	}
	names := make([]string, len(measures))
	for i, m := range measures {
		names[i] = m[1]
	}
	parsed, err := ParseMeasures(names...)
	if err != nil {
		return nil, err
	}
	report := Evaluation{Complete: true}.Score(run, qrels, parsed)
	values := make(map[string]float64, len(parsed))
	for i, m := range report.Measures {
		values[m.Name] = report.Summary[i]
	}
	out := make(map[string]float64, len(measures))
	for _, m := range measures {
		out[m[0]] = values[m[1]]
	}
	return out, nil
}
