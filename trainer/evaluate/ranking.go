package evaluate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data"
)

// Precision says how a score is held before documents are ordered by it.
type Precision uint8

const (
	// Single rounds scores to float32, as trec_eval up to 9.0.8, pytrec_eval and so published numbers do.
	Single Precision = iota
	// Double keeps them, as trec_eval 10.0 does.
	Double
)

// Hit is a retrieved document.
type Hit struct {
	Document string
	Score    float64
}

// Run is what was retrieved for each query, in any order.
type Run map[string][]Hit

// compare orders hits best first: score descending, then document descending by UTF-8 bytes (trec_eval's rule).
// Scores beyond float32 are infinite, and tie, in Single; -0 and 0 tie.
func (p Precision) compare(a, b Hit) int {
	x, y := a.Score, b.Score
	if p == Single {
		x, y = float64(float32(x)), float64(float32(y))
	}
	return cmp.Or(cmp.Compare(y, x), strings.Compare(b.Document, a.Document))
}

// Rank returns the hits best first, as a new slice.
func Rank(hits []Hit, p Precision) []Hit {
	out := slices.Clone(hits)
	slices.SortFunc(out, p.compare)
	return out
}

// unjudged is the grade of a retrieved document that has no judgment.
const unjudged = math.MinInt

// Ranking is a query's ranked documents as its judgments see them. A document is relevant when its grade is at
// least 1. All measures are 0 where no document is relevant.
type Ranking struct {
	grades     []int // by rank; unjudged where there is no judgment
	ideal      []int // all positive grades, best first
	irrelevant int   // judged documents with grade 0
}

// Judge looks up the grades of a query's ranked hits.
func Judge(ranked []Hit, judged map[string]int) Ranking {
	r := Ranking{grades: make([]int, len(ranked))}
	for i, h := range ranked {
		r.grades[i] = unjudged
		if grade, ok := judged[h.Document]; ok {
			r.grades[i] = grade
		}
	}
	for _, grade := range judged {
		switch {
		case grade > 0:
			r.ideal = append(r.ideal, grade)
		case grade == 0:
			r.irrelevant++
		}
	}
	slices.SortFunc(r.ideal, func(a, b int) int { return b - a })
	return r
}

// cut returns the first k grades; k = 0 is all.
func cut(grades []int, k int) []int {
	if k > 0 && k < len(grades) {
		return grades[:k]
	}
	return grades
}

// dcg is sum gain_i / log2(i+1), i from 1, with linear gain.
func dcg(grades []int) float64 {
	sum := 0.0
	for i, g := range grades {
		if g > 0 {
			sum += float64(g) / math.Log2(float64(i+2))
		}
	}
	return sum
}

// NDCG returns the DCG of the first k over that of the ideal list of all judged documents; k = 0 is uncut.
func (r Ranking) NDCG(k int) float64 {
	if len(r.ideal) == 0 {
		return 0
	}
	return dcg(cut(r.grades, k)) / dcg(cut(r.ideal, k))
}

// found counts the relevant documents among the first k.
func (r Ranking) found(k int) int {
	n := 0
	for _, g := range cut(r.grades, k) {
		if g > 0 {
			n++
		}
	}
	return n
}

func (r Ranking) ofRelevant(x float64) float64 {
	if len(r.ideal) == 0 {
		return 0
	}
	return x / float64(len(r.ideal))
}

// AveragePrecision returns 1/R sum over relevant i <= k of P@i; k = 0 is uncut.
func (r Ranking) AveragePrecision(k int) float64 {
	sum, n := 0.0, 0
	for i, g := range cut(r.grades, k) {
		if g > 0 {
			n++
			sum += float64(n) / float64(i+1)
		}
	}
	return r.ofRelevant(sum)
}

// ReciprocalRank returns 1/rank of the first relevant document among the first k, else 0; k = 0 is uncut.
func (r Ranking) ReciprocalRank(k int) float64 {
	for i, g := range cut(r.grades, k) {
		if g > 0 {
			return 1 / float64(i+1)
		}
	}
	return 0
}

// Recall returns the share of all relevant documents that are among the first k.
func (r Ranking) Recall(k int) float64 { return r.ofRelevant(float64(r.found(k))) }

// Precision returns the share of relevant documents among k ranks, filled or not.
func (r Ranking) Precision(k int) float64 { return float64(r.found(k)) / float64(k) }

// RPrecision returns Precision(R).
func (r Ranking) RPrecision() float64 {
	if len(r.ideal) == 0 {
		return 0
	}
	return r.Precision(len(r.ideal))
}

// Success returns 1 if one of the first k documents is relevant, else 0.
func (r Ranking) Success(k int) float64 { return float64(min(1, r.found(k))) }

// BPref returns 1/R sum over relevant retrieved of 1 - min(n, R) / min(N, R), with n judged non-relevant (grade
// 0) ranked above and N in all.
func (r Ranking) BPref() float64 {
	sum, above := 0.0, 0
	relevant := len(r.ideal)
	for _, g := range r.grades {
		switch {
		case g > 0 && above == 0:
			sum++
		case g > 0:
			sum += 1 - float64(min(above, relevant))/float64(min(r.irrelevant, relevant))
		case g == 0:
			above++
		}
	}
	return r.ofRelevant(sum)
}

// Measure returns a measure by trec_eval's name: ndcg, ndcg_cut_10, map, map_cut_10, recip_rank, mrr_10,
// recall_10, P_10, success_10, Rprec, bpref, num_ret, num_rel, num_rel_ret.
func (r Ranking) Measure(name string) (float64, error) {
	switch name {
	case "ndcg":
		return r.NDCG(0), nil
	case "map":
		return r.AveragePrecision(0), nil
	case "recip_rank":
		return r.ReciprocalRank(0), nil
	case "Rprec":
		return r.RPrecision(), nil
	case "bpref":
		return r.BPref(), nil
	case "num_ret":
		return float64(len(r.grades)), nil
	case "num_rel":
		return float64(len(r.ideal)), nil
	case "num_rel_ret":
		return float64(r.found(0)), nil
	}
	at := strings.LastIndexByte(name, '_')
	k, err := strconv.Atoi(name[at+1:])
	if at < 0 || err != nil || k < 1 {
		return 0, fmt.Errorf("measure %q is not known", name)
	}
	switch name[:at] {
	case "ndcg_cut":
		return r.NDCG(k), nil
	case "map_cut":
		return r.AveragePrecision(k), nil
	case "mrr":
		return r.ReciprocalRank(k), nil
	case "recall":
		return r.Recall(k), nil
	case "P":
		return r.Precision(k), nil
	case "success":
		return r.Success(k), nil
	}
	return 0, fmt.Errorf("measure %q is not known", name)
}

// Mean averages a measure over the queries that are in the run and in the judgments, those without a relevant
// document included; complete divides by all judged queries instead (trec_eval -c). n is the divisor.
func Mean(run Run, qrels data.Qrels, p Precision, name string, complete bool) (mean float64, n int, err error) {
	sum := 0.0
	for _, query := range sortedKeys(qrels) {
		hits, ok := run[query]
		if !ok {
			if complete {
				n++
			}
			continue
		}
		n++
		value, err := Judge(Rank(hits, p), qrels[query]).Measure(name)
		if err != nil {
			return 0, 0, err
		}
		sum += value
	}
	if n == 0 {
		return 0, 0, nil
	}
	return sum / float64(n), n, nil
}

// sortedKeys fixes the order of sums: they may not depend on the order of a map.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
