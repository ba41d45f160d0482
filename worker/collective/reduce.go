package collective

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// Reduce contributes sum, which is over exactly the shards that step.Closing names for this worker, and returns
// the total over all shards. It returns ctx's error when ctx ends first: the closing was superseded, or the round
// abandoned. Afterwards the sum is the caller's again; the total is shared and nobody may change it.
//
//	total[i] = sum over the workers w that the closing names of sum_w[i]
//
// When Reduce has returned a total, every owner had every sum, so no sum is needed any more; the total is kept and
// answered for until Release.
func (g *Group) Reduce(ctx context.Context, step Step, sum *fixed.Sum) (*fixed.Sum, error) {
	if int64(len(sum.Values)) != step.Size {
		return nil, fmt.Errorf("reduce round %d: sum of %d parameters, want %d", step.Round, len(sum.Values), step.Size)
	}
	h := g.hold(key{step.Round, step.Attempt})
	if whole := g.alone(step, h, sum); whole != nil {
		return whole, nil
	}
	if !step.Closing.Complete {
		h.offer(step.Closing.Number, sum)
		defer h.withdraw()
	}
	return g.collect(ctx, step, h, sum)
}

// Follow returns the total of a closing that does not name this worker: a follower's, or a late member's.
func (g *Group) Follow(ctx context.Context, step Step) (*fixed.Sum, error) {
	return g.collect(ctx, step, g.hold(key{step.Round, step.Attempt}), nil)
}

// alone is the short cut of a closing that names nobody but this worker.
func (g *Group) alone(step Step, h *held, sum *fixed.Sum) *fixed.Sum {
	for _, c := range step.Closing.Cover {
		if c.Worker != step.Self && len(c.Shards) > 0 {
			return nil
		}
	}
	for _, o := range step.Closing.Owners {
		if o.Worker != step.Self {
			return nil
		}
	}
	if step.Closing.Complete {
		return nil
	}
	if step.Share {
		total := g.unused.clone(sum) // followers may ask for it while the caller already sums the next step
		h.adopt(total, false)
		return total
	}
	h.adopt(sum, true)
	return sum
}

// collect fills the whole total: this worker's own ranges from the named sums, all others from those who have them.
func (g *Group) collect(ctx context.Context, step Step, h *held, sum *fixed.Sum) (*fixed.Sum, error) {
	group, ctx := errgroup.WithContext(ctx)
	at := int64(0)
	for _, o := range sorted(step.Closing.Owners) {
		if o.Lo != at {
			return nil, fmt.Errorf("closing %d of round %d: owners leave or repeat parameters at %d", step.Closing.Number, step.Round, at)
		}
		at = o.Hi
		if o.Worker == step.Self && !step.Closing.Complete {
			group.Go(func() error { return g.own(ctx, step, h, sum, o) })
		} else if o.Worker != step.Self {
			group.Go(func() error { return g.take(ctx, step, h, o) })
		}
	}
	if at != step.Size {
		return nil, fmt.Errorf("closing %d of round %d: owners cover %d parameters, want %d", step.Closing.Number, step.Round, at, step.Size)
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if left := h.missing(0, step.Size); len(left) > 0 {
		return nil, fmt.Errorf("closing %d of round %d: this worker owns parameters [%d, %d) as complete but does not have them",
			step.Closing.Number, step.Round, left[0].lo, left[0].hi)
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.total, nil
}

// own adds the named sums over this worker's range, part by part. A part enters the total only when every named
// worker's is in it, once; nothing outlives the call, so sums of an older closing cannot be added to a newer one.
func (g *Group) own(ctx context.Context, step Step, h *held, sum *fixed.Sum, o wire.Owner) error {
	var named []string // besides this worker
	mine := false
	for _, c := range step.Closing.Cover {
		switch {
		case len(c.Shards) == 0:
		case c.Worker == step.Self:
			mine = true
		case !slices.Contains(named, c.Worker):
			named = append(named, c.Worker)
		}
	}
	if mine && sum == nil {
		return fmt.Errorf("closing %d of round %d names shards of this worker, which has no sum", step.Closing.Number, step.Round)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(g.Window)
	for _, p := range h.missing(o.Lo, o.Hi).parts(int64(g.Part)) {
		group.Go(func() error {
			total := scratch(int(p.hi - p.lo))
			defer recycle(total)
			var exponents []int32
			if sum != nil {
				exponents = sum.Exponents
			}
			if mine {
				copy(total, sum.Values[p.lo:p.hi])
			} else {
				clear(total)
			}
			req := wire.ChunkRequest{
				Run: g.run, Stream: StreamSum, From: step.Self, Round: step.Round, Attempt: step.Attempt,
				Closing: step.Closing.Number, Lo: p.lo, Hi: p.hi,
			}
			var mu sync.Mutex // guards total and theirs
			theirs := exponents
			asks, actx := errgroup.WithContext(ctx)
			asks.SetLimit(4)
			for _, w := range named {
				asks.Go(func() error {
					e, values, err := g.ask(actx, []string{w}, req, exponents)
					if err != nil {
						return err
					}
					defer recycle(values)
					mu.Lock()
					defer mu.Unlock()
					theirs = e
					for i, v := range values {
						total[i] += v
					}
					return nil
				})
			}
			if err := asks.Wait(); err != nil {
				return err
			}
			return h.fill(step.Size, theirs, p.lo, total)
		})
	}
	return group.Wait()
}

// take asks for the totals of an owner's range: the owner first, then, where it does not answer, any other member,
// since a total is the same whoever has it.
func (g *Group) take(ctx context.Context, step Step, h *held, o wire.Owner) error {
	from := []string{o.Worker}
	for _, w := range step.Others {
		if w != o.Worker {
			from = append(from, w)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(g.Window)
	for _, p := range h.missing(o.Lo, o.Hi).parts(int64(g.Part)) {
		group.Go(func() error {
			req := wire.ChunkRequest{
				Run: g.run, Stream: StreamTotal, From: step.Self, Round: step.Round, Attempt: step.Attempt,
				Closing: step.Closing.Number, Lo: p.lo, Hi: p.hi,
			}
			e, values, err := g.ask(ctx, from, req, nil)
			if err != nil {
				return err
			}
			defer recycle(values)
			return h.fill(step.Size, e, p.lo, values)
		})
	}
	return group.Wait()
}

// ask repeats a question until a good answer comes: to the first of from while it says "later", to the next one when it
// does not answer. Damaged parts are asked for again, and logged. ErrGone when all of from have forgotten the round.
func (g *Group) ask(ctx context.Context, from []string, req wire.ChunkRequest, exponents []int32) ([]int32, []int64, error) {
	var pause time.Duration
	gone := 0
	for try := 0; ; try++ {
		worker := from[try%len(from)]
		actx, cancel := context.WithTimeout(ctx, g.Timeout)
		chunk, err := g.transport.Ask(actx, worker, &req)
		cancel()
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		switch {
		case err != nil:
		case chunk.Later:
			if len(from) == 1 || try%len(from) == 0 {
				try-- // a live holder that is not so far: stay with it
			}
			pause = time.Millisecond // the holder has waited already
		case chunk.Err == goneText:
			if gone++; gone >= 2*len(from) {
				return nil, nil, fmt.Errorf("round %d: %w", req.Round, ErrGone)
			}
		case chunk.Err != "":
			err = errors.New(chunk.Err)
		case checksum(chunk.Payload) != chunk.Digest:
			err = errors.New("payload does not have its checksum")
		default:
			e, values, derr := decode(chunk.Payload, int(req.Hi-req.Lo))
			if derr == nil && exponents != nil && !slices.Equal(e, exponents) {
				derr = errExponents
			}
			if derr == nil {
				return e, values, nil
			}
			err = derr
		}
		if err != nil {
			g.Log.Debug("part asked for again", "worker", worker, "stream", req.Stream, "round", req.Round, "closing", req.Closing, "lo", req.Lo, "err", err)
		}
		pause = min(max(2*pause, 2*time.Millisecond), g.Poll/2)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// sorted returns the owners by range, without empty ones.
func sorted(owners []wire.Owner) []wire.Owner {
	out := slices.DeleteFunc(slices.Clone(owners), func(o wire.Owner) bool { return o.Lo >= o.Hi })
	slices.SortFunc(out, func(a, b wire.Owner) int {
		if a.Lo < b.Lo {
			return -1
		}
		return 1
	})
	return out
}
