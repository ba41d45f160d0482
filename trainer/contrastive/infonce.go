package contrastive

import (
	"math"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/simd"
)

// block is the number of anchors whose logits are held at once: memory is block x R, not R x R. It is fixed: the
// order in which documents gather their gradient follows it.
const block = 128

// InfoNCE is Reference in float32, blocked: the loss over the whole global batch that every worker computes for
// itself. rows [R, D] are unit vectors, grad [R, D] is dL/d rows. The result does not depend on p's threads.
//
// Logits and gradients are matrix products, block of anchors by block:
//
//	S = A C^T / tau;  G = softmax(S) - I;  dA = k G C;  dC += k G^T A;  k = weight / (B tau)
func InfoNCE(p *pool.Pool, rows []float32, d int, b Batch, o Options) (loss float64, grad []float32) {
	grad = make([]float32, b.Rows()*d)
	cut := b.Queries * d
	queries, documents := matrix{rows[:cut], grad[:cut]}, matrix{rows[cut:], grad[cut:]}
	n := newDirection(p, d, b, o)
	if !o.Symmetric {
		return n.run(queries, documents, len(b.Docs), 1), grad
	}
	positives := matrix{documents.x[:cut], documents.grad[:cut]}
	loss = n.run(queries, documents, len(b.Docs), 0.5)
	loss += n.run(positives, queries, b.Queries, 0.5)
	return loss, grad
}

// matrix is rows and where their gradient is added.
type matrix struct{ x, grad []float32 }

// direction contrasts anchors with candidates; candidate i is the right one of anchor i.
type direction struct {
	p       *pool.Pool
	d       int
	b       Batch
	o       Options
	same    map[uint64][]int // documents of each identity, ascending; nil without masking
	logits  []float32        // [block, R-B]
	targets []int32          // [B] 0, 1, 2 ...
	ones    []float32        // [block]
}

func newDirection(p *pool.Pool, d int, b Batch, o Options) *direction {
	m := min(block, b.Queries)
	n := &direction{p: p, d: d, b: b, o: o, logits: make([]float32, m*len(b.Docs)), ones: make([]float32, m)}
	for i := range m {
		n.ones[i] = 1
	}
	for i := range b.Queries {
		n.targets = append(n.targets, int32(i))
	}
	if o.MaskDuplicates {
		n.same = make(map[uint64][]int, len(b.Docs))
		for j, id := range b.Docs {
			n.same[id] = append(n.same[id], j)
		}
	}
	return n
}

// run adds the gradients of one direction over N candidates and returns its part of the loss.
func (n *direction) run(anchor, candidate matrix, N int, weight float64) (loss float64) {
	d, B := n.d, n.b.Queries
	scale := float32(weight / (float64(B) * n.o.Temperature))
	for lo := 0; lo < B; lo += block {
		m := min(block, B-lo)
		a, da := anchor.x[lo*d:(lo+m)*d], anchor.grad[lo*d:(lo+m)*d]
		s := n.logits[:m*N]
		gemm.Do(n.p, false, true, m, N, d, float32(1/n.o.Temperature), a, d, candidate.x, d, 0, s, N)
		n.mask(s, lo, m, N)
		loss += simd.CrossEntropy(n.p, s, n.targets[lo:lo+m], n.ones[:m], N)
		gemm.Do(n.p, false, false, m, d, N, scale, s, N, candidate.x, d, 1, da, d)
		gemm.Do(n.p, true, false, N, d, m, scale, s, N, a, d, 1, candidate.grad, d)
	}
	return weight * loss / float64(B)
}

// mask takes the right document's second appearances out of the logits [m, N] of anchors lo .. lo+m-1.
func (n *direction) mask(s []float32, lo, m, N int) {
	for i := lo; i < lo+m; i++ {
		for _, j := range n.same[n.b.Docs[i]] {
			if j != i && j < N {
				s[(i-lo)*N+j] = float32(math.Inf(-1))
			}
		}
	}
}
