package plan

import (
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// Seen is what the leader knows and the log does not: it is lost with the leader, and the workers tell it again.
type Seen struct {
	Timers Timers
	Since  time.Time // when this leader's term began
	// Alone: every member of the log that was not heard in this life is dead.
	Alone   bool
	Workers map[string]*Worker
	Runs    map[string]*RunSeen
}

// RunSeen is what is known of one run.
type RunSeen struct {
	// Ready: its data, suites and store are open here. A run that is not ready gets no workers, and its own wait.
	Ready   bool
	Kernels string // that the run asks of processors while its numerics are not fixed; "" = any
	// Wait is until when holders of the newest parameters may still turn up: after a leader change, or after all of
	// them were lost.
	Wait time.Time

	// What was accepted for the round in flight. Plan takes it for empty when Round or Attempt are not the state's.
	Round    int64
	Attempt  int32              // of Backward and Applied
	Embedded []*Report          // [shards] nil = not yet
	Backward []*Report          // [shards]
	Applied  map[string]Applied // by worker
	Checks   map[int][]Check    // by audited shard: its gradient as others computed it
	Scored   *Scored

	Saved    *Saved // answer to the run's Save
	Shapes   map[Work]Shape
	Verified map[string]string // by checkpoint path: "" = good, else what is wrong
}

// nothing is what is known of a run that nothing is known of.
var nothing = &RunSeen{}

// Run returns what is known of a run, to be added to.
func (v *Seen) Run(id string) *RunSeen {
	r := v.Runs[id]
	if r == nil {
		if v.Runs == nil {
			v.Runs = map[string]*RunSeen{}
		}
		r = &RunSeen{Shapes: map[Work]Shape{}, Verified: map[string]string{}}
		v.Runs[id] = r
	}
	return r
}

// of returns what is known of a run, to be read.
func (v *Seen) of(id string) *RunSeen {
	if r := v.Runs[id]; r != nil {
		return r
	}
	return nothing
}

// Worker is what was heard of a member.
type Worker struct {
	Heard      time.Time
	Lost       time.Time // when its connection went; zero = it is up
	LostReason string
	Leaving    string // why it drains; "" = it stays
	Run        string // that State, Parameters, Size and Speed are of: the one that its newest beat was about
	State      int64  // steps applied to its parameters; -1 = none
	Parameters string // their digest
	Size       int64
	Speed      float64   // tokens a second; 0 = not measured
	Active     time.Time // its newest accepted report
	Frozen     string    // digest of its frozen weights as loaded; "" = none, or unknown
	Checked    int64     // up to which step they are known to be unchanged
	Spoiled    string    // which of them changed
}

// Report is a shard's accepted report.
type Report struct {
	Worker    string
	Epoch     int64
	Maxima    []float32
	NonFinite bool
	Overflow  bool
	Loss      float64
	Tokens    int
	Digest    string
	Rows      string // for people: which rows the shard holds; set when NonFinite
}

// Applied is a member's result of a step.
type Applied struct {
	Gradient, Parameters string
	Loss, Norm, Rate     float64
}

// Scored is the result of an evaluation.
type Scored struct {
	Worker  string
	Metrics map[string]float64
	Digest  string
}

// Saved is the writer's answer to a Save.
type Saved struct {
	Step                      int64
	Worker, Path, Digest, Err string
}

// Work is something that a round can be about.
type Work struct {
	Kind  fsm.Kind
	Step  int64
	Suite int
}

// Shape is what must be known of work before a round is opened.
type Shape struct {
	Tokens []int32 // [shards]
	Gather bool    // a contrastive step: embeddings first
	Digest string  // of the batch, for the ledger
	Err    string  // why it cannot be done
}

// Phase of a shard.
type Phase uint8

// The phases that are reported; the numbers are those of trainer.Phase.
const (
	Embed    Phase = 1
	Backward Phase = 2
	Second   Phase = 3 // a gradient that was computed again, to compare it
)

// fits returns what was seen of the round in flight, or nothing when it is of another.
func (v *RunSeen) embedded(r *fsm.Round, shard int) *Report {
	if v.Round != r.Number || shard >= len(v.Embedded) {
		return nil
	}
	return v.Embedded[shard]
}

func (v *RunSeen) backward(r *fsm.Round, shard int) *Report {
	if v.Round != r.Number || v.Attempt != r.Attempt || shard >= len(v.Backward) {
		return nil
	}
	return v.Backward[shard]
}

func (v *RunSeen) applied(r *fsm.Round, worker string) (Applied, bool) {
	if v.Round != r.Number || v.Attempt != r.Attempt {
		return Applied{}, false
	}
	a, ok := v.Applied[worker]
	return a, ok
}

// Turn forgets what was seen of an older round or attempt. The leader calls it after every change of the state.
func (v *RunSeen) Turn(r *fsm.Round) {
	switch {
	case r == nil:
		v.Round = 0
	case v.Round != r.Number:
		v.Round, v.Embedded, v.Scored = r.Number, make([]*Report, r.Shards), nil
	case v.Attempt == r.Attempt:
		return
	}
	if r != nil {
		v.Attempt, v.Backward, v.Applied, v.Checks = r.Attempt, make([]*Report, r.Shards), map[string]Applied{}, nil
	}
}

// Accept says whether a report counts, and keeps it if so: its worker must hold the shard's lease under the report's
// epoch. The first report wins, but for one that is not finite; the same one again is accepted again, for its verdict
// may have been lost.
func (v *RunSeen) Accept(s *fsm.State, run *fsm.Run, round int64, attempt int32, phase Phase, shard int, rep *Report) bool {
	if run == nil || run.Round == nil || run.Round.Number != round || v.Round != round || shard < 0 || shard >= run.Round.Shards {
		return false
	}
	if m := s.Member(rep.Worker); m == nil || m.Behind || m.Run != run.ID {
		return false
	}
	list := v.Embedded
	if phase != Embed {
		if list = v.Backward; phase != Backward || attempt != run.Round.Attempt || v.Attempt != attempt || run.Round.Kind != fsm.Train {
			return false
		}
	}
	lease, _ := run.Round.Holder(shard)
	old := list[shard]
	if lease.Worker != rep.Worker || lease.Epoch != rep.Epoch {
		// A lease granted again after the shard was embedded leaves the older report standing.
		return old != nil && old.Worker == rep.Worker && old.Epoch == rep.Epoch
	}
	if old == nil || rep.NonFinite || phase == Backward && old.Worker != rep.Worker {
		list[shard] = rep
	}
	return list[shard].Worker == rep.Worker
}

// Forget drops embeddings of shards whose rows are missing somewhere and whose worker is gone from the run, so that the
// holders of their leases embed them again. It reports whether any was dropped.
func (v *RunSeen) Forget(s *fsm.State, run string, shards []fsm.Range) bool {
	dropped := false
	for _, span := range shards {
		for shard := max(span.Lo, 0); shard < min(span.Hi, len(v.Embedded)); shard++ {
			e := v.Embedded[shard]
			if e == nil {
				continue
			}
			if m := s.Member(e.Worker); m == nil || m.Run != run {
				v.Embedded[shard], dropped = nil, true
			}
		}
	}
	return dropped
}

// EmbeddedRanges returns the shards whose embeddings were reported.
func (v *RunSeen) EmbeddedRanges() []fsm.Range {
	return ranges(len(v.Embedded), func(i int) bool { return v.Embedded[i] != nil })
}

// ranges returns the runs of [0, n) in which f holds.
func ranges(n int, f func(int) bool) []fsm.Range {
	var out []fsm.Range
	for i := range n {
		if !f(i) {
			continue
		}
		if k := len(out); k > 0 && out[k-1].Hi == i {
			out[k-1].Hi++
		} else {
			out = append(out, fsm.Range{Lo: i, Hi: i + 1})
		}
	}
	return out
}
