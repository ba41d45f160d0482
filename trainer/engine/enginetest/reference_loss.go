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
				for j := range n {
					if j == i || !s.Masked || ids[j] != ids[i] {
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
