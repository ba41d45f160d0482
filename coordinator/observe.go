package coordinator

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
)

// observer turns applied commands into events.
type observer struct {
	journal    *journal
	log        *slog.Logger
	next       int64                       // id of the next event
	wrote      float64                     // seconds that the newest checkpoint took to write
	recoveries []Recovery                  // losses that no commit has followed yet
	copied     func(worker string) float64 // seconds that a worker's copy of a peer's state took; 0 = it made none
}

// observe tells of what an entry did. heard is when each expired worker gave its last sign of life.
func (o *observer) observe(before, after *fsm.State, commands []fsm.Command, heard map[string]time.Time) {
	for _, c := range commands {
		e := Event{Time: after.Now, Workers: len(after.Full())}
		run := after.Runs[len(after.Runs)-1]
		was := before.Active()
		e.Run, e.Steps, e.Step = run.ID, run.Steps, run.Cursor
		switch c := c.(type) {
		case *fsm.Submit:
			e.Kind, e.State = StateChanged, string(run.State)
		case *fsm.SetState:
			e.Kind, e.State, e.Reason = StateChanged, string(c.State), c.Reason
		case *fsm.Join:
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
			o.lost(before, after, c, heard[c.Worker])
		case *fsm.Grant:
			o.granted(before, after.Now, c)
			continue
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
			continue
		}
		o.tell(e)
	}
}

// tell logs an event and passes it on.
func (o *observer) tell(e Event) {
	e.ID = o.next
	o.next++
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
	o.journal.add(e)
}

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
func (o *observer) granted(before *fsm.State, now time.Time, c *fsm.Grant) {
	was := before.Active()
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
