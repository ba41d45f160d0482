package api

import (
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
)

// keyHeader carries the idempotency key of a submission.
const keyHeader = "Idempotency-Key"

// Submission is the JSON form of a submission; a YAML body with ?priority=N and the header Idempotency-Key says the same.
type Submission struct {
	File     string `json:"file"`               // the run file's text
	Priority int    `json:"priority,omitempty"` // a run of higher priority gets workers first; default 0
	Key      string `json:"key,omitempty"`      // the same key again is the same run, whatever the file says
}

// Reason is the body of pause, resume and cancel; it may be left out.
type Reason struct {
	Reason string `json:"reason,omitempty"` // shown in status
}

// Priority is the body of a change of priority.
type Priority struct {
	Priority *int `json:"priority"`
}

// Version says which coordinator answers.
type Version struct {
	Coordinator string `json:"coordinator"` // its name
	Version     string `json:"version"`     // of the binary
	ProtocolMin int    `json:"protocol_min"`
	ProtocolMax int    `json:"protocol_max"`
}

// Health answers /healthz and /readyz.
type Health struct {
	Status string `json:"status"` // ok
}

// LogLine is a line of the fleet's log.
type LogLine struct {
	Time   time.Time `json:"time"`
	Run    string    `json:"run,omitempty"` // the run that it is about; none = of no run in particular
	Source string    `json:"source"`        // the worker or coordinator that wrote it
	Level  string    `json:"level"`
	Text   string    `json:"text"`
}

// RunList answers GET /v1/runs.
type RunList struct {
	Runs []coordinator.RunSummary `json:"runs"` // in the order of submission
}

// WorkerList answers GET /v1/workers.
type WorkerList struct {
	Workers     []coordinator.WorkerStatus `json:"workers"` // in the order that they joined, idle ones included
	Quarantined []string                   `json:"quarantined,omitempty"`
}

// Receipt answers a submission.
type Receipt struct {
	Run       string `json:"run,omitempty"`       // its id; none while it is being prepared
	Existing  bool   `json:"existing,omitempty"`  // it was there before: of this key, or the same run under its name
	Preparing bool   `json:"preparing,omitempty"` // its data are being read: send the same again
	Key       string `json:"key"`
}

// Steered answers pause, resume, cancel and a change of priority.
type Steered struct {
	Run   string `json:"run"`   // id
	State string `json:"state"` // after it
}
