package coordinator

import (
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
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

func (l *leader) status() *Status {
	s := l.machine.State()
	run := s.Runs[len(s.Runs)-1]
	out := &Status{
		Version: l.o.Version, URL: l.URL(), Run: run.ID, Name: run.Name, State: string(run.State), Reason: run.Reason,
		Step: run.Cursor, Committed: run.Committed(), Steps: run.Steps, Round: run.Rounds, Parameters: run.Parameters(),
		Numerics: run.Numerics, Started: run.Created, Workers: []WorkerStatus{}, Quarantined: s.Quarantined, Doing: doing(run),
		Coordinators: l.coordinators(),
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
	for _, m := range s.Members {
		ws := WorkerStatus{Worker: m.Worker, Name: m.Name, Numerics: m.Numerics, Ready: !m.Behind, Peer: m.Peer, State: -1, Shards: shards[m.Worker]}
		if w := l.seen.Workers[m.Worker]; w != nil {
			if b := l.exchange[m.Worker]; b != nil {
				ws.Copied = b.Copied
				for _, p := range b.Paths {
					ws.Paths = append(ws.Paths, PathStatus(p))
				}
			}
			ws.State, ws.TokensPS, ws.Leaving, ws.Silent = w.State, w.Speed, w.Leaving, time.Since(w.Heard).Seconds()
			ws.Parameters, ws.Frozen, ws.Checked = w.Parameters, w.Frozen, w.Checked
			ws.Committed = run.ParametersAt(w.State)
		}
		out.Workers = append(out.Workers, ws)
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
