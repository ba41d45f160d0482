package worker

import (
	"context"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// remembered is the number of closed training rounds that a view keeps for followers.
const remembered = 8

// view is the newest Round that a session has seen. Rounds are not changed once they are in it.
type view struct {
	mu      sync.Mutex
	round   *wire.Round
	changed chan struct{}
	closed  map[int64]*wire.Round // by step: the newest revision of a training round that had a closing
	digests map[int64]string      // by step: committed digest of the parameters after it
	reign   context.Context       // ends when another leader has spoken
	depose  context.CancelFunc
}

func newView() *view {
	v := &view{changed: make(chan struct{}), closed: map[int64]*wire.Round{}, digests: map[int64]string{}}
	v.reign, v.depose = context.WithCancel(context.Background())
	return v
}

// offer takes a Round unless a newer one is here.
func (v *view) offer(r *wire.Round) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.round != nil && r.Revision <= v.round.Revision {
		return
	}
	if v.round != nil && r.Step < v.round.Step { // back to a checkpoint: steps after it may be executed anew, with other results
		for step := range v.digests {
			if step > r.Step {
				delete(v.digests, step)
			}
		}
	}
	if v.round != nil && r.Term() != v.round.Term() {
		v.depose()
		v.reign, v.depose = context.WithCancel(context.Background())
	}
	v.round = r
	if r.Kind == wire.Train && r.Closing != nil {
		v.closed[r.Step] = r
	}
	if r.Parameters != "" {
		v.digests[r.Step] = r.Parameters
	}
	if r.Commit != nil {
		v.digests[r.Commit.Step] = r.Commit.Parameters
	}
	for step, c := range v.closed {
		withdrawn := r.Kind == wire.Train && c.Number == r.Number && r.Closing == nil
		again := step >= r.Step && (c.Number != r.Number || r.Kind != wire.Train) // given up: the step is executed again
		if step < r.Step-remembered || withdrawn || again {
			delete(v.closed, step)
		}
	}
	for step := range v.digests {
		if step < r.Step-remembered || step > r.Step+1 {
			delete(v.digests, step)
		}
	}
	close(v.changed)
	v.changed = make(chan struct{})
}

// now returns the newest Round (nil = none yet) and a channel that is closed when there is a newer one.
func (v *view) now() (*wire.Round, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.round, v.changed
}

// patience is the context of a question to the leader: it ends after limit, and at once when another leader has spoken, for
// the one who was asked will not answer any more.
func (v *view) patience(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	v.mu.Lock()
	reign := v.reign
	v.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, limit)
	stop := context.AfterFunc(reign, cancel)
	return ctx, func() { stop(); cancel() }
}

// closing returns the newest revision of the round that executed step and had a closing, or nil.
func (v *view) closing(step int64) *wire.Round {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.closed[step]
}

// digest returns the committed digest of the parameters after step steps, or "".
func (v *view) digest(step int64) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.digests[step]
}

// over reports whether the round's step is committed, so that nothing is left to do for it.
func over(r *wire.Round) bool { return r.Commit != nil && r.Commit.Round >= r.Number }

// ended reports whether the run of a round goes no further.
func ended(r *wire.Round) bool {
	return r.State == wire.Finished || r.State == wire.Failed || r.State == wire.Cancelled
}

// member returns a worker's entry in a round, or nil.
func member(r *wire.Round, worker string) *wire.Member {
	for i := range r.Members {
		if r.Members[i].Worker == worker {
			return &r.Members[i]
		}
	}
	return nil
}

// others returns the full members besides worker.
func others(r *wire.Round, worker string) []string {
	var out []string
	for _, m := range r.Members {
		if m.Worker != worker && !m.Behind {
			out = append(out, m.Worker)
		}
	}
	return out
}

// holding reports whether the round still needs a worker: it has leases, or the closing counts on it.
func holding(r *wire.Round, worker string) bool {
	if r.Kind == 0 || over(r) {
		return false
	}
	for _, l := range r.Leases {
		if l.Worker == worker && l.Lo < l.Hi {
			return true
		}
	}
	if r.Closing != nil {
		for _, c := range r.Closing.Cover {
			if c.Worker == worker {
				return true
			}
		}
		for _, o := range r.Closing.Owners {
			if o.Worker == worker {
				return true
			}
		}
	}
	return false
}

// within reports whether shard is in one of ranges.
func within(ranges []wire.Range, shard int) bool {
	for _, r := range ranges {
		if shard >= r.Lo && shard < r.Hi {
			return true
		}
	}
	return false
}

// covered says of every shard of [0, shards) whether it is in one of ranges.
func covered(ranges []wire.Range, shards int) []bool {
	out := make([]bool, shards)
	for _, r := range ranges {
		for s := max(r.Lo, 0); s < min(r.Hi, shards); s++ {
			out[s] = true
		}
	}
	return out
}
