package coordinator

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// hello takes a worker in, or says why not.
func (l *leader) hello(q *wire.Hello) *wire.Welcome {
	if refused, again := l.turnAway(q); refused != nil || again {
		return refused
	}
	s := l.machine.State()
	run := s.Runs[len(s.Runs)-1]
	if reason := l.refusal(q, s, run); reason != "" {
		l.o.Log.Warn("worker refused", "worker", q.Worker, "reason", reason)
		l.watch.warn(run, q.Worker, "refused: "+reason)
		info := runInfo(run)
		info.Secret = nil // for members only
		return &wire.Welcome{Refused: reason, Run: info}
	}
	if s.Member(q.Worker) == nil {
		l.seen.Workers[q.Worker] = &plan.Worker{Heard: time.Now(), State: -1}
		if err := l.propose(&fsm.Join{
			Worker: q.Worker, Name: q.Name, Connection: q.Connection, Address: q.Address, Numerics: q.Numerics, Threads: q.Threads,
		}); err != nil {
			delete(l.seen.Workers, q.Worker)
			return nil // not answered: it asks again
		}
	}
	return &wire.Welcome{Protocol: min(q.ProtocolMax, wire.ProtocolMax), FailureTimeout: l.timers.Failure, Run: runInfo(run)}
}

// refusal returns why a worker is not taken; "" = it is.
func (l *leader) refusal(q *wire.Hello, s *fsm.State, run *fsm.Run) string {
	if err := wire.CheckName("worker", q.Worker); err != nil {
		return err.Error()
	}
	switch {
	case q.ProtocolMax < wire.ProtocolMin || q.ProtocolMin > wire.ProtocolMax:
		return fmt.Sprintf("worker %s (version %s) speaks protocol %d to %d, this coordinator (version %s) %d to %d: update the older one",
			q.Name, q.Version, q.ProtocolMin, q.ProtocolMax, l.o.Version, wire.ProtocolMin, wire.ProtocolMax)
	case slices.Contains(s.Quarantined, q.Name):
		return fmt.Sprintf("worker %s is quarantined: its parameters differed from the fleet's. Check the machine's memory and processor, then give the worker another name", q.Name)
	case run.Numerics == "" && !suits(q.Numerics, l.o.Cluster.Kernels):
		return fmt.Sprintf("worker %s computes with numerics %q, the run asks for cluster.kernels: %s; start it with COUNTERPOINT_KERNELS=%[3]s",
			q.Name, q.Numerics, l.o.Cluster.Kernels)
	case run.Numerics != "" && q.Numerics != run.Numerics && !run.Settings.Mixed:
		return fmt.Sprintf("worker %s computes with numerics %q, run %s with %q; use the same (COUNTERPOINT_KERNELS chooses a processor's), or set cluster.mixed: true to allow both",
			q.Name, q.Numerics, run.Name, run.Numerics)
	}
	return ""
}

// suits reports whether a worker of a numerics id uses the kernels asked for; those of other devices have none.
func suits(numerics, kernels string) bool {
	return kernels == "" || !strings.HasPrefix(numerics, "cpu/") || strings.HasSuffix(numerics, "/"+kernels)
}

// beat takes a heartbeat.
func (l *leader) beat(q *wire.Beat) *wire.Pulse {
	s := l.machine.State()
	run := s.Runs[len(s.Runs)-1]
	if s.Member(q.Worker) == nil {
		return &wire.Pulse{}
	}
	w := l.hear(q.Worker)
	l.heard[q.Worker] = max(l.heard[q.Worker], q.Revision)
	l.exchange[q.Worker] = &wire.Beat{Paths: q.Paths, Copied: q.Copied}
	p := &wire.Pulse{Known: true}
	if q.Run == run.ID {
		w.State, w.Parameters, w.Size = q.State, q.Parameters, q.Size
		w.Frozen, w.Checked, w.Spoiled = q.Frozen, q.Checked, q.Spoiled
		if w.Speed == 0 {
			w.Speed = q.TokensPS
		}
		missing := make([]fsm.Range, len(q.Missing))
		for i, r := range q.Missing {
			missing[i] = fsm.Range{Lo: r.Lo, Hi: r.Hi}
		}
		l.seen.Forget(s, missing)
	} else {
		w.State, w.Parameters = -1, ""
		p.Run = runInfo(run)
	}
	if l.round != nil && q.Revision < l.round.Revision {
		p.Round = l.round
	}
	return p
}

// stale is how long a message may have been on its way when its connection's end is known: within it, a message does
// not say that the connection is back.
const stale = 20 * time.Millisecond

// hear notes a sign of life.
func (l *leader) hear(worker string) *plan.Worker {
	w := l.seen.Workers[worker]
	if w == nil {
		w = &plan.Worker{State: -1}
		l.seen.Workers[worker] = w
	}
	w.Heard = time.Now()
	if !w.Lost.IsZero() && w.Heard.Sub(w.Lost) > stale {
		w.Lost, w.LostReason = time.Time{}, ""
	}
	return w
}

// connectionLost marks the workers of a connection; the plan expires them if it does not come back.
func (l *leader) connectionLost(name, reason string) {
	for _, m := range l.machine.State().Members {
		if w := l.seen.Workers[m.Worker]; m.Connection == name && w != nil && w.Lost.IsZero() {
			w.Lost, w.LostReason = time.Now(), reason
		}
	}
}

// report takes a shard's result.
func (l *leader) report(q *wire.Report) *wire.Verdict {
	s := l.machine.State()
	if s.Member(q.Worker) == nil {
		return &wire.Verdict{}
	}
	w := l.hear(q.Worker)
	rep := &plan.Report{
		Worker: q.Worker, Epoch: q.Epoch, Maxima: q.Maxima, NonFinite: q.NonFinite, Overflow: q.Overflow,
		Loss: q.Loss, Tokens: q.Tokens, Digest: q.Digest,
	}
	run := s.Active()
	if rep.NonFinite && run != nil && run.Round != nil {
		rep.Rows = l.batches.describe(plan.Work{Kind: run.Round.Kind, Step: run.Round.Step, Suite: run.Round.Suite}, q.Shard)
	}
	phase := plan.Phase(q.Phase)
	if phase == plan.Second {
		return &wire.Verdict{Accepted: l.seen.Check(s, q.Round, q.Attempt, q.Shard, q.Worker, q.Digest)}
	}
	if phase == plan.Embed && run != nil && l.seen.Round == q.Round && q.Shard >= 0 && q.Shard < len(l.seen.Embedded) {
		if old := l.seen.Embedded[q.Shard]; old != nil && old.Digest != "" && q.Digest != "" && old.Digest != q.Digest {
			l.watch.warn(run, q.Worker, fmt.Sprintf("shard %d of round %d: embeddings of %s and %s differ (%s, %s)", q.Shard, q.Round, old.Worker, q.Worker, old.Digest, q.Digest))
		}
	}
	// A report that comes too late tells too how long a shard takes: who is slow throughout must not lose it again.
	if q.Seconds > 0 && q.Tokens > 0 {
		if v := float64(q.Tokens) / q.Seconds; w.Speed == 0 {
			w.Speed = v
		} else {
			w.Speed += 0.2 * (v - w.Speed)
		}
	}
	if !l.seen.Accept(s, q.Round, q.Attempt, phase, q.Shard, rep) {
		return &wire.Verdict{}
	}
	w.Active = w.Heard
	return &wire.Verdict{Accepted: true}
}

// applyReport takes a member's result of a step. A follower's may be of a step that is committed already.
func (l *leader) applyReport(q *wire.Applied) *wire.Verdict {
	s := l.machine.State()
	run := s.Active()
	if run == nil || s.Member(q.Worker) == nil {
		return &wire.Verdict{}
	}
	w := l.hear(q.Worker)
	if q.Step+1 >= w.State {
		w.State, w.Parameters = q.Step+1, q.Parameters
	}
	if r := run.Round; r != nil && r.Kind == fsm.Train && r.Number == q.Round && r.Attempt == q.Attempt && r.Step == q.Step && l.seen.Round == q.Round {
		l.seen.Applied[q.Worker] = plan.Applied{Gradient: q.Gradient, Parameters: q.Parameters, Loss: q.Loss, Norm: q.Norm, Rate: q.Rate}
		return &wire.Verdict{Accepted: true}
	}
	return &wire.Verdict{Accepted: q.Step < run.Cursor}
}

// scored takes the result of an evaluation.
func (l *leader) scored(q *wire.Scored) *wire.Verdict {
	s := l.machine.State()
	run := s.Active()
	if run == nil || s.Member(q.Worker) == nil {
		return &wire.Verdict{}
	}
	l.hear(q.Worker)
	if run.Evaluated(q.Step, q.Suite) {
		return &wire.Verdict{Accepted: true}
	}
	if r := run.Round; r == nil || r.Kind != fsm.Evaluate || r.Number != q.Round || r.Scorer != q.Worker {
		return &wire.Verdict{}
	}
	l.seen.Scored = &plan.Scored{Worker: q.Worker, Metrics: q.Metrics, Digest: q.Digest}
	return &wire.Verdict{Accepted: true}
}

// saved takes the writer's answer to a Save.
func (l *leader) saved(q *wire.Saved) *wire.Verdict {
	s := l.machine.State()
	run := s.Active()
	if run == nil || s.Member(q.Worker) == nil {
		return &wire.Verdict{}
	}
	l.hear(q.Worker)
	if run.Save == nil || run.Save.Step != q.Step || run.Save.Worker != q.Worker {
		return &wire.Verdict{Accepted: run.Manifest(q.Step) != nil && run.Manifest(q.Step).Path == q.Path}
	}
	l.seen.Saved = &plan.Saved{Step: q.Step, Worker: q.Worker, Path: q.Path, Digest: q.Manifest, Err: q.Err}
	l.watch.wrote = q.Seconds
	return &wire.Verdict{Accepted: true}
}

// leave lets a worker drain.
func (l *leader) leave(q *wire.Leave) *wire.Verdict {
	if w := l.seen.Workers[q.Worker]; w != nil {
		if w.Leaving = q.Reason; w.Leaving == "" {
			w.Leaving = "drained"
		}
	}
	return &wire.Verdict{Accepted: true}
}

// command steers the run from outside.
func (l *leader) command(q *wire.Control) *wire.ControlReply {
	states := map[string]fsm.Lifecycle{"pause": fsm.Stopping, "resume": fsm.Running, "cancel": fsm.Cancelled}
	state, ok := states[q.Action]
	if !ok {
		return &wire.ControlReply{Err: fmt.Sprintf("action %q: pause, resume and cancel are allowed", q.Action)}
	}
	reason := q.Reason
	if reason == "" && state != fsm.Running {
		reason = q.Action + " was asked for"
	}
	if err := l.setState(q.Run, state, reason); err != nil {
		return &wire.ControlReply{Err: err.Error(), State: wire.RunState(l.newest().State)}
	}
	return &wire.ControlReply{State: wire.RunState(l.newest().State)}
}
