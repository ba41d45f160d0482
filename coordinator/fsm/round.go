package fsm

import (
	"slices"
	"time"
)

// Kind of a round.
type Kind uint8

// The kinds of a round.
const (
	Train    Kind = iota + 1 // a training step
	Evaluate                 // embeddings of a suite's texts; one worker scores
)

// Round is the work in flight.
type Round struct {
	Number   int64
	Kind     Kind
	Step     int64
	Suite    int
	Shards   int
	Gather   bool // embeddings of all shards are gathered first
	Attempt  int32
	Maxima   []float32 // what this attempt's exponents come from
	Leases   []Lease   // ascending; together exactly [0, Shards)
	Closing  *Closing  // the newest; see Withdrawn
	Scorer   string
	Opened   time.Time
	Retried  time.Time // when the attempt began
	Scoring  time.Time // when the scorer was named
	LeasedAt time.Time // when leases last changed
	Batch    string    // digest of the batch that is served; "" of an evaluation
}

// Range is the shards [Lo, Hi).
type Range struct{ Lo, Hi int }

// Lease grants shards to a worker under an epoch.
type Lease struct {
	Lo, Hi int
	Worker string
	Epoch  int64
	At     time.Time
}

// Closing is a disjoint cover of a step's shards by workers, and who reduces what.
type Closing struct {
	Number    int32
	Cover     []Cover
	Owners    []Owner
	Complete  bool // the owners hold the whole total already
	Withdrawn bool // a named worker was lost; shards are leased again
	Maxima    []float32
	Loss      float64 // sum of the shards' losses in shard order; 0 when every worker knows the loss itself
	Tokens    int64
	At        time.Time
}

// Cover names the worker whose sum is over exactly Shards.
type Cover struct {
	Worker string
	Shards []Range
}

// Owner reduces the parameters [Lo, Hi).
type Owner struct {
	Worker string
	Lo, Hi int64
}

// Named reports whether the closing needs the worker: its sum, or its range.
func (c *Closing) Named(worker string) bool {
	return slices.ContainsFunc(c.Cover, func(k Cover) bool { return k.Worker == worker }) ||
		slices.ContainsFunc(c.Owners, func(o Owner) bool { return o.Worker == worker })
}

// Holder returns the lease of a shard. Shards outside [0, Shards) have none: ok is false.
func (r *Round) Holder(shard int) (l Lease, ok bool) {
	i, _ := slices.BinarySearchFunc(r.Leases, shard, func(l Lease, shard int) int {
		if l.Hi <= shard {
			return -1
		}
		return 1
	})
	if i == len(r.Leases) || shard < r.Leases[i].Lo {
		return Lease{}, false
	}
	return r.Leases[i], true
}

// overlay returns the leases with grants laid over them: ascending, split and merged.
func overlay(leases, grants []Lease, shards int) []Lease {
	held := make([]*Lease, shards)
	for _, list := range [][]Lease{leases, grants} {
		for i := range list {
			for shard := list[i].Lo; shard < list[i].Hi; shard++ {
				held[shard] = &list[i]
			}
		}
	}
	var out []Lease
	for shard, l := range held {
		if n := len(out); n > 0 && out[n-1].Worker == l.Worker && out[n-1].Epoch == l.Epoch {
			out[n-1].Hi = shard + 1
			continue
		}
		out = append(out, Lease{Lo: shard, Hi: shard + 1, Worker: l.Worker, Epoch: l.Epoch, At: l.At})
	}
	return out
}
