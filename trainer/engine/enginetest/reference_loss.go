package enginetest

import (
	"math"

	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

func logSumExp(z []float64) float64 {
	top := math.Inf(-1)
	for _, v := range z {
		top = math.Max(top, v)
	}
	sum := 0.0
	for _, v := range z {
		sum += math.Exp(v - top)
	}
	return top + math.Log(sum)
}

func refTokenLosses(x []array) array {
	z := refLinear(x[:2])
	y := zeros(len(x[2].i))
	for p, target := range x[2].i {
		y.f[p] = logSumExp(z.row(p)) - z.row(p)[target]
	}
	return y
}

func refCrossEntropy(x []array) array {
	y := zeros()
	for p, l := range refTokenLosses(x).f {
		y.f[0] += x[3].f[p] * l
	}
	return y
}

func refSurrogate(x []array) array {
	y := zeros()
	y.f[0] = dot(x[0].f, x[1].f)
	return y
}

func refInfoNCE(s ops.InfoNCE) func([]array) array {
	return func(x []array) array {
		ids, tau := x[1].i, s.Temperature
		q := x[0].shape[0] - len(ids)
		query, document := x[0].row, func(j int) []float64 { return x[0].row(q + j) }
		side := func(a, b func(int) []float64, n int) float64 {
			loss := 0.0
			for i := range q {
				var z []float64
				own := dot(a(i), b(i))
				for j := range n {
					if j == i || (!s.Masked || ids[j] != ids[i]) && !above(s.Margin, dot(a(i), b(j)), own) {
						z = append(z, dot(a(i), b(j))/tau)
					}
				}
				loss += logSumExp(z) - dot(a(i), b(i))/tau
			}
			return loss / float64(q)
		}
		y := zeros()
		y.f[0] = side(query, document, len(ids))
		if s.Symmetric {
			y.f[0] = (y.f[0] + side(document, query, q)) / 2
		}
		return y
	}
}

func above(m ops.Margin, s, own float64) bool {
	switch {
	case !m.On:
		return false
	case m.Relative:
		return s > own+m.Value*math.Abs(own)
	}
	return s > own+m.Value
}

func refExplicit(x []array) array {
	y := zeros()
	q, d := len(x[1].i), float64(x[0].shape[1])
	next := 2 * q
	for i, n := range x[1].i {
		z := []float64{dot(x[0].row(i), x[0].row(q+i)) / d}
		for range n {
			z = append(z, dot(x[0].row(i), x[0].row(next))/d)
			next++
		}
		y.f[0] += (logSumExp(z) - z[0]) / float64(q)
	}
	return y
}
