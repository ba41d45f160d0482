package evaluate

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/counterpoint-ml/counterpoint/trainer/philox"
)

// Comparison is how B differs from A, query by query.
type Comparison struct {
	Queries            int
	MeanA, MeanB       float64
	Difference         float64  // MeanB - MeanA
	Low, High          float64  // 95 % interval of the difference
	Wins, Losses, Ties int      // queries where B is better, worse, equal
	Changed            []Change // the queries that changed most, at most ten
}

// Change is one query's values.
type Change struct {
	Query string
	A, B  float64
}

const (
	resamples = 10000
	bootSite  = 0x626f6f74 // of the bootstrap among the users of Philox ("boot")
	mostShown = 10
)

// Compare compares the values of a measure by query, of the same queries. The interval is that of the paired bootstrap
// (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13): of 10,000 means of as many differences
// B - A as there are queries, drawn with replacement, the 2.5th and 97.5th percentile. It depends on the seed and on
// nothing else. Values closer than 1e-12 are ties.
func Compare(a, b map[string]float64, seed uint64) (Comparison, error) {
	if len(a) == 0 {
		return Comparison{}, errors.New("compare: no queries")
	}
	for _, sides := range []struct {
		in, other map[string]float64
		name      string
	}{{a, b, "second"}, {b, a, "first"}} {
		for _, query := range sortedKeys(sides.in) {
			if _, ok := sides.other[query]; !ok {
				return Comparison{}, fmt.Errorf("compare: the query %q has no value on the %s side", query, sides.name)
			}
			if v := sides.in[query]; math.IsNaN(v) || math.IsInf(v, 0) {
				return Comparison{}, fmt.Errorf("compare: the query %q has the value %v", query, v)
			}
		}
	}
	c := Comparison{Queries: len(a)}
	differences := make([]float64, 0, len(a))
	for _, query := range sortedKeys(a) {
		x, y := a[query], b[query]
		c.MeanA += x
		c.MeanB += y
		d := y - x
		switch {
		case math.Abs(d) <= 1e-12:
			c.Ties++
		case d > 0:
			c.Wins++
		default:
			c.Losses++
		}
		differences = append(differences, d)
		c.Changed = append(c.Changed, Change{query, x, y})
		c.Difference += d
	}
	n := float64(len(a))
	c.MeanA, c.MeanB, c.Difference = c.MeanA/n, c.MeanB/n, c.Difference/n
	c.Low, c.High = interval(differences, seed)
	slices.SortStableFunc(c.Changed, func(x, y Change) int {
		return cmp.Compare(math.Abs(y.B-y.A), math.Abs(x.B-x.A))
	})
	c.Changed = slices.Clone(c.Changed[:min(mostShown, len(c.Changed))])
	return c, nil
}

// interval is the 95 % percentile interval of the mean of values.
func interval(values []float64, seed uint64) (low, high float64) {
	n := len(values)
	key := philox.NewKey(seed, bootSite)
	means := make([]float64, resamples)
	words := make([]uint32, n)
	for i := range means {
		philox.Fill(words, key, philox.At(0, uint32(i), 0, 0))
		sum := 0.0
		for _, w := range words {
			sum += values[uint64(w)*uint64(n)>>32]
		}
		means[i] = sum / float64(n)
	}
	slices.Sort(means)
	const tail = resamples * 25 / 1000
	return means[tail], means[resamples-1-tail]
}

// ByQuery are a report's values of its measure at index i.
func (r Report) ByQuery(i int) map[string]float64 {
	out := make(map[string]float64, len(r.Queries))
	for q, query := range r.Queries {
		out[query] = r.Values[q][i]
	}
	return out
}
