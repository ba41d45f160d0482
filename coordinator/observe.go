package coordinator

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
)

// observer turns applied commands into the events of one run.
type observer struct {
	journal    *journal // nil until the run's data are open: early keeps what happens before
	early      []Event
	log        *slog.Logger
	next       *int64                      // id of the leader's next event
	wrote      float64                     // seconds that the newest checkpoint took to write
	recoveries []Recovery                  // losses that no commit has followed yet
	copied     func(worker string) float64 // seconds that a worker's copy of a peer's state took; 0 = it made none
}

// begin tells the journal, from now on, and what it has missed.
func (o *observer) begin(j *journal) {
	o.journal = j
	for _, e := range o.early {
		o.add(e)
	}
	o.early = nil
}

// end closes the journal.
func (o *observer) end() error {
	if o.journal == nil {
		return nil
	}
	err := o.journal.close()
	o.journal = nil
	return err
}

// about returns the run that a command is about; "" = none.
func about(before, after *fsm.State, c fsm.Command) string {
	at := func(s *fsm.State, worker string) string {
		if m := s.Member(worker); m != nil {
			return m.Run
		}
		return ""
	}
	switch c := c.(type) {
	case *fsm.Submit:
		return c.ID
	case *fsm.Expire:
		return at(before, c.Worker)
	case *fsm.Promote:
		return at(after, c.Worker)
	case *fsm.Assign:
		return c.Run
	case *fsm.SetState:
		return c.Run
	case *fsm.Grant:
		return c.Run
	case *fsm.Retry:
		return c.Run
	case *fsm.Commit:
		return c.Run
	case *fsm.Evaluated:
		return c.Run
	case *fsm.Saved:
		return c.Run
	case *fsm.SaveLost:
		return c.Run
	case *fsm.Drop:
		return c.Run
	case *fsm.Restart:
		return c.Run
	case *fsm.Rewind:
		return c.Run
	}
	return ""
}

// observe tells of what a command did to a run. heard is when an expired worker gave its last sign of life.
func (o *observer) observe(before, after *fsm.State, id string, c fsm.Command, heard time.Time) {
	run, was := after.Run(id), before.Run(id)
	if run == nil {
		return
	}
	e := Event{Time: after.Now, Workers: len(after.Full(id)), Run: run.ID, Steps: run.Steps, Step: run.Cursor}
	switch c := c.(type) {
	case *fsm.Submit:
		e.Kind, e.State = StateChanged, string(run.State)
	case *fsm.SetState:
		e.Kind, e.State, e.Reason = StateChanged, string(c.State), c.Reason
	case *fsm.Assign:
		e.Kind, e.Worker = WorkerJoined, c.Worker
	case *fsm.Promote:
		e.Kind, e.Worker = WorkerReady, c.Worker
		if o.copied != nil {
			e.Seconds = o.copied(c.Worker)
		}
		for i := range o.recoveries {
			if r := &o.recoveries[i]; r.Copied.IsZero() && e.Seconds > 0 {
				r.Copied = after.Now
			}
		}
	case *fsm.Expire:
		e.Kind, e.Worker, e.Reason = WorkerLost, c.Worker, c.Reason
		o.lost(before, after, c, heard)
	case *fsm.Grant:
		o.granted(was, after.Now, c)
		return
	case *fsm.Retry:
		e.Kind, e.Attempt = AttemptRepeated, c.Attempt
	case *fsm.Commit:
		e.Kind, e.Step, e.Loss, e.Norm, e.Rate, e.Parameters = StepCommitted, c.Step+1, c.Loss, c.Norm, c.Rate, c.Parameters
		e.Replayed = was.Committed() > c.Step
		if r := was.Round; r != nil && r.Number == c.Round {
			e.Seconds = after.Now.Sub(r.Opened).Seconds()
			if r.Closing != nil {
				e.Tokens = r.Closing.Tokens
			}
		}
		o.recovered(e)
	case *fsm.Evaluated:
		last := run.Evaluations[len(run.Evaluations)-1]
		e.Kind, e.Suite, e.Metrics, e.Step = SuiteEvaluated, last.Name, c.Metrics, last.Step
		if r := was.Round; r != nil && r.Number == c.Round {
			e.Seconds = after.Now.Sub(r.Opened).Seconds()
		}
		o.recovered(e)
	case *fsm.Saved:
		e.Kind, e.Step, e.Path, e.Seconds = CheckpointSaved, c.Step, c.Path, o.wrote
	case *fsm.SaveLost:
		e.Kind, e.Step, e.Reason = CheckpointFailed, c.Step, c.Reason
	case *fsm.Drop:
		e.Kind, e.Step, e.Reason = CheckpointGone, c.Step, c.Reason
		if m := was.Manifest(c.Step); m != nil {
			e.Path = m.Path
		}
	case *fsm.Rewind:
		e.Kind, e.Step, e.Path, e.Reason = Rewound, c.Step, c.Path, c.Reason
	case *fsm.Restart:
		e.Kind, e.Step, e.Path = Restarted, c.Step, c.Path
	default:
		return
	}
	o.tell(e)
}

// left tells that a member works for another run now.
func (o *observer) left(after *fsm.State, id, worker, reason string) {
	if run := after.Run(id); run != nil {
		o.tell(Event{Time: after.Now, Kind: WorkerLost, Workers: len(after.Full(id)), Run: id, Steps: run.Steps, Step: run.Cursor, Worker: worker, Reason: plan.Left + reason})
	}
}

// tell logs an event and passes it on.
func (o *observer) tell(e Event) {
	switch e.Kind {
	case StepCommitted:
		o.log.Debug("step committed", "step", e.Step, "loss", e.Loss, "workers", e.Workers)
	default:
		level := slog.LevelInfo
		_, damaged := e.Damaged()
		_, drained := e.Drained()
		if damaged || e.Kind == WorkerLost && !drained || e.Kind == CheckpointFailed || e.Kind == Warning || e.Kind == Rewound {
			level = slog.LevelWarn
		}
		fields := []any{"run", e.Run, "step", e.Step}
		for _, f := range [][2]string{{"worker", e.Worker}, {"state", e.State}, {"suite", e.Suite}, {"path", e.Path}, {"reason", e.Reason}} {
			if f[1] != "" {
				fields = append(fields, f[0], f[1])
			}
		}
		o.log.Log(context.Background(), level, e.Kind, fields...)
	}
	if o.journal == nil {
		if len(o.early) < maxEarly {
			o.early = append(o.early, e)
		}
		return
	}
	o.add(e)
}

// add numbers an event, and writes it.
func (o *observer) add(e Event) {
	e.ID = *o.next
	*o.next++
	o.journal.add(e)
}

// maxEarly bounds the events kept of a run whose data are not open.
const maxEarly = 1000

// warn tells of something that changes nothing in the state.
func (o *observer) warn(run *fsm.Run, worker, reason string) {
	o.tell(Event{Time: time.Now(), Kind: Warning, Run: run.ID, Step: run.Cursor, Steps: run.Steps, Worker: worker, Reason: reason})
}

// lost begins the timeline of a full member's loss.
func (o *observer) lost(before, after *fsm.State, c *fsm.Expire, heard time.Time) {
	// One of an earlier life is not known to have been lost, and one that drained left nothing to recover.
	if m := before.Member(c.Worker); m != nil && !m.Behind && !heard.IsZero() && !strings.HasPrefix(c.Reason, plan.Left) {
		o.recoveries = append(o.recoveries, Recovery{Worker: c.Worker, Reason: c.Reason, Heard: heard, Detected: after.Now})
	}
}

// granted notes when a lost worker's shards were leased again.
func (o *observer) granted(was *fsm.Run, now time.Time, c *fsm.Grant) {
	if was == nil || was.Round == nil {
		return
	}
	for i := range o.recoveries {
		r := &o.recoveries[i]
		for _, g := range c.Leases {
			for shard := g.Lo; shard < g.Hi; shard++ {
				if h, ok := was.Round.Holder(shard); ok && h.Worker == r.Worker {
					r.Released = now
					r.Shards++
				}
			}
		}
	}
}

// recovered ends the timelines at the first commit after them.
func (o *observer) recovered(commit Event) {
	for _, r := range o.recoveries {
		r.Commit = commit.Time
		e := Event{Time: commit.Time, Kind: Recovered, Run: commit.Run, Step: commit.Step, Steps: commit.Steps, Worker: r.Worker, Workers: commit.Workers, Recovery: &r}
		o.tell(e)
	}
	o.recoveries = nil
}
