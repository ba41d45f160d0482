package contrastive

import (
	"math"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
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
	p      *pool.Pool
	d      int
	b      Batch
	o      Options
	same   map[uint64][]int // documents of each identity that occurs more than once, ascending
	logits []float32        // [block, R]
	losses []float64        // [B]
}

func newDirection(p *pool.Pool, d int, b Batch, o Options) *direction {
	n := &direction{p: p, d: d, b: b, o: o, losses: make([]float64, b.Queries)}
	n.logits = make([]float32, min(block, b.Queries)*len(b.Docs))
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
		n.p.For(m, func(i int) {
			n.losses[lo+i] = n.softmax(s[i*N:(i+1)*N], lo+i)
		})
		gemm.Do(n.p, false, false, m, d, N, scale, s, N, candidate.x, d, 1, da, d)
		gemm.Do(n.p, true, false, N, d, m, scale, s, N, a, d, 1, candidate.grad, d)
	}
	for _, l := range n.losses {
		loss += l
	}
	return weight * loss / float64(B)
}

// softmax replaces row i's logits s [N] by softmax(s) - delta_i and returns -log softmax(s)_i. Terms that are the
// right document a second time count nothing.
func (n *direction) softmax(s []float32, i int) (loss float64) {
	if n.o.MaskDuplicates {
		for _, j := range n.same[n.b.Docs[i]] {
			if j != i && j < len(s) {
				s[j] = float32(math.Inf(-1))
			}
		}
	}
	return softmaxCrossEntropy(s, i)
}

// softmaxCrossEntropy returns log sum_j exp(s_j) - s_i and leaves softmax(s) - delta_i in s. Differences to the
// maximum are exact enough in float32; their exponentials are added in float64.
func softmaxCrossEntropy(s []float32, i int) float64 {
	top := s[0]
	for _, v := range s {
		top = max(top, v)
	}
	own := float64(s[i] - top)
	sum := 0.0
	for j, v := range s {
		e := math.Exp(float64(v - top))
		sum += e
		s[j] = float32(e)
	}
	inverse := float32(1 / sum)
	for j := range s {
		s[j] *= inverse
	}
	s[i]--
	return math.Log(sum) - own
}
