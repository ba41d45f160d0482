// Package report turns the events of runs into what people read: report.html, self-contained, and the final
// table of the terminal. It is pure: events in, text out.
package report

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
)

// Record is what a run's events amount to.
type Record struct {
	Name     string
	Identity string // digest of what decides the result
	Version  string // of the binary
	Plan     string // the plan that --dry-run prints
	Config   string // the run file
	State    string
	Reason   string
	Started  time.Time
	Ended    time.Time
	Steps    []Step
	Scores   []Score
	Saves    []Save
	Timeline []coordinator.Event // joins, losses, leases, leaders, doubts, in order
	Rows     []Row               // reference rows of the result table, such as BM25
}

// Step is one committed step.
type Step struct {
	Time                           time.Time
	Step                           int64
	Loss, Norm, Rate, TokensPerSec float64
	Workers                        int
	Parameters                     string
}

// Score is one committed evaluation of one suite.
type Score struct {
	Step    int64
	Suite   string
	Metrics map[string]float64
}

// Save is one committed checkpoint that was not removed since.
type Save struct {
	Step int64
	Path string
}

// Row is one line of the result table.
type Row struct {
	Label   string
	Suite   string
	Metrics map[string]float64
}

// Add takes the next event of the run. Events of a resumed run follow those of its first life.
func (r *Record) Add(e coordinator.Event) {
	if r.Started.IsZero() {
		r.Started = e.Time
	}
	r.Ended = e.Time
	switch e.Kind {
	case coordinator.StepCommitted:
		if !e.Replayed {
			r.Steps = append(r.Steps, Step{
				Time: e.Time, Step: e.Step, Loss: e.Loss, Norm: e.Norm, Rate: e.Rate,
				TokensPerSec: e.TokensPerSecond(), Workers: e.Workers, Parameters: e.Parameters,
			})
		}
	case coordinator.SuiteEvaluated:
		r.Scores = append(r.Scores, Score{Step: e.Step, Suite: e.Suite, Metrics: e.Metrics})
	case coordinator.CheckpointSaved:
		r.Saves = append(r.Saves, Save{Step: e.Step, Path: e.Path})
	case coordinator.CheckpointGone:
		r.Saves = slices.DeleteFunc(r.Saves, func(s Save) bool { return s.Step == e.Step })
		if _, damaged := e.Damaged(); damaged {
			r.Timeline = append(r.Timeline, e)
		}
	case coordinator.Rewound: // what was taken back is not the run's
		r.Steps = slices.DeleteFunc(r.Steps, func(s Step) bool { return s.Step > e.Step })
		r.Scores = slices.DeleteFunc(r.Scores, func(s Score) bool { return s.Step > e.Step })
		r.Saves = slices.DeleteFunc(r.Saves, func(s Save) bool { return s.Step > e.Step })
		r.Timeline = append(r.Timeline, e)
	case coordinator.StateChanged:
		r.State, r.Reason = e.State, e.Reason
	default:
		r.Timeline = append(r.Timeline, e)
	}
}

// Read adds the events of an events.jsonl. Lines that a crash or a full disk cut short are left out.
func (r *Record) Read(src io.Reader) error {
	lines := bufio.NewScanner(src)
	lines.Buffer(nil, 16<<20)
	var read int
	var wrong error
	for n := 1; lines.Scan(); n++ {
		var e coordinator.Event
		err := json.Unmarshal(lines.Bytes(), &e)
		if err == nil && e.Kind == "" {
			err = errors.New("not an event")
		}
		if err == nil {
			read++
			r.Add(e)
		} else if wrong == nil {
			wrong = fmt.Errorf("events: line %d: %w", n, err)
		}
	}
	if read == 0 && wrong != nil {
		return wrong // not a file of events
	}
	return lines.Err()
}

// Results returns the rows of the result table: the reference rows first, then every suite's first and last
// evaluation.
func (r *Record) Results() []Row {
	rows := append([]Row(nil), r.Rows...)
	for _, suite := range r.suites() {
		var of []Score
		for _, s := range r.Scores {
			if s.Suite == suite {
				of = append(of, s)
			}
		}
		if len(of) > 1 {
			rows = append(rows, Row{Label: fmt.Sprintf("%s, step %d", r.Name, of[0].Step), Suite: suite, Metrics: of[0].Metrics})
		}
		last := of[len(of)-1]
		rows = append(rows, Row{Label: fmt.Sprintf("%s, step %d", r.Name, last.Step), Suite: suite, Metrics: last.Metrics})
	}
	return rows
}

func (r *Record) suites() []string {
	var names []string
	seen := map[string]bool{}
	for _, s := range r.Scores {
		if !seen[s.Suite] {
			seen[s.Suite] = true
			names = append(names, s.Suite)
		}
	}
	return names
}
