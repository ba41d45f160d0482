// Package ledger proves from a coordinator's log that each sample of each step of a run was counted exactly once. It is
// pure: the log is given entry by entry, and the batches are computed again by whoever calls.
//
// What is proven is proven twice: the state machine refuses commands that break the rules, and here the rules are
// written once more, from the commands alone, so that a mistake in one is seen by the other.
package ledger

import (
	"fmt"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/data"
)

// Batches are a run's global batches, computed again from its settings and its data.
type Batches interface {
	// Digest is the data digest, which must be the committed one.
	Digest() string
	// Batch returns the batch of a step.
	Batch(step int64) (*data.Batch, error)
	// Draws returns the rows of a step's batch, each with the epoch of its source.
	Draws(step int64) []data.Draw
	// Used returns the rows of a source, and how many of them each epoch draws.
	Used(source int) (rows, used int64)
	// Sources returns the sources' names.
	Sources() []string
	// Where names a row for people.
	Where(source int32, row int64) string
}

var _ Batches = (*data.Set)(nil)

// Violation is the first thing that is not as it must be.
type Violation struct {
	Run   string `json:"run"`
	Step  int64  `json:"step"`            // as progress counts them: the first is 1; 0 = of no step
	Shard int    `json:"shard"`           // -1 = of no shard
	Row   string `json:"row,omitempty"`   // the sample, by file and line
	Entry uint64 `json:"entry,omitempty"` // of the log; 0 = of the snapshot
	What  string `json:"what"`
}

// Error names the run, the step, the shard and the sample.
func (v *Violation) Error() string {
	s := "run " + v.Run
	if v.Step > 0 {
		s += fmt.Sprintf(", step %d", v.Step)
	}
	if v.Shard >= 0 {
		s += fmt.Sprintf(", shard %d", v.Shard)
	}
	if v.Row != "" {
		s += ", sample " + v.Row
	}
	s += ": " + v.What
	if v.Entry > 0 {
		s += fmt.Sprintf(" (entry %d of the log)", v.Entry)
	}
	return s
}

// Proof is what was found of one run.
type Proof struct {
	Run       string   `json:"run"`
	Name      string   `json:"name"`
	State     string   `json:"state"`
	Identity  string   `json:"identity"`
	Steps     int64    `json:"steps"`     // committed
	Of        int64    `json:"of"`        // steps of the whole run
	Logged    int64    `json:"logged"`    // of them with their closings in the log; the others are records of a snapshot
	Samples   int64    `json:"samples"`   // rows counted
	Texts     int64    `json:"texts"`     // embeddings, or sequences of a language objective
	Tokens    int64    `json:"tokens"`    //
	Shards    int64    `json:"shards"`    //
	Served    int64    `json:"served"`    // steps whose batch was compared by its digest, text by text
	Closings  int64    `json:"closings"`  // whole and disjoint ones
	Withdrawn int64    `json:"withdrawn"` // of them, because a named worker was lost
	Releases  int64    `json:"releases"`  // shards that changed hands within a round
	Retries   int64    `json:"retries"`   // attempts repeated
	Replays   int64    `json:"replays"`   // committed steps executed again, with the same digests
	Restarts  int64    `json:"restarts"`  //
	Rewound   int64    `json:"rewound"`   // committed steps that were taken back, by name
	Sources   []Source `json:"sources"`
	Notes     []string `json:"notes,omitempty"` // what could not be proven, and what an operator should know
}

// Source is what a run has drawn of one source.
type Source struct {
	Name    string `json:"name"`
	Rows    int64  `json:"rows"`
	Used    int64  `json:"used"`    // in each epoch
	Epochs  int64  `json:"epochs"`  // complete: every row that an epoch uses was counted exactly once
	Partial int64  `json:"partial"` // rows counted of the epoch that is not complete
}

// Log is what there is of a run's log.
type Log struct {
	// Machine is in the state before the first of Entries: new, or restored from a snapshot.
	Machine *fsm.Machine
	// Marks are digests of the state that snapshots have, by the index of their newest entry: they are compared when
	// the entries reach it.
	Marks map[uint64]string
}

// step names a step as progress counts them.
func step(s int64) int64 { return s + 1 }
