package simd

import (
	"math"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// CrossEntropy: logits [R, V] are replaced by their gradient; targets [R], weights [R]. A row with a negative target
// or weight 0 counts nothing and gets gradient 0.
//
//	loss = sum over r of weight[r] * (lse(logits[r, :]) - logits[r, target[r]])
//	dlogits[r, v] = weight[r] * (exp(logits[r, v] - lse) - [v = target[r]])
//
// The loss is added in float64, in the order of rows.
func CrossEntropy(p *pool.Pool, logits []float32, targets []int32, weights []float32, v int) float64 {
	rows := len(targets)
	check("CrossEntropy logits", len(logits), rows*v)
	check("CrossEntropy weights", len(weights), rows)
	b := lend(2 * rows)
	defer b.giveBack()
	p.For(rows, func(r int) {
		row := logits[r*v : (r+1)*v]
		l := crossEntropyRow(row, int(targets[r]), weights[r])
		// A float64 in two floats: the row's loss must not be rounded before it is added.
		high := float32(l)
		b.f[2*r], b.f[2*r+1] = high, float32(l-float64(high))
	})
	loss := 0.0
	for r := range rows {
		if math.IsInf(float64(b.f[2*r]), 0) {
			loss += float64(b.f[2*r])
			continue
		}
		loss += float64(b.f[2*r]) + float64(b.f[2*r+1])
	}
	return loss
}

func crossEntropyRow(row []float32, target int, weight float32) float64 {
	if target < 0 || weight == 0 {
		clear(row)
		return 0
	}
	top, hit := vecMax(row), row[target]
	sum := vecExpSum(row, row, 1, top)
	vecScale(row, row, weight/sum)
	row[target] -= weight
	return float64(weight) * (float64(top) - float64(hit) + math.Log(float64(sum)))
}

// logitRows is how many rows of logits LinearCrossEntropy holds at a time: about 16 MiB of them, a function of V alone.
func logitRows(v int) int { return min(256, max(16, (4<<20/max(v, 1)+15)&^15)) }

// LinearCrossEntropy: h [P, d], w [V, d], targets and weights [P]; logits = h w^T are made a block of rows at a time and
// never held in full. It returns the loss as CrossEntropy does, sets dh [P, d] and adds to dw [V, d]; either may be nil.
func LinearCrossEntropy(p *pool.Pool, dh, dw, h, w []float32, targets []int32, weights []float32, d int) float64 {
	rows, v := len(targets), len(w)/d
	check("LinearCrossEntropy h", len(h), rows*d)
	block := logitRows(v)
	b := lend(min(block, rows) * v)
	defer b.giveBack()
	loss := 0.0
	for lo := 0; lo < rows; lo += block {
		hi := min(rows, lo+block)
		n := hi - lo
		logits := b.f[:n*v]
		gemm.Do(p, false, true, n, v, d, 1, h[lo*d:hi*d], d, w, d, 0, logits, v)
		loss += CrossEntropy(p, logits, targets[lo:hi], weights[lo:hi], v)
		if dh != nil {
			gemm.Do(p, false, false, n, d, v, 1, logits, v, w, d, 0, dh[lo*d:hi*d], d)
		}
		if dw != nil {
			gemm.Do(p, true, false, v, d, n, 1, logits, v, h[lo*d:hi*d], d, 1, dw, d)
		}
	}
	return loss
}
