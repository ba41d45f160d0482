// Package fsm is the coordinator's replicated state: what the Raft log means. It is pure: no clock, no randomness, no
// I/O, no map order. The leader stamps time and ids into the commands before they enter the log, so every replica, and
// every replay, reaches the same bytes.
//
// States are values that nobody changes: Apply works on a copy and hands out a new one. A reader, a planner or a
// snapshot keeps the state it took, without locks.
package fsm

import (
	"slices"
	"time"
)

// State is everything that the log has decided.
type State struct {
	Entries uint64    // entries applied, rejected ones included
	Chain   []byte    // SHA-256 over the chain before and the entry's bytes: equal logs have equal chains
	Now     time.Time // stamp of the newest entry
	Keys    []string  // idempotency keys of the newest entries, oldest first

	Epoch       int64    // newest membership or lease epoch given out
	Members     []Member // in the order that they joined
	Quarantined []string // names of workers whose digests were the odd ones out
	Runs        []*Run   // in the order of submission; several may be working

	Admissions []Admission // keys of workers that may join, in the order that they came
	Holders    []Holder    // whose worker ids are
}

// Member is a worker that the fleet counts on.
type Member struct {
	Worker     string
	Name       string
	Connection string
	Address    string
	Numerics   string
	Threads    int
	Epoch      int64 // membership epoch
	Joined     time.Time
	Behind     bool   // holds no leases: its parameters are not yet the committed ones
	Peer       string // from whom it copies; "" = it loads or waits
	Labels     []string
	Run        string // that it is assigned to; Behind and Peer are of that run. "" = none yet. See Idle
}

// Lifecycle is the state of a run.
type Lifecycle string

// The lifecycle of a run. A stopping run finishes its round, writes a checkpoint and is paused.
const (
	Running   Lifecycle = "running"
	Stopping  Lifecycle = "stopping"
	Paused    Lifecycle = "paused"
	Failed    Lifecycle = "failed"
	Cancelled Lifecycle = "cancelled"
	Finished  Lifecycle = "finished"
)

// Over reports whether nothing can follow; a failed run may be resumed.
func (l Lifecycle) Over() bool { return l == Cancelled || l == Finished }

// Working reports whether rounds may be in flight.
func (l Lifecycle) Working() bool { return l == Running || l == Stopping }

// Settings are those of a run that may change whenever it is resumed.
type Settings struct {
	CheckpointEvery int64  // steps; 0 = only at the end
	Keep            int    // newest manifests kept, besides the best
	Best            string // metric that chooses the best; "" = none
	EvaluateEvery   int64  // steps; 0 = only at the end
	EvaluateStart   bool   // also before step 0
	Suites          []string
	Mixed           bool     // several numerics ids allowed
	Audit           float64  // share of the shards whose gradients two workers compute and compare
	Labels          []string // that a worker must have, all of them
	WorkersMin      int      // the run works only while it has as many; 0 = 1
	WorkersMax      int      // 0 = all that match
}

// Run is one training run.
type Run struct {
	ID       string
	Name     string
	Identity string // digest of model, data, loss, train and shard settings
	Identify []byte // those settings as JSON, to show what differs
	Spec     []byte // what workers need, as JSON
	Store    string // checkpoint folder
	Data     string // data digest
	Steps    int64
	Settings Settings
	Created  time.Time

	State  Lifecycle
	Reason string

	Numerics string // numerics id, fixed by the first lease; "" = not yet
	Initial  string // digest of the initial parameters, fixed with it
	Size     int64  // trainable parameters, fixed with it

	Cursor int64     // steps applied to the fleet's parameters; below Committed while steps are executed again
	Maxima []float32 // committed with step Cursor-1
	Resume *Resume   // where the parameters after Resume.Step steps can be loaded
	Rounds int64     // newest round number
	Round  *Round    // in flight; nil = none

	Ledger      Ledger // every committed step
	Save        *Save  // checkpoint being written
	SaveTried   int64  // newest step whose checkpoint was asked for; -1 = none
	SaveLosses  int    // checkpoints lost in a row
	SaveError   string // why the newest of them was
	SaveLostAt  time.Time
	Manifests   []Manifest
	Evaluations []Evaluation
	Rewinds     []Rewound // steps that were taken back

	Secret   []byte // with which its workers show each other that they are; never shown, never logged
	File     []byte // the run file that any coordinator hosts it from; nil = the one that a coordinator was started with
	Key      string // of the submission
	Priority int    // the higher first
}

// Resume is a place to load parameters from.
type Resume struct {
	Step int64
	Path string // "" = the initial parameters, pure in the spec
}

// Manifest is a committed checkpoint.
type Manifest struct {
	Step   int64
	Path   string
	Digest string
	Worker string
	Best   bool // the best by Settings.Best among those evaluated so far
	Maxima []float32
	At     time.Time
}

// Save is a checkpoint in the making.
type Save struct {
	Step    int64
	Worker  string
	Standby string // "" = none
	Best    bool   // asked for because its evaluation was the best
	Maxima  []float32
	At      time.Time
}

// Evaluation is a committed result of one suite.
type Evaluation struct {
	Step    int64
	Suite   int
	Name    string
	Metrics map[string]float64
	Digest  string
	At      time.Time
}

// Run returns the run of that id; nil = none.
func (s *State) Run(id string) *Run {
	for _, r := range s.Runs {
		if r.ID == id {
			return r
		}
	}
	return nil
}

// Member returns the member of that id; nil = none.
func (s *State) Member(worker string) *Member {
	for i := range s.Members {
		if s.Members[i].Worker == worker {
			return &s.Members[i]
		}
	}
	return nil
}

// Of returns the members that are assigned to a run, in the order that they joined.
func (s *State) Of(run string) []Member {
	var of []Member
	for _, m := range s.Members {
		if m.Run == run {
			of = append(of, m)
		}
	}
	return of
}

// Full returns the members of a run that hold its committed parameters, in the order that they joined.
func (s *State) Full(run string) []string {
	var full []string
	for i := range s.Members {
		if m := &s.Members[i]; m.Run == run && !m.Behind {
			full = append(full, m.Worker)
		}
	}
	return full
}

// Idle reports whether a member has nothing to do: it has no run, or one that is not working. Of such a run it keeps
// what it has, in case the run goes on, until another one wants it.
func (s *State) Idle(m *Member) bool {
	r := s.Run(m.Run)
	return r == nil || !r.State.Working()
}

// Clone returns a copy that may be changed: all that changes in place is copied, the rest is shared.
func (s *State) Clone() *State {
	c := *s
	c.Keys = slices.Clone(s.Keys)
	c.Members = slices.Clone(s.Members)
	c.Quarantined = slices.Clip(s.Quarantined)
	c.Runs = slices.Clone(s.Runs)
	for i, r := range c.Runs {
		if !r.State.Over() { // one that is over never changes again
			c.Runs[i] = r.clone()
		}
	}
	return &c
}

func (r *Run) clone() *Run {
	c := *r
	if r.Round != nil {
		round := *r.Round
		c.Round = &round // its slices are replaced, never changed
	}
	if r.Save != nil {
		save := *r.Save
		c.Save = &save
	}
	c.Manifests = slices.Clone(r.Manifests)
	c.Evaluations = slices.Clip(r.Evaluations)
	return &c
}

// Committed returns the number of committed steps.
func (r *Run) Committed() int64 { return r.Ledger.Len() }

// Parameters returns the digest of the parameters after Cursor steps; "" = initial ones that are not fixed yet.
func (r *Run) Parameters() string {
	if r.Cursor == 0 {
		return r.Initial
	}
	return r.Ledger.At(r.Cursor - 1).Parameters
}

// ParametersAt returns the committed digest of the parameters after some steps; "" where there is none (yet).
func (r *Run) ParametersAt(steps int64) string {
	switch {
	case steps == 0:
		return r.Initial
	case steps < 0 || steps > r.Committed():
		return ""
	}
	return r.Ledger.At(steps - 1).Parameters
}

// Manifest returns the manifest of a step; nil = none.
func (r *Run) Manifest(step int64) *Manifest {
	for i := range r.Manifests {
		if r.Manifests[i].Step == step {
			return &r.Manifests[i]
		}
	}
	return nil
}

// Evaluated reports whether the suite has a result at the step. Suites are known by name: their order may change when
// a run is resumed.
func (r *Run) Evaluated(step int64, suite int) bool {
	return suite >= 0 && suite < len(r.Settings.Suites) && slices.ContainsFunc(r.Evaluations, func(e Evaluation) bool {
		return e.Step == step && e.Name == r.Settings.Suites[suite]
	})
}
