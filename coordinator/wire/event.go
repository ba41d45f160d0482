package wire

import "time"

// Event is one thing that happened in a run. The leader emits them in order: to the progress view of `train`, to
// the subject that `logs` and `status` follow, and as JSON lines to events.jsonl in the run's folder, from
// which report.html is made. Only the fields of its Kind are set.
type Event struct {
	Time time.Time `json:"time"`
	Run  string    `json:"run"`
	Kind EventKind `json:"kind"`
	Step int64     `json:"step"` // steps applied when it happened

	Commit  *Commit            `json:"commit,omitempty"`  // EventStep
	Tokens  int64              `json:"tokens,omitempty"`  // EventStep: real tokens of the step
	Seconds float64            `json:"seconds,omitempty"` // EventStep: since the commit before; others: how long it took
	Workers int                `json:"workers,omitempty"` // EventStep: full members
	Again   bool               `json:"again,omitempty"`   // EventStep: executed again and compared, not committed again
	Suite   string             `json:"suite,omitempty"`   // EventScored
	Metrics map[string]float64 `json:"metrics,omitempty"` // EventScored
	Path    string             `json:"path,omitempty"`    // EventSaved
	Worker  string             `json:"worker,omitempty"`  // EventJoined, EventLeft, EventLeased, EventFollowed
	State   RunState           `json:"state,omitempty"`   // EventState
	Text    string             `json:"text,omitempty"`    // a sentence for people: why, what was done
}

// EventKind says what happened.
type EventKind string

// The kinds of events. A worker's loss is a timeline: left (detected), leased (its shards granted again), step
// (first commit after it).
const (
	EventState    EventKind = "state"    // running, paused, failed, finished ...
	EventStep     EventKind = "step"     // a step was committed
	EventScored   EventKind = "scored"   // an evaluation was committed
	EventSaved    EventKind = "saved"    // a checkpoint's manifest was committed
	EventUnsaved  EventKind = "unsaved"  // a checkpoint could not be written: Text says why
	EventJoined   EventKind = "joined"   // a worker said hello
	EventFollowed EventKind = "followed" // a joiner has the fleet's state and takes shards from now on
	EventLeft     EventKind = "left"     // a worker died, hung, or drained: Text says which and how it was noticed
	EventLeased   EventKind = "leased"   // shards of a lost or slow worker were granted again
	EventRepeated EventKind = "repeated" // a step's attempt was repeated with wider exponents
	EventLeader   EventKind = "leader"   // leadership changed
	EventDoubt    EventKind = "doubt"    // digests differ: Text names who
)
