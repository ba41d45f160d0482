package simd

import (
	"fmt"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// Pooling makes one row of the rows of a text.
type Pooling int

// The poolings. The last row and the first row are of the text's own n tokens after the skipped ones; the weights of
// WeightedMean are 1 .. n over their sum.
const (
	Mean Pooling = iota
	WeightedMean
	LastToken
	FirstToken
)

// weight returns the share of token i of n.
func (k Pooling) weight(i, n int) float32 {
	switch k {
	case Mean:
		return float32(1 / float64(n))
	case WeightedMean:
		return float32(float64(i+1) * 2 / (float64(n) * float64(n+1)))
	case LastToken:
		if i == n-1 {
			return 1
		}
	case FirstToken:
		if i == 0 {
			return 1
		}
	default:
		panic(fmt.Sprintf("simd: pooling %d", k))
	}
	return 0
}

// span returns the rows of text b that are pooled: all but the first skip[b] (skip nil: none left out).
func span(cu, skip []int32, b int) (lo, hi int) {
	lo, hi = int(cu[b]), int(cu[b+1])
	if skip != nil {
		lo += int(skip[b])
	}
	return min(lo, hi), hi
}

// Pool sets y[b, :] to the pooled rows of text b of x [T, d], its first skip[b] tokens left out; a text without any
// token left gives zeros.
func Pool(p *pool.Pool, y, x []float32, cu, skip []int32, d int, kind Pooling) {
	texts := len(cu) - 1
	check("Pool y", len(y), texts*d)
	p.For(texts, func(b int) {
		lo, hi := span(cu, skip, b)
		row := y[b*d : (b+1)*d]
		clear(row)
		for t := lo; t < hi; t++ {
			if w := kind.weight(t-lo, hi-lo); w != 0 {
				vecAxpy(row, x[t*d:(t+1)*d], w)
			}
		}
	})
}

// PoolBackward sets every row of dx [T, d] from dy [B, d]: the weight of its token times its text's row, 0 if skipped.
func PoolBackward(p *pool.Pool, dx, dy []float32, cu, skip []int32, d int, kind Pooling) {
	texts := len(cu) - 1
	check("PoolBackward dy", len(dy), texts*d)
	p.For(texts, func(b int) {
		lo, hi := span(cu, skip, b)
		clear(dx[int(cu[b])*d : lo*d])
		for t := lo; t < hi; t++ {
			out := dx[t*d : (t+1)*d]
			if w := kind.weight(t-lo, hi-lo); w != 0 {
				vecScale(out, dy[b*d:(b+1)*d], w)
			} else {
				clear(out)
			}
		}
	})
}
