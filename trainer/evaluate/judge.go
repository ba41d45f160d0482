package evaluate

import (
	"math"
	"slices"
	"sort"
)

// unjudged is the grade of a retrieved document that has no judgment.
const unjudged = math.MinInt

// Ranking is a query's ranked documents as its judgments see them. A document is relevant when its grade is at
// least 1, or the level asked for. All measures are 0 where no document is relevant.
type Ranking struct {
	grades     []int // by rank; unjudged where there is no judgment
	ideal      []int // all positive grades, best first
	zeros      int   // judged documents of grade 0
	level      int   // least grade of a relevant document
	relevant   int   // relevant documents, retrieved or not
	irrelevant int   // judged documents with a grade from 0 to below level
	found      []int // ranks of the relevant documents retrieved, from 1
	gained     []int // ranks of the documents retrieved with a grade above 0
	documents  int   // of the collection, if told
	precision  Precision
}

// Judge looks up the grades of a query's ranked hits.
func Judge(ranked []Hit, judged map[string]int) Ranking {
	return Evaluation{}.judge(ranked, judged)
}

func (e Evaluation) judge(ranked []Hit, judged map[string]int) Ranking {
	r := Ranking{level: max(1, e.Level), documents: e.Documents, precision: e.Precision}
	if e.Depth > 0 && e.Depth < len(ranked) {
		ranked = ranked[:e.Depth]
	}
	r.grades = make([]int, 0, len(ranked))
	for _, h := range ranked {
		grade, ok := judged[h.Document]
		if !ok {
			grade = unjudged
		}
		if e.JudgedOnly && grade < 0 {
			continue
		}
		r.grades = append(r.grades, grade)
		if grade > 0 {
			r.gained = append(r.gained, len(r.grades))
		}
		if grade >= r.level {
			r.found = append(r.found, len(r.grades))
		}
	}
	for _, grade := range judged {
		switch {
		case grade > 0:
			r.ideal = append(r.ideal, grade)
		case grade == 0:
			r.zeros++
		}
		switch {
		case grade >= r.level:
			r.relevant++
		case grade >= 0:
			r.irrelevant++
		}
	}
	slices.SortFunc(r.ideal, func(a, b int) int { return b - a })
	return r
}

// NDCG returns the DCG of the first k over that of the ideal list of all judged documents; k = 0 is uncut.
//
//	DCG = sum gain_i / log2(i+1), i from 1; the gain is the grade, 0 where that is negative or missing
func (r Ranking) NDCG(k int) float64 {
	if len(r.ideal) == 0 {
		return 0
	}
	dcg, ideal := 0.0, 0.0
	for _, at := range r.gained {
		if k > 0 && at > k {
			break
		}
		dcg += float64(r.grades[at-1]) / math.Log2(float64(at+1))
	}
	for i, grade := range r.ideal {
		if k > 0 && i == k {
			break
		}
		ideal += float64(grade) / math.Log2(float64(i+2))
	}
	return dcg / ideal
}

// within counts the relevant documents among the first k; k = 0 is all.
func (r Ranking) within(k int) int {
	if k <= 0 {
		return len(r.found)
	}
	return sort.SearchInts(r.found, k+1)
}

func (r Ranking) ofRelevant(x float64) float64 {
	if r.relevant == 0 {
		return 0
	}
	return x / float64(r.relevant)
}

// AveragePrecision returns 1/R sum over relevant i <= k of P@i; k = 0 is uncut.
func (r Ranking) AveragePrecision(k int) float64 {
	sum := 0.0
	for i, at := range r.found[:r.within(k)] {
		sum += float64(i+1) / float64(at)
	}
	return r.ofRelevant(sum)
}

// ReciprocalRank returns 1/rank of the first relevant document among the first k, else 0; k = 0 is uncut.
func (r Ranking) ReciprocalRank(k int) float64 {
	if r.within(k) == 0 {
		return 0
	}
	return 1 / float64(r.found[0])
}

// Recall returns the share of all relevant documents that are among the first k.
func (r Ranking) Recall(k int) float64 { return r.ofRelevant(float64(r.within(k))) }

// CappedRecall returns the share of the relevant documents that the first k could hold; NaN where there is none (mteb
// leaves such queries out).
func (r Ranking) CappedRecall(k int) float64 {
	if r.relevant == 0 {
		return math.NaN()
	}
	return float64(r.within(k)) / float64(min(r.relevant, k))
}

// Precision returns the share of relevant documents among k ranks, filled or not.
func (r Ranking) Precision(k int) float64 { return float64(r.within(k)) / float64(k) }

// RPrecision returns Precision(R).
func (r Ranking) RPrecision() float64 {
	if r.relevant == 0 {
		return 0
	}
	return r.Precision(r.relevant)
}

// Success returns 1 if one of the first k documents is relevant, else 0.
func (r Ranking) Success(k int) float64 { return float64(min(1, r.within(k))) }

// BPref returns 1/R sum over relevant retrieved of 1 - min(n, R) / min(N, R), with n judged non-relevant (grade
// 0) ranked above and N in all.
func (r Ranking) BPref() float64 {
	sum, above := 0.0, 0
	for _, g := range r.grades {
		switch {
		case g >= r.level && above == 0:
			sum++
		case g >= r.level:
			sum += 1 - float64(min(above, r.relevant))/float64(min(r.irrelevant, r.relevant))
		case g >= 0:
			above++
		}
	}
	return r.ofRelevant(sum)
}

// InferredAP estimates AP where the pool was judged in part (Yilmaz and Aslam, CIKM 2006): with d documents above rank
// i, of which r relevant, n non-relevant and u in the pool without a grade (negative), and e = 1e-5,
//
//	1/R sum over relevant i of  1/i + d/i (r + n + u)/d (r + e)/(r + n + 2e)
func (r Ranking) InferredAP() float64 {
	const e = 1e-5
	sum, relevant, other, pooled := 0.0, 0.0, 0.0, 0.0
	for i, g := range r.grades {
		switch {
		case g == unjudged:
		case g < 0:
			pooled++
		case g < r.level:
			other++
		default:
			if i == 0 {
				sum++
			} else {
				above, rank := float64(i), float64(i+1)
				sum += 1/rank + float64(above/rank*((relevant+other+pooled)/above)*((relevant+e)/(relevant+other+2*e)))
			}
			relevant++
		}
	}
	return r.ofRelevant(sum)
}

// interpolated returns the greatest precision at any rank from that of the n-th relevant document on; 0 if so many
// are not retrieved.
func (r Ranking) interpolated(n int) float64 {
	best := 0.0
	for i := max(n, 1); i <= len(r.found); i++ {
		best = max(best, float64(i)/float64(r.found[i-1]))
	}
	return best
}

// RecallPrecision returns the interpolated precision where the share of the relevant documents is found. What is not
// a whole number of documents is rounded up from a tenth on, as trec_eval 9.0.8 does, or to the nearest, as 10.0.
func (r Ranking) RecallPrecision(share float64) float64 {
	n := int(float64(share*float64(r.relevant)) + 0.9)
	if r.precision == Double {
		n = int(math.Round(share * float64(r.relevant)))
	}
	return r.interpolated(n)
}
