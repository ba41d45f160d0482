package evaluate

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/counterpoint-ml/counterpoint/data"
)

// mtebCuts are the k of mteb's scores.
var mtebCuts = []int{1, 3, 5, 10, 20, 100, 1000}

// MTEB returns the scores of a retrieval or reranking task by mteb's names: ndcg, map, recall, precision, mrr and
// hit_rate _at_ 1, 3, 5, 10, 20, 100 and 1000, accuracy (which is recall_at_1) and nauc_* of the first five. Means are
// over the queries that are in the run and in the judgments. mteb's two orders are kept: mrr compares scores in
// float64, everything else in float32. mteb writes all but mrr and nauc with five decimals; these are not rounded.
func MTEB(run Run, qrels data.Qrels) map[string]float64 {
	out := map[string]float64{}
	values := map[string][]float64{} // by measure, in order of the queries
	conf := map[string][]float64{}
	n := 0.0
	for _, query := range sortedKeys(qrels) {
		hits, ok := run[query]
		if !ok {
			continue
		}
		n++
		single := Evaluation{}.judge(rank(hits, Single), qrels[query])
		double := Evaluation{}.judge(rank(hits, Double), qrels[query])
		for _, k := range mtebCuts {
			for name, value := range map[string]float64{
				"ndcg": single.NDCG(k), "map": single.AveragePrecision(k), "recall": single.Recall(k),
				"precision": single.Precision(k), "hit_rate": single.Success(k), "mrr": double.ReciprocalRank(k),
			} {
				name = fmt.Sprintf("%s_at_%d", name, k)
				values[name] = append(values[name], value)
			}
		}
		for name, value := range confidence(hits) {
			conf[name] = append(conf[name], value)
		}
	}
	for name, list := range values {
		sum := 0.0
		for _, v := range list {
			sum += v
		}
		out[name] = sum / n
		if len(name) > 3 && name[:3] == "hit" {
			continue
		}
		for kind, c := range conf {
			out["nauc_"+name+"_"+kind] = NAUC(c, list)
		}
	}
	if n > 0 {
		out["accuracy"] = out["recall_at_1"]
	}
	return out
}

// confidence says by its scores alone how sure a query's result seems: the greatest, the deviation, and how far the
// greatest is ahead of the next.
func confidence(hits []Hit) map[string]float64 {
	if len(hits) == 0 {
		return map[string]float64{"max": 0, "std": 0, "diff1": 0}
	}
	scores := make([]float64, len(hits))
	mean := 0.0
	for i, h := range hits {
		scores[i] = h.Score
		mean += h.Score / float64(len(hits))
	}
	slices.Sort(scores)
	spread := 0.0
	for _, s := range scores {
		spread += float64((s - mean) * (s - mean))
	}
	out := map[string]float64{"max": scores[len(scores)-1], "std": math.Sqrt(spread / float64(len(scores))), "diff1": 0}
	if len(scores) > 1 {
		out["diff1"] = scores[len(scores)-1] - scores[len(scores)-2]
	}
	return out
}

// NAUC says how well confidence tells which queries to answer (Gisserot-Boukhlef et al., arXiv 2402.12997). With the
// mean value of the queries left when the share r = 0, 0.1 .. 0.9 that confidence is least sure of is left out, and the
// areas A under this curve over r, A* under that of an oracle which goes by the values, and A0 under a flat one,
//
//	nAUC = (A - A0) / (A* - A0)        NaN where the oracle's is flat
//
// Queries of equal confidence each count as the mean of them, so that their order does not matter.
func NAUC(confidence, values []float64) float64 {
	n := len(values)
	if n == 0 {
		return math.NaN()
	}
	curve := func(by []float64) (area, first float64) {
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(by[a], by[b]) })
		sorted := make([]float64, 0, n)
		for lo := 0; lo < n; {
			hi, sum := lo+1, values[order[lo]]
			for ; hi < n && by[order[hi]] == by[order[lo]]; hi++ {
				sum += values[order[hi]]
			}
			for range hi - lo {
				sorted = append(sorted, sum/float64(hi-lo))
			}
			lo = hi
		}
		last := 0.0
		for i := range 10 {
			out := min(int(math.RoundToEven(float64(i)*0.1*float64(n))), n-1)
			mean := 0.0
			for _, v := range sorted[out:] {
				mean += v
			}
			mean /= float64(n - out)
			if i == 0 {
				first = mean
			} else {
				area += float64(0.1 * (mean + last) / 2)
			}
			last = mean
		}
		return area, first
	}
	area, _ := curve(confidence)
	oracle, flat := curve(values)
	flat *= 0.9
	if math.Abs(oracle-flat) < 1e-15 {
		return math.NaN()
	}
	return (area - flat) / (oracle - flat)
}

// Hole returns the share of the first k documents that no query has a judgment for (mteb, BEIR): a sign of judgments
// that do not know the system.
func Hole(ranked []Hit, k int, known map[string]bool) float64 {
	n := 0
	for _, h := range ranked[:min(k, len(ranked))] {
		if !known[h.Document] {
			n++
		}
	}
	return float64(n) / float64(k)
}

// JudgedDocuments are the documents that have a judgment of some query.
func JudgedDocuments(qrels data.Qrels) map[string]bool {
	known := map[string]bool{}
	for _, judged := range qrels {
		for document := range judged {
			known[document] = true
		}
	}
	return known
}
