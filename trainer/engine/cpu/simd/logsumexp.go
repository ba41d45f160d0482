package simd

import (
	"math"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// LogSumExp: scores [R, N], lse [R].
//
//	lse[r] = log(sum over j of exp(scores[r, j]))
//
// A row without columns is -Inf. The float32 terms of 1,024 columns at a time are summed, and those sums are added in
// float64 in order.
func LogSumExp(p *pool.Pool, lse, scores []float32, n int) {
	forRows(p, len(lse), n, func(lo, hi int) {
		b := lend(n)
		defer b.giveBack()
		for r := lo; r < hi; r++ {
			row := b.f[:n]
			copy(row, scores[r*n:])
			top := vecMax(row)
			if n == 0 || math.IsInf(float64(top), -1) {
				lse[r] = emptyRow(row)
				continue
			}
			sum := 0.0
			for j := 0; j < n; j += 1024 {
				part := row[j:min(n, j+1024)]
				sum += float64(vecExpSum(part, part, 1, top))
			}
			lse[r] = float32(float64(top) + math.Log(sum))
		}
	})
}

// emptyRow is the result of a row without a maximum: NaN if it holds one (a maximum passes it over), else -Inf.
func emptyRow(row []float32) float32 {
	for _, v := range row {
		if v != v {
			return v
		}
	}
	return float32(math.Inf(-1))
}
