package metric

import (
	"math"
	"slices"
)

// Pearson is the correlation of x and y, with a = x - mean(x) and b = y - mean(y):
//
//	r = a.b / (|a||b|)
//
// NaN where x or y is constant, has fewer than two values or holds a NaN (scipy.stats.pearsonr).
func Pearson(x, y []float64) float64 {
	if len(x) < 2 || len(x) != len(y) || constant(x) || constant(y) {
		return math.NaN()
	}
	mx, _ := meanAndDeviation(x)
	my, _ := meanAndDeviation(y)
	var ab, aa, bb float64
	for i := range x {
		a, b := x[i]-mx, y[i]-my
		ab += float64(a * b)
		aa += float64(a * a)
		bb += float64(b * b)
	}
	r := ab / (math.Sqrt(aa) * math.Sqrt(bb))
	return max(-1, min(1, r))
}

func constant(x []float64) bool {
	for _, v := range x {
		if v != x[0] {
			return false
		}
	}
	return true
}

// Spearman is Pearson of the average ranks (scipy.stats.spearmanr).
func Spearman(x, y []float64) float64 {
	for i := range x {
		if math.IsNaN(x[i]) || i < len(y) && math.IsNaN(y[i]) {
			return math.NaN() // a NaN has no rank
		}
	}
	return Pearson(Ranks(x), Ranks(y))
}

// Ranks are the ranks of x from 1; values that tie share the mean of their ranks.
func Ranks(x []float64) []float64 {
	order := sortedOrder(x)
	ranks := make([]float64, len(x))
	for lo := 0; lo < len(order); {
		hi := lo + 1
		for hi < len(order) && x[order[hi]] == x[order[lo]] {
			hi++
		}
		for _, i := range order[lo:hi] {
			ranks[i] = float64(lo+hi+1) / 2
		}
		lo = hi
	}
	return ranks
}

// sortedOrder are the indices of x, ascending by value, then by index.
func sortedOrder(x []float64) []int {
	order := make([]int, len(x))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case x[a] < x[b]:
			return -1
		case x[a] > x[b]:
			return 1
		}
		return 0
	})
	return order
}

// Kendall is tau-b: with P concordant and Q discordant pairs, and T and U the pairs that tie only in x, only in y,
//
//	tau = (P - Q) / sqrt((P + Q + T) (P + Q + U))
//
// It looks at every pair: n^2 / 2 comparisons.
func Kendall(x, y []float64) float64 {
	var p, q, t, u float64
	for i := range x {
		for j := range i {
			a, b := sign(x[i]-x[j]), sign(y[i]-y[j])
			switch {
			case a*b > 0:
				p++
			case a*b < 0:
				q++
			case a == 0 && b != 0:
				t++
			case b == 0 && a != 0:
				u++
			}
		}
	}
	return (p - q) / math.Sqrt((p+q+t)*(p+q+u))
}

func sign(v float64) int {
	switch {
	case v > 0:
		return 1
	case v < 0:
		return -1
	}
	return 0
}
