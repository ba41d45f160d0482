package coordinator

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// Overview is what `counterpoint runs` shows: all that the coordinator hosts.
type Overview struct {
	Version     string         `json:"version"`
	Name        string         `json:"name,omitempty"` // of the coordinator that leads
	URL         string         `json:"url,omitempty"`  // where workers join, of all coordinators
	Runs        []RunSummary   `json:"runs"`           // in the order of submission
	Workers     []WorkerStatus `json:"workers"`        // in the order that they joined, idle ones included
	Quarantined []string       `json:"quarantined,omitempty"`

	Coordinators []CoordinatorStatus `json:"coordinators,omitempty"`
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

// overview answers a RunsRequest.
func (l *leader) overview(*wire.RunsRequest) *wire.RunsReply {
	s := l.machine.State()
	out := &Overview{Version: l.o.Version, Name: l.raft.Name(), URL: l.Join(), Coordinators: l.coordinators(), Runs: []RunSummary{}, Workers: []WorkerStatus{}, Quarantined: s.Quarantined}
	for _, run := range s.Runs {
		r := RunSummary{
			ID: run.ID, Name: run.Name, Priority: run.Priority, Step: run.Cursor, Steps: run.Steps, Submitted: run.Created,
			Labels: run.Settings.Labels, WorkersMin: run.Settings.WorkersMin, WorkersMax: run.Settings.WorkersMax,
		}
		if r.State, r.Reason = l.stateOf(s, run); run.Cursor > 0 {
			r.Loss = run.Ledger.At(run.Cursor - 1).Loss
		}
		if run.State.Working() {
			r.Workers = len(s.Of(run.ID))
		}
		out.Runs = append(out.Runs, r)
	}
	for _, m := range s.Members {
		shards := 0
		if run := s.Run(m.Run); run != nil && run.Round != nil {
			for _, lease := range run.Round.Leases {
				if lease.Worker == m.Worker {
					shards += lease.Hi - lease.Lo
				}
			}
		}
		out.Workers = append(out.Workers, l.worker(s, &m, shards))
	}
	b, err := json.Marshal(out)
	if err != nil {
		l.o.Log.Error("overview", "error", err)
		return nil
	}
	return &wire.RunsReply{JSON: b}
}

// stateOf returns the state of a run as people see it, and why it is in it.
func (l *leader) stateOf(s *fsm.State, run *fsm.Run) (state, reason string) {
	if !run.State.Working() {
		return string(run.State), run.Reason
	}
	switch open, failed, _ := l.hosts.get(run.ID); {
	case open != nil:
	case failed != nil:
		return StateNotHosted, failed.Error()
	case run.File == nil || l.o.Host == nil:
		return StateNotHosted, "this coordinator was not started with its run file"
	default:
		return StatePreparing, "its data, suites and checkpoint folder are being opened"
	}
	if why := plan.Queued(s, l.seen, run); why != "" {
		return StateQueued, why
	}
	return string(run.State), run.Reason
}

// which returns the run of an id or a name; "" is the only one that is not over. Of several runs of a name the one that
// is not over is meant, and the newest.
func (l *leader) which(name string) (*fsm.Run, error) {
	s := l.machine.State()
	if run := s.Run(name); run != nil {
		return run, nil
	}
	var open, named []*fsm.Run
	var names []string
	for _, run := range s.Runs {
		if names = append(names, run.ID); !run.State.Over() {
			open = append(open, run)
		}
		if run.Name == name {
			named = append(named, run)
		}
	}
	for i := len(named) - 1; i >= 0; i-- {
		if !named[i].State.Over() {
			return named[i], nil
		}
	}
	switch {
	case len(named) > 0:
		return named[len(named)-1], nil
	case len(names) == 0:
		return nil, errors.New("there are no runs")
	case name != "":
		return nil, fmt.Errorf("there is no run %q; there are %s", name, strings.Join(names, ", "))
	case len(open) == 0:
		return nil, errors.New("all runs are over")
	case len(open) > 1:
		var which []string
		for _, run := range open {
			which = append(which, run.ID)
		}
		return nil, fmt.Errorf("say which run: %s", strings.Join(which, ", "))
	}
	return open[0], nil
}

// command steers a run from outside. What is so already is no error.
func (l *leader) command(q *wire.Control) *wire.ControlReply {
	states := map[string]fsm.Lifecycle{wire.ActionPause: fsm.Stopping, wire.ActionResume: fsm.Running, wire.ActionCancel: fsm.Cancelled}
	state, steers := states[q.Action]
	if !steers && q.Action != wire.ActionPriority {
		return &wire.ControlReply{Err: fmt.Sprintf("action %q: pause, resume, cancel and priority are allowed", q.Action)}
	}
	run, err := l.which(q.Run)
	if err != nil {
		return &wire.ControlReply{Err: err.Error()}
	}
	switch {
	case steers:
		reason := q.Reason
		if reason == "" && state != fsm.Running {
			reason = q.Action + " was asked for"
		}
		err = l.steer(run, state, reason)
	case run.Priority != q.Priority:
		err = l.propose(&fsm.Prioritize{Run: run.ID, Priority: q.Priority})
	}
	reply := &wire.ControlReply{Run: run.ID, State: wire.RunState(l.machine.State().Run(run.ID).State)}
	if err != nil {
		reply.Err = err.Error()
	}
	return reply
}

// steer moves a run along its lifecycle, as far as it is not there.
func (l *leader) steer(run *fsm.Run, state fsm.Lifecycle, reason string) error {
	switch {
	case run.State == state || state == fsm.Stopping && run.State == fsm.Paused:
		return nil
	case run.State.Over():
		return fmt.Errorf("run %s is %s", run.ID, run.State)
	case state == fsm.Stopping && run.State == fsm.Failed:
		return fmt.Errorf("run %s has failed: %s", run.ID, run.Reason)
	case state == fsm.Stopping && len(l.machine.State().Full(run.ID)) == 0 && run.Round == nil && run.Save == nil:
		state = fsm.Paused // nobody works on it
	}
	return l.setState(run, state, reason)
}
