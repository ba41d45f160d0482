package coordinator

import (
	"fmt"
	"strings"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
)

// Kinds of events.
const (
	StateChanged     = "state"             // State, Reason
	WorkerJoined     = "joined"            // Worker
	WorkerReady      = "ready"             // Worker holds the committed parameters and takes shards
	WorkerLost       = "lost"              // Worker, Reason
	StepCommitted    = "step"              // Step (steps applied), Loss, Norm, Rate, Tokens, Seconds, Workers, Replayed
	AttemptRepeated  = "attempt"           // Step, Attempt: a value was beyond its fixed-point bound
	SuiteEvaluated   = "evaluation"        // Step, Suite, Metrics
	CheckpointSaved  = "checkpoint"        // Step, Path, Seconds
	CheckpointFailed = "checkpoint_failed" // Step, Reason
	CheckpointGone   = "checkpoint_gone"   // Step, Path, Reason: retention, or damage
	Restarted        = "restarted"         // Step, Path: every holder of the newest parameters was lost
	Rewound          = "rewound"           // Step, Path, Reason: committed steps after it are taken back and executed anew
	Recovered        = "recovered"         // Recovery
	Warning          = "warning"           // Reason
)

// Event is something that happened to a run, for progress views and reports. events.jsonl in the run's folder has
// one a line.
type Event struct {
	ID         int64              `json:"id,omitempty"` // strictly increasing, across leaders
	Time       time.Time          `json:"time"`
	Kind       string             `json:"kind"`
	Run        string             `json:"run,omitempty"`
	Step       int64              `json:"step,omitempty"`
	Steps      int64              `json:"steps,omitempty"`
	State      string             `json:"state,omitempty"`
	Reason     string             `json:"reason,omitempty"`
	Worker     string             `json:"worker,omitempty"`
	Workers    int                `json:"workers,omitempty"`    // full members
	Parameters string             `json:"parameters,omitempty"` // StepCommitted: digest after the step
	Loss       float64            `json:"loss,omitempty"`
	Norm       float64            `json:"norm,omitempty"`
	Rate       float64            `json:"rate,omitempty"`
	Tokens     int64              `json:"tokens,omitempty"`
	Seconds    float64            `json:"seconds,omitempty"` // of the round; of the writing of a checkpoint
	Attempt    int32              `json:"attempt,omitempty"`
	Replayed   bool               `json:"replayed,omitempty"` // the step was committed before, and was compared
	Suite      string             `json:"suite,omitempty"`
	Metrics    map[string]float64 `json:"metrics,omitempty"`
	Path       string             `json:"path,omitempty"`
	Recovery   *Recovery          `json:"recovery,omitempty"`
}

// TokensPerSecond returns the step's throughput.
func (e *Event) TokensPerSecond() float64 {
	if e.Seconds <= 0 {
		return 0
	}
	return float64(e.Tokens) / e.Seconds
}

// Detail says in words what the other fields do not: why, or how long a recovery took.
func (e *Event) Detail() string {
	if r := e.Recovery; r != nil && r.Released.IsZero() { // it held none, or the fleet went back to a checkpoint
		return fmt.Sprintf("detected after %v, no shards leased again, committed after another %v",
			r.Detected.Sub(r.Heard).Round(time.Millisecond), r.Commit.Sub(r.Detected).Round(time.Millisecond))
	} else if r != nil {
		return fmt.Sprintf("detected after %v, %d shards leased again %v later, committed after another %v",
			r.Detected.Sub(r.Heard).Round(time.Millisecond), r.Shards, r.Released.Sub(r.Detected).Round(time.Millisecond), r.Commit.Sub(r.Released).Round(time.Millisecond))
	}
	if e.Kind == CheckpointGone || e.Kind == Restarted {
		return strings.TrimSpace(e.Path + " " + e.Reason)
	}
	return e.Reason
}

// Damaged reports whether a checkpoint is gone because it did not pass its verification, and the first fault found.
func (e *Event) Damaged() (fault string, damaged bool) {
	fault, damaged = strings.CutPrefix(e.Reason, plan.Damaged)
	fault, _, _ = strings.Cut(fault, "\n")
	return fault, damaged && e.Kind == CheckpointGone
}

// Drained reports whether a worker left in good order, and why.
func (e *Event) Drained() (why string, drained bool) {
	why, drained = strings.CutPrefix(e.Reason, plan.Left)
	return why, drained && e.Kind == WorkerLost
}

// Recovery is the timeline of one worker's loss.
type Recovery struct {
	Worker   string    `json:"worker"`
	Reason   string    `json:"reason"`
	Heard    time.Time `json:"heard"`    // the last sign of life
	Detected time.Time `json:"detected"` // known to be lost
	Released time.Time `json:"released"` // its shards leased again
	Copied   time.Time `json:"copied"`   // the first worker that came for it had its copy of the state; zero = none before the commit
	Commit   time.Time `json:"commit"`   // the first step or evaluation committed after it
	Shards   int       `json:"shards"`   // leased again
}
