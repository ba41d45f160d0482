package coordinator

import "time"

// Overview is what `counterpoint runs` shows: all that the coordinator hosts.
type Overview struct {
	Version     string         `json:"version"`
	Name        string         `json:"name,omitempty"` // of the coordinator that leads
	URL         string         `json:"url,omitempty"`
	Runs        []RunSummary   `json:"runs"`    // in the order of submission
	Workers     []WorkerStatus `json:"workers"` // in the order that they joined, idle ones included
	Quarantined []string       `json:"quarantined,omitempty"`
}

// RunSummary is a run in a line.
type RunSummary struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	State      string    `json:"state"`            // as Status.State
	Reason     string    `json:"reason,omitempty"` // why it is queued, paused, failed or cancelled
	Priority   int       `json:"priority"`
	Step       int64     `json:"step"` // steps applied
	Steps      int64     `json:"steps"`
	Loss       float64   `json:"loss,omitempty"`
	Workers    int       `json:"workers"` // that work on it now
	Labels     []string  `json:"labels,omitempty"`
	WorkersMin int       `json:"workers_min,omitempty"`
	WorkersMax int       `json:"workers_max,omitempty"` // 0 = no limit
	Submitted  time.Time `json:"submitted"`
}

// States of a run that Status and RunSummary add to those of the log.
const (
	StateQueued    = "queued"     // it waits for workers: Reason says for which
	StatePreparing = "preparing"  // the leader opens its data, suites and store
	StateNotHosted = "not hosted" // the leader cannot: Reason says why
)
