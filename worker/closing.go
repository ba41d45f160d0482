package worker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
	"github.com/counterpoint-ml/counterpoint/worker/collective"
)

// Done implements trainer.Fleet. It asks until a leader answers.
func (f *fleet) Done(ctx context.Context, done trainer.Done) (bool, error) {
	if f.checked(done) {
		return false, ctx.Err()
	}
	f.mu.Lock()
	attempt, phase := f.attempt, trainer.Backward
	if _, ok := f.begun[work{phase, done.Shard}]; !ok && done.NonFinite {
		phase = trainer.Embed
	}
	f.mu.Unlock()
	if done.Seconds > 0 {
		f.j.say("training", float64(done.Tokens)/done.Seconds)
	}
	accepted, err := f.ledger.settle(ctx, wire.Report{
		Phase: uint8(phase), Attempt: attempt, Shard: done.Shard, Maxima: done.Maxima, NonFinite: done.NonFinite,
		Overflow: done.Overflow || f.exceeds(done.Maxima), Loss: done.Loss, Tokens: done.Tokens, Seconds: done.Seconds,
		Epoch: f.epochOf(phase, done.Shard), Digest: done.Digest,
	})
	if err == nil && !accepted {
		f.mu.Lock()
		w := work{trainer.Backward, done.Shard}
		f.refused[w] = refusal{f.begun[w], time.Now()}
		delete(f.begun, w)
		f.mu.Unlock()
	}
	return accepted, err
}

// exceeds reports whether some maximum is beyond its bound under this attempt's exponents.
func (f *fleet) exceeds(maxima []float32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(maxima) == 0 || f.shards == 0 {
		return false // a shard that was only embedded has no gradient to exceed anything
	}
	_, over := fixed.Exceeds(maxima, fixed.Exponents(f.maxima, len(maxima), f.shards), f.shards)
	return over
}

// confess tells of a value that is not finite, under its shard, or where it belongs to none (the loss over all
// embeddings) under the first shard that this worker holds. It stays with the round until that is over: the leader that
// has heard may die, and the worker that holds the shard too.
func (f *fleet) confess(ctx context.Context, err error) {
	only := -1
	var bad *trainer.NonFiniteError
	if errors.As(err, &bad) {
		only = bad.Shard
	}
	phase := trainer.Backward
	if f.kind == wire.Evaluate {
		phase = trainer.Embed
	}
	for told := [2]int64{-1}; ; {
		r, changed, err := f.now(ctx)
		if err != nil {
			return
		}
		for _, l := range r.Leases {
			if l.Worker != f.id || only >= 0 && (only < l.Lo || only >= l.Hi) {
				continue
			}
			if under := [2]int64{r.Term(), l.Epoch}; told != under {
				m := wire.Report{Phase: uint8(phase), Attempt: r.Attempt, Shard: max(only, l.Lo), Epoch: l.Epoch, NonFinite: true}
				if _, err := f.ledger.settle(ctx, m); err != nil {
					return
				}
				told = under
			}
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// Close implements trainer.Fleet.
func (f *fleet) Close(ctx context.Context) (trainer.Closing, error) {
	for {
		r, changed, err := f.now(ctx)
		if err != nil {
			return trainer.Closing{}, err
		}
		if err := f.superseded(r); err != nil {
			return trainer.Closing{}, err
		}
		if r.Closing != nil {
			return f.describe(r.Closing), nil
		}
		if len(f.next(r, trainer.Backward)) > 0 {
			return trainer.Closing{}, trainer.ErrReleased
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// superseded returns ErrOverflow when the round is in a newer attempt.
func (f *fleet) superseded(r *wire.Round) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Attempt != f.attempt {
		return trainer.ErrOverflow
	}
	return nil
}

// describe lists this worker's shards of a closing. A complete one needs no sum, which may stay as it is.
func (f *fleet) describe(c *wire.Closing) trainer.Closing {
	out := trainer.Closing{Number: c.Number, Maxima: c.Maxima, Loss: c.Loss}
	if c.Complete {
		f.mu.Lock()
		defer f.mu.Unlock()
		for w := range f.begun {
			if w.phase == trainer.Backward {
				out.Shards = append(out.Shards, w.shard)
			}
		}
		slices.Sort(out.Shards)
		return out
	}
	for shard := range len(f.header.Tokens) {
		for _, x := range c.Cover {
			if x.Worker == f.id && within(x.Shards, shard) {
				out.Shards = append(out.Shards, shard)
				break
			}
		}
	}
	return out
}

// Reduce implements trainer.Fleet. A complete closing that follows the given one asks for no other sum, so the
// exchange goes on under it; every other newer closing does, and the trainer is told so.
func (f *fleet) Reduce(ctx context.Context, closing trainer.Closing, sum *fixed.Sum) (*fixed.Sum, error) {
	for {
		r, _, err := f.now(ctx)
		if err != nil {
			return nil, err
		}
		if err := f.superseded(r); err != nil {
			return nil, err
		}
		if r.Closing == nil || r.Closing.Number != closing.Number && !r.Closing.Complete {
			return nil, trainer.ErrReleased
		}
		total, err := f.reduce(ctx, r, sum)
		if err == nil {
			f.mu.Lock()
			f.closed = r.Closing.Number
			f.mu.Unlock()
			f.j.saver.copy(r, f.id, f.j) // the parameters are still those of before the step
			f.j.settle()
			return total, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !errors.Is(err, context.Canceled) && !errors.Is(err, collective.ErrGone) {
			return nil, err
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// reduce exchanges sums under the closing of r, until r has another one.
func (f *fleet) reduce(ctx context.Context, r *wire.Round, sum *fixed.Sum) (*fixed.Sum, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.busy.Go(func() {
		for {
			now, changed := f.view.now()
			if now.Number != r.Number || now.Attempt != r.Attempt || now.Closing == nil || now.Closing.Number != r.Closing.Number {
				cancel()
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
	return f.j.group.Reduce(ctx, collective.Step{
		Self: f.id, Round: r.Number, Attempt: r.Attempt, Size: int64(f.j.trainer.Size()), Closing: r.Closing,
		Others: others(r, f.id), Share: len(r.Members) > 1,
	}, sum)
}
