package evaluate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
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
	if ranked := rank(hits, p); len(ranked) > 0 && &ranked[0] != &hits[0] {
		return ranked
	}
	return slices.Clone(hits)
}

// rank is Rank without a copy of hits that are in order, as those of run files mostly are.
func rank(hits []Hit, p Precision) []Hit {
	i := 1
	for i < len(hits) && p.compare(hits[i-1], hits[i]) <= 0 {
		i++
	}
	if i >= len(hits) {
		return hits
	}
	if p == Double || uint64(len(hits)) > math.MaxUint32 {
		out := slices.Clone(hits)
		slices.SortFunc(out, p.compare)
		return out
	}
	// Sorting integers (the score, so that greater is first, and the place) is several times as fast as sorting hits.
	keys := make([]uint64, len(hits))
	for i, h := range hits {
		keys[i] = uint64(^ascending(float32(h.Score)))<<32 | uint64(i)
	}
	slices.Sort(keys)
	out := make([]Hit, len(hits))
	for i, k := range keys {
		out[i] = hits[uint32(k)]
	}
	for lo := 0; lo < len(keys); {
		hi := lo + 1
		for hi < len(keys) && keys[hi]>>32 == keys[lo]>>32 {
			hi++
		}
		if hi-lo > 1 {
			slices.SortFunc(out[lo:hi], func(a, b Hit) int { return strings.Compare(b.Document, a.Document) })
		}
		lo = hi
	}
	return out
}

// ascending maps numbers to integers in the same order; -0 and 0 to the same.
func ascending(v float32) uint32 {
	b := math.Float32bits(v + 0) // -0 + 0 = 0
	if b>>31 != 0 {
		return ^b
	}
	return b | 1<<31
}

// Mean averages a measure over the queries that are in the run and in the judgments, those without a relevant
// document included; complete divides by all judged queries instead (trec_eval -c). n is the divisor.
func Mean(run Run, qrels data.Qrels, p Precision, name string, complete bool) (mean float64, n int, err error) {
	measures, err := ParseMeasures(name)
	if err != nil {
		return 0, 0, err
	}
	if len(measures) != 1 || measures[0].define.summary != average {
		return 0, 0, fmt.Errorf("measure %q is not one mean", name)
	}
	r := Evaluation{Precision: p, Complete: complete}.Score(run, qrels, measures)
	return r.Summary[0], r.Divisor, nil
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
