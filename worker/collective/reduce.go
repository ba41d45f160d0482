package collective

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

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
	h.mu.Lock()
	defer h.mu.Unlock()
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
			a := &adding{g: g, h: h, size: step.Size, part: p}
			for try := 0; ; try++ {
				if mine {
					if err := a.begin(sum); err != nil {
						return err
					}
				}
				err := g.gather(ctx, step, named, a)
				if err == nil {
					break
				}
				if !errors.Is(err, errSpoiled) || ctx.Err() != nil {
					return err
				}
				a.total = nil // begun again: some of it was added
			}
			var packed []byte
			if len(step.Others) > 0 || step.Share {
				packed = encode(a.exponents, a.total) // once for all who ask, while it is in the cache
			}
			h.fill(p, packed)
			return nil
		})
	}
	return group.Wait()
}

// errSpoiled says that a part passed its checksum and could not be read to its end.
var errSpoiled = errors.New("part spoiled by a sum that could not be read")

// adding is a part of the total in the making, in its place.
type adding struct {
	g    *Group
	h    *held
	size int64
	part span

	mu        sync.Mutex
	exponents []int32
	total     []int64 // nil = nothing is in it yet
}

// begin starts from this worker's own sum.
func (a *adding) begin(sum *fixed.Sum) error {
	total, err := a.h.place(a.size, sum.Exponents, a.part)
	if err != nil {
		return err
	}
	a.total, a.exponents = total, sum.Exponents
	copy(total, sum.Values[a.part.lo:a.part.hi])
	return nil
}

// accept adds another worker's sum.
func (a *adding) accept(v part) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.exponents != nil && !slices.Equal(a.exponents, v.exponents) {
		return errExponents
	}
	add := a.total != nil
	if !add {
		total, err := a.h.place(a.size, v.exponents, a.part)
		if err != nil {
			return err
		}
		a.total, a.exponents = total, slices.Clone(v.exponents)
	}
	if err := v.into(a.total, add); err != nil {
		return errors.Join(err, errSpoiled)
	}
	return nil
}

// gather adds the sums of the named workers.
func (g *Group) gather(ctx context.Context, step Step, named []string, a *adding) error {
	req := wire.ChunkRequest{
		Run: g.run, Stream: StreamSum, From: step.Self, Round: step.Round, Attempt: step.Attempt,
		Closing: step.Closing.Number, Lo: a.part.lo, Hi: a.part.hi,
	}
	asks, ctx := errgroup.WithContext(ctx)
	asks.SetLimit(4)
	for _, w := range named {
		asks.Go(func() error { return g.ask(ctx, []string{w}, req, a.accept) })
	}
	return asks.Wait()
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
			err := g.ask(ctx, from, req, func(v part) error {
				total, err := h.place(step.Size, v.exponents, p)
				if err != nil {
					return err
				}
				return v.into(total, false)
			})
			if err == nil {
				h.fill(p, nil)
			}
			return err
		})
	}
	return group.Wait()
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
