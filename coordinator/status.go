package coordinator

import (
	"encoding/json"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// Status is what `counterpoint status` shows.
type Status struct {
	Version     string             `json:"version"`
	URL         string             `json:"url,omitempty"`
	Run         string             `json:"run"`
	Name        string             `json:"name"`
	State       string             `json:"state"`
	Reason      string             `json:"reason,omitempty"`
	Step        int64              `json:"step"`      // steps applied
	Committed   int64              `json:"committed"` // more than Step while steps are executed again
	Steps       int64              `json:"steps"`
	Round       int64              `json:"round"`
	Doing       string             `json:"doing,omitempty"`
	Loss        float64            `json:"loss,omitempty"`
	Parameters  string             `json:"parameters,omitempty"` // digest
	Numerics    string             `json:"numerics,omitempty"`
	Started     time.Time          `json:"started"`
	Workers     []WorkerStatus     `json:"workers"`
	Quarantined []string           `json:"quarantined,omitempty"`
	Checkpoints []CheckpointStatus `json:"checkpoints,omitempty"`
	Evaluations []EvaluationStatus `json:"evaluations,omitempty"`

	Priority   int        `json:"priority"`
	Recoveries []Recovery `json:"recoveries,omitempty"` // the newest 10, oldest first

	Coordinators []CoordinatorStatus `json:"coordinators"`
	Refused      map[string]int64    `json:"refused,omitempty"` // by this coordinator since it started, by reason
}

// WorkerStatus is a member of the fleet.
type WorkerStatus struct {
	Worker   string  `json:"worker"`
	Name     string  `json:"name"`
	Numerics string  `json:"numerics"`
	Ready    bool    `json:"ready"` // holds the committed parameters
	Peer     string  `json:"peer,omitempty"`
	State    int64   `json:"state"`  // steps applied to its parameters
	Shards   int     `json:"shards"` // leased in the round in flight
	TokensPS float64 `json:"tokens_per_second"`
	Silent   float64 `json:"silent_seconds"`
	Leaving  string  `json:"leaving,omitempty"`

	Paths  []PathStatus `json:"paths,omitempty"`          // how it takes values from the others
	Copied float64      `json:"copied_seconds,omitempty"` // how long its copy of a peer's state took

	Run    string   `json:"run,omitempty"` // that it works on; "" = idle
	Labels []string `json:"labels,omitempty"`

	Parameters string `json:"parameters,omitempty"` // digest of what it holds after State steps
	Committed  string `json:"committed,omitempty"`  // the digest that the log has for State steps; "" = none yet
	Frozen     string `json:"frozen,omitempty"`     // digest of its frozen weights as they were loaded
	Checked    int64  `json:"checked,omitempty"`    // step at which they were last hashed again and were the same
}

// PathStatus is how a worker takes values from another: "memory" within a process, "direct" over a connection of their
// own, "relay" over NATS; and why not a better one.
type PathStatus struct {
	Worker string  `json:"worker"`
	Kind   string  `json:"kind"`
	Why    string  `json:"why,omitempty"`
	Bytes  int64   `json:"bytes"`
	Rate   float64 `json:"bytes_per_second"`
}

// CheckpointStatus is a committed checkpoint.
type CheckpointStatus struct {
	Step int64     `json:"step"`
	Path string    `json:"path"`
	Best bool      `json:"best,omitempty"`
	At   time.Time `json:"at"`
}

// EvaluationStatus is a committed evaluation.
type EvaluationStatus struct {
	Step    int64              `json:"step"`
	Suite   string             `json:"suite"`
	Metrics map[string]float64 `json:"metrics"`
}

// statusOf answers a StatusRequest.
func (l *leader) statusOf(q *wire.StatusRequest) *wire.StatusReply {
	run, err := l.which(q.Run)
	if err != nil && q.Run != "" {
		return &wire.StatusReply{Err: err.Error()}
	}
	if runs := l.machine.State().Runs; run == nil && len(runs) > 0 {
		run = runs[len(runs)-1]
	}
	b, err := json.Marshal(l.status(run))
	if err != nil {
		l.o.Log.Error("status", "error", err)
		return nil
	}
	return &wire.StatusReply{JSON: b}
}

// status tells of a run; without one, of the workers that wait for it.
func (l *leader) status(run *fsm.Run) *Status {
	s := l.machine.State()
	out := &Status{Version: l.o.Version, URL: l.URL(), Workers: []WorkerStatus{}, Quarantined: s.Quarantined, Coordinators: l.coordinators()}
	if run == nil {
		for _, m := range s.Members {
			out.Workers = append(out.Workers, l.worker(s, &m, 0))
		}
		return out
	}
	out.Run, out.Name, out.Priority = run.ID, run.Name, run.Priority
	out.State, out.Reason = l.stateOf(s, run)
	out.Step, out.Committed, out.Steps, out.Round, out.Parameters = run.Cursor, run.Committed(), run.Steps, run.Rounds, run.Parameters()
	out.Numerics, out.Started, out.Doing = run.Numerics, run.Created, doing(run)
	if out.State != string(run.State) { // queued, preparing: said there
		out.Doing = ""
	}
	out.Refused = l.Refused()
	if run.Cursor > 0 {
		out.Loss = run.Ledger.At(run.Cursor - 1).Loss
	}
	shards := map[string]int{}
	if run.Round != nil {
		for _, lease := range run.Round.Leases {
			shards[lease.Worker] += lease.Hi - lease.Lo
		}
	}
	for _, m := range s.Of(run.ID) {
		out.Workers = append(out.Workers, l.worker(s, &m, shards[m.Worker]))
	}
	out.Recoveries = l.history.recoveries(run.ID, 10)
	for _, m := range run.Manifests {
		out.Checkpoints = append(out.Checkpoints, CheckpointStatus{m.Step, m.Path, m.Best, m.At})
	}
	for _, e := range run.Evaluations {
		out.Evaluations = append(out.Evaluations, EvaluationStatus{e.Step, e.Name, e.Metrics})
	}
	return out
}

// worker tells of a member.
func (l *leader) worker(s *fsm.State, m *fsm.Member, shards int) WorkerStatus {
	ws := WorkerStatus{Worker: m.Worker, Name: m.Name, Numerics: m.Numerics, Ready: !m.Behind, Peer: m.Peer, State: -1, Shards: shards, Labels: m.Labels}
	if !s.Idle(m) {
		ws.Run = m.Run
	}
	if b := l.exchange[m.Worker]; b != nil {
		ws.Copied = b.Copied
		for _, p := range b.Paths {
			ws.Paths = append(ws.Paths, PathStatus(p))
		}
	}
	if w := l.seen.Workers[m.Worker]; w != nil {
		ws.State, ws.TokensPS, ws.Leaving, ws.Silent = w.State, w.Speed, w.Leaving, time.Since(w.Heard).Seconds()
		ws.Parameters, ws.Frozen, ws.Checked = w.Parameters, w.Frozen, w.Checked
		if run := s.Run(m.Run); run != nil && run.ID == w.Run {
			ws.Committed = run.ParametersAt(w.State)
		}
	}
	return ws
}

// doing says in a word what is in flight.
func doing(run *fsm.Run) string {
	switch r := run.Round; {
	case !run.State.Working():
		return ""
	case r == nil:
		return "waiting for workers"
	case r.Kind == fsm.Evaluate:
		return "evaluating " + run.Settings.Suites[r.Suite]
	case r.Closing != nil && !r.Closing.Withdrawn:
		return "adding gradients"
	case r.Step < run.Committed():
		return "executing a committed step again"
	}
	return "computing"
}
