package simd

import (
	"math"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// MaskWords is the number of 64-bit words of a row's mask over n columns.
func MaskWords(n int) int { return (n + 63) / 64 }

// LogSumExp: scores [R, N], lse [R]; mask nil or [R, MaskWords(N)], a set bit leaves that column out of that row.
//
//	lse[r] = log(sum over unmasked j of exp(scale * scores[r, j]))
//
// A row without any column left is -Inf. The float32 terms of 1,024 columns at a time are summed, and those sums are
// added in float64 in order.
func LogSumExp(p *pool.Pool, lse, scores []float32, n int, scale float32, mask []uint64) {
	forRows(p, len(lse), n, func(lo, hi int) {
		b := lend(n)
		defer b.giveBack()
		for r := lo; r < hi; r++ {
			row := maskedRow(b.f[:n], scores[r*n:(r+1)*n], scale, rowMask(mask, r, n))
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

// SoftmaxGradient sets dst[r, j] = weights[r] * (exp(scale * scores[r, j] - lse[r]) - [j = targets[r]]), 0 where masked;
// scores and dst [R, N] (dst may be scores), lse, targets and weights [R]. A negative target subtracts nothing. It is
// the gradient with respect to scale * scores of sum over r of weights[r] * (lse[r] - scale * scores[r, targets[r]]).
func SoftmaxGradient(p *pool.Pool, dst, scores, lse []float32, targets []int32, weights []float32, n int, scale float32, mask []uint64) {
	forRows(p, len(lse), n, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			row := maskedRow(dst[r*n:(r+1)*n], scores[r*n:(r+1)*n], scale, rowMask(mask, r, n))
			if math.IsInf(float64(lse[r]), -1) {
				clear(row)
				continue
			}
			vecExpSum(row, row, 1, lse[r])
			vecScale(row, row, weights[r])
			if t := targets[r]; t >= 0 {
				row[t] -= weights[r]
			}
		}
	})
}

func rowMask(mask []uint64, r, n int) []uint64 {
	if mask == nil {
		return nil
	}
	w := MaskWords(n)
	return mask[r*w : (r+1)*w]
}

// maskedRow sets dst = scale * row, -Inf where masked.
func maskedRow(dst, row []float32, scale float32, mask []uint64) []float32 {
	vecScale(dst, row, scale)
	for i, w := range mask {
		for j := i * 64; w != 0; w, j = w>>1, j+1 {
			if w&1 != 0 {
				dst[j] = float32(math.Inf(-1))
			}
		}
	}
	return dst
}
