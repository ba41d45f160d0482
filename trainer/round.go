package trainer

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// round is the state of one call of Step.
type round struct {
	*Trainer
	header data.Header
	step   int64
	fleet  Fleet

	shards map[int]*data.Shard // every shard leased in any phase, for a closing that wants it again
	kept   map[int]activations // of phase A
	budget int64               // bytes left for more of them
	dE     []float32           // [R, D] of phase B; nil for a language objective

	tries Attempt
	sum   *fixed.Sum // over the shards of added
	added map[int]bool
	fresh bool // nothing has been added: the values of sum are still those of the step before
	lent  bool // Reduce has seen sum and others may still ask for it: it is copied before it changes
}

func (t *Trainer) newRound(header data.Header, step int64, fleet Fleet) *round {
	return &round{
		Trainer: t, header: header, step: step, fleet: fleet, budget: t.keep,
		shards: make(map[int]*data.Shard), kept: make(map[int]activations),
	}
}

func (r *round) close() {
	for _, a := range r.kept {
		a.Free()
	}
}

// embed is phase A of one shard. Activations are kept while the budget lasts; the backward pass of the others
// begins with a second forward pass.
func (r *round) embed(ctx context.Context, shard *data.Shard) error {
	r.shards[shard.Index] = shard
	rows, a, err := r.model.Embed(r.packed(shard), r.budget)
	if err != nil {
		return fmt.Errorf("step %d, shard %d, embed: %w", r.step, shard.Index, err)
	}
	if a != nil {
		r.kept[shard.Index] = a
		r.budget -= a.Bytes()
	}
	if !finite(rows) {
		return r.fail(ctx, shard, "an embedding")
	}
	if err := r.fleet.Share(ctx, shard, rows); err != nil {
		return fmt.Errorf("step %d, shard %d, share embeddings: %w", r.step, shard.Index, err)
	}
	return nil
}

// contrast is phase B: the loss over the whole batch and its gradient by every row.
func (r *round) contrast(ctx context.Context) (loss float64, err error) {
	rows, err := r.fleet.Gather(ctx)
	if err != nil {
		return 0, fmt.Errorf("step %d, gather embeddings: %w", r.step, err)
	}
	h := r.header
	if want := h.Slots * r.model.Width(); h.Queries < 1 || len(h.Docs) < h.Queries || len(h.Docs) != h.Slots-h.Queries || len(rows) != want {
		return 0, fmt.Errorf("step %d: a batch of %d slots, %d queries and %d documents with %d gathered values, want slots = queries + documents, no fewer documents than queries, and %d values",
			r.step, h.Slots, h.Queries, len(h.Docs), len(rows), want)
	}
	batch := contrastive.Batch{Queries: h.Queries, Docs: h.Docs, Negatives: h.Negatives}
	if loss, r.dE, err = r.loss.Loss(rows, r.model.Width(), batch); err != nil {
		return 0, fmt.Errorf("step %d: %w", r.step, err)
	}
	if math.IsNaN(loss) || math.IsInf(loss, 0) || !finite(r.dE) {
		return 0, &NonFiniteError{Step: r.step, Shard: -1, What: "the loss over all embeddings"}
	}
	return loss, nil
}

// attempt begins phase C: the exponents of this try, and a sum of nothing.
func (r *round) attempt(ctx context.Context) (err error) {
	if r.tries, err = r.fleet.Attempt(ctx); err != nil {
		return fmt.Errorf("step %d, attempt: %w", r.step, err)
	}
	if n := r.tries.Shards; n < 1 || n > fixed.MaxShards {
		return fmt.Errorf("step %d, attempt %d: %d shards, want 1 to %d", r.step, r.tries.Number, n, fixed.MaxShards)
	}
	r.sum, r.fresh, r.lent = r.spare, true, false // the sum of the step before: that step is committed
	r.sum.Scale(fixed.Exponents(r.tries.Maxima, r.offsets.Tensors(), r.tries.Shards))
	r.added = make(map[int]bool)
	return nil
}

// backward is phase C of one shard. It joins the sum at once, in the pass that finds its maxima, and is taken out again if
// the fleet refuses it.
func (r *round) backward(ctx context.Context, shard *data.Shard) error {
	r.shards[shard.Index] = shard
	start := time.Now()
	loss, err := r.gradient(shard)
	if err != nil {
		return err
	}
	done := Done{Shard: shard.Index, Loss: loss, Tokens: shard.Tokens(), Maxima: make([]float32, r.offsets.Tensors())}
	if a, ok := r.fleet.(Auditor); ok {
		digest, only := a.Audit(shard.Index)
		if digest {
			done.Digest = fixed.DigestOf(r.grad, r.offsets, r.sum.Exponents, r.pool.For)
		}
		if only { // whatever it is, the one in whose sum it is answers for it
			if r.dE != nil {
				if done.Rows, _, err = r.model.Embed(r.packed(shard), 0); err != nil {
					return fmt.Errorf("step %d, shard %d, embed again: %w", r.step, shard.Index, err)
				}
			}
			done.Seconds = time.Since(start).Seconds()
			_, err := r.fleet.Done(ctx, done)
			return err
		}
	}
	again, finite := r.added[shard.Index], false
	if again {
		finite = fixed.Maxima(done.Maxima, r.grad, r.offsets, r.pool.For)
	} else {
		r.own()
		finite = r.sum.Accumulate(done.Maxima, r.grad, r.offsets, r.fresh, r.pool.For)
		r.fresh, r.added[shard.Index] = false, true
	}
	if !finite || math.IsNaN(loss) || math.IsInf(loss, 0) {
		return r.fail(ctx, shard, r.culprit(loss))
	}
	done.Seconds = time.Since(start).Seconds()
	accepted, err := r.fleet.Done(ctx, done)
	if err != nil {
		return fmt.Errorf("step %d, shard %d, report: %w", r.step, shard.Index, err)
	}
	if !accepted && !again {
		r.add(shard.Index, -1)
	}
	return nil
}

// gradient writes g_v of a shard to r.grad and returns the shard's part of a language objective's loss.
func (r *round) gradient(shard *data.Shard) (loss float64, err error) {
	batch := r.packed(shard)
	if r.dE != nil {
		d := r.model.Width()
		dE := make([]float32, 0, len(shard.Texts)*d)
		for i, t := range shard.Texts {
			if t.Slot < 0 || int(t.Slot) >= r.header.Slots {
				return 0, fmt.Errorf("step %d, shard %d: text %d has slot %d, the batch has %d", r.step, shard.Index, i, t.Slot, r.header.Slots)
			}
			dE = append(dE, r.dE[int(t.Slot)*d:int(t.Slot+1)*d]...)
		}
		err = r.model.EmbedBackward(batch, dE, r.grad, r.kept[shard.Index])
	} else if p := r.predict(shard); len(p.Target) == 0 {
		clear(r.grad) // nothing of this shard is masked
	} else {
		loss, err = r.model.LanguageBackward(batch, backbone.Prediction(p), r.grad)
	}
	if err != nil {
		return 0, fmt.Errorf("step %d, shard %d, backward: %w", r.step, shard.Index, err)
	}
	return loss, nil
}

// predict returns what a language objective asks of a shard.
func (r *round) predict(shard *data.Shard) contrastive.Prediction {
	texts := make([]contrastive.Text, len(shard.Texts))
	for i, t := range shard.Texts {
		texts[i] = contrastive.Text{ID: uint32(t.Slot), Tokens: t.Tokens}
	}
	mask := r.model.MaskToken()
	if id := r.config.Loss.MaskID; id != nil {
		mask = *id
	}
	return r.config.Loss.Predict(texts, mask, r.config.Seed, r.step, r.header.Divisor)
}

// add adds the gradient in r.grad to the sum (sign 1), or takes it out (-1): exact, whichever came first.
func (r *round) add(shard int, sign int64) {
	r.own()
	r.begin()
	r.pool.For((len(r.grad)+fixed.Block-1)/fixed.Block, func(i int) {
		r.sum.QuantiseRange(r.grad, r.offsets, sign, i*fixed.Block, min((i+1)*fixed.Block, len(r.grad)))
	})
	r.added[shard] = sign > 0
}

// own makes a sum that others may still ask for this round's own before it changes.
func (r *round) own() {
	if r.lent {
		r.sum, r.lent = r.sum.Clone(), false
	}
}

// begin makes a sum of nothing really that.
func (r *round) begin() {
	if r.fresh {
		clear(r.sum.Values)
		r.fresh = false
	}
}

// settle makes the sum that of exactly the shards that the closing names. A shard that another worker covers is
// computed again and subtracted; one whose acceptance never arrived here is computed again and added.
func (r *round) settle(closing Closing) error {
	r.begin()
	named := make(map[int]bool, len(closing.Shards))
	for _, s := range closing.Shards {
		named[s] = true
		if !r.added[s] {
			if err := r.correct(s, 1); err != nil {
				return err
			}
		}
	}
	for s := range r.shards {
		if r.added[s] && !named[s] {
			if err := r.correct(s, -1); err != nil {
				return err
			}
			r.subtracted++
		}
	}
	r.lent = true
	return nil
}

func (r *round) correct(shard int, sign int64) error {
	s, ok := r.shards[shard]
	if !ok {
		return fmt.Errorf("step %d: the closing names shard %d, which was never leased to this worker", r.step, shard)
	}
	if _, err := r.gradient(s); err != nil {
		return err
	}
	r.add(shard, sign)
	return nil
}

// fail reports a shard that is not finite and returns the error that stops the run.
func (r *round) fail(ctx context.Context, shard *data.Shard, what string) error {
	bad := &NonFiniteError{Step: r.step, Shard: shard.Index, What: what, Texts: shard.Texts}
	done := Done{Shard: shard.Index, NonFinite: true, Maxima: make([]float32, r.offsets.Tensors()), Tokens: shard.Tokens()}
	if _, err := r.fleet.Done(ctx, done); err != nil {
		return fmt.Errorf("%w (and it was not reported: %v)", bad, err)
	}
	return bad
}

// culprit names what of a shard is not finite: the loss, or the first such tensor.
func (r *round) culprit(loss float64) string {
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return "the loss"
	}
	for i, t := range r.params {
		if !finite(r.grad[r.offsets[i]:r.offsets[i+1]]) {
			return "the gradient of " + t.Name
		}
	}
	return "the gradient"
}

func (r *round) packed(shard *data.Shard) backbone.Batch {
	return backbone.Batch{Texts: shard.Texts, Step: r.step, Training: true}
}

func finite(x []float32) bool {
	var top [1]float32
	return fixed.Maxima(top[:], x, fixed.NewOffsets(len(x)), nil)
}
