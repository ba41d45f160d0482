package coordinator

import (
	"fmt"
	"slices"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// hello takes a worker in, or says why not. The answer waits for the plan, which may have a run for it.
func (l *leader) hello(q *wire.Hello, reply func(*wire.Welcome)) {
	if refused, again := l.turnAway(q); again {
		return // not answered: it asks again
	} else if refused != nil {
		reply(refused)
		return
	}
	s := l.machine.State()
	if run, reason := l.refusal(q, s); reason != "" {
		l.o.Log.Warn("worker refused", "worker", q.Worker, "reason", reason)
		w := &wire.Welcome{Refused: reason}
		if run != nil {
			l.of(run.ID).watch.warn(run, q.Worker, "refused: "+reason)
			w.Run = runInfo(run)
			w.Run.Secret = nil // for members only
		}
		reply(w)
		return
	}
	if s.Member(q.Worker) == nil {
		l.seen.Workers[q.Worker] = &plan.Worker{Heard: time.Now(), State: -1}
		if err := l.propose(&fsm.Join{
			Worker: q.Worker, Name: q.Name, Connection: q.Connection, Address: q.Address, Numerics: q.Numerics, Threads: q.Threads,
			Labels: q.Labels,
		}); err != nil {
			delete(l.seen.Workers, q.Worker)
			return // not answered: it asks again
		}
	}
	l.later = append(l.later, func() {
		w := &wire.Welcome{Protocol: min(q.ProtocolMax, wire.ProtocolMax), FailureTimeout: l.timers.Failure}
		s := l.machine.State()
		m := s.Member(q.Worker)
		if m == nil {
			return // expired already: it asks again
		}
		if run := s.Run(m.Run); run != nil {
			w.Run = runInfo(run)
		}
		reply(w)
	})
}

// refusal returns why a worker is not taken, and for which run; "" = it is taken. Where runs are submitted, a worker that
// fits none of them waits for one that it does, unless other kernels would make it fit.
func (l *leader) refusal(q *wire.Hello, s *fsm.State) (*fsm.Run, string) {
	if err := wire.CheckName("worker", q.Worker); err != nil {
		return nil, err.Error()
	}
	switch {
	case q.ProtocolMax < wire.ProtocolMin || q.ProtocolMin > wire.ProtocolMax:
		return nil, fmt.Sprintf("worker %s (version %s) speaks protocol %d to %d, this coordinator (version %s) %d to %d: update the older one",
			q.Name, q.Version, q.ProtocolMin, q.ProtocolMax, l.o.Version, wire.ProtocolMin, wire.ProtocolMax)
	case slices.Contains(s.Quarantined, q.Name):
		return nil, fmt.Sprintf("worker %s is quarantined: its parameters differed from the fleet's. Check the machine's memory and processor, then give the worker another name", q.Name)
	}
	var refused *fsm.Run
	reason := ""
	for _, run := range s.Runs {
		if !run.State.Working() && run.ID != l.own {
			continue
		}
		kernels := l.seen.Run(run.ID).Kernels
		switch {
		case run.State.Over():
			return nil, ""
		case run.Numerics == "" && !plan.Suits(q.Numerics, kernels):
			if refused == nil {
				refused, reason = run, fmt.Sprintf("worker %s computes with numerics %q, the run asks for cluster.kernels: %s; start it with COUNTERPOINT_KERNELS=%[3]s",
					q.Name, q.Numerics, kernels)
			}
		case run.Numerics != "" && q.Numerics != run.Numerics && !run.Settings.Mixed:
			if refused == nil {
				refused, reason = run, fmt.Sprintf("worker %s computes with numerics %q, run %s with %q; use the same (COUNTERPOINT_KERNELS chooses a processor's), or set cluster.mixed: true to allow both",
					q.Name, q.Numerics, run.Name, run.Numerics)
			}
		default:
			return nil, ""
		}
	}
	if refused != nil && l.own == "" && plan.Suits(q.Numerics, l.seen.Run(refused.ID).Kernels) {
		return nil, "" // it is idle until a run comes that it fits
	}
	return refused, reason
}

// beat takes a heartbeat.
func (l *leader) beat(q *wire.Beat) *wire.Pulse {
	s := l.machine.State()
	m := s.Member(q.Worker)
	if m == nil {
		return &wire.Pulse{}
	}
	w := l.hear(q.Worker)
	l.exchange[q.Worker] = &wire.Beat{Paths: q.Paths, Copied: q.Copied}
	run := s.Run(m.Run)
	p := &wire.Pulse{Known: true}
	if run == nil {
		w.Run, w.State, w.Parameters, p.Idle = "", -1, "", q.Run != ""
		return p
	}
	r := l.of(run.ID)
	if q.Run != run.ID {
		w.Run, w.State, w.Parameters, p.Run = "", -1, "", runInfo(run)
		if q.Run == "" {
			p.Round = r.round
		}
		return p
	}
	l.heard[q.Worker] = max(l.heard[q.Worker], q.Revision)
	w.Run, w.State, w.Parameters, w.Size = q.Run, q.State, q.Parameters, q.Size
	w.Frozen, w.Checked, w.Spoiled = q.Frozen, q.Checked, q.Spoiled
	if w.Speed == 0 {
		w.Speed = q.TokensPS
	}
	if len(q.Missing) > 0 {
		missing := make([]fsm.Range, len(q.Missing))
		for i, r := range q.Missing {
			missing[i] = fsm.Range{Lo: r.Lo, Hi: r.Hi}
		}
		l.seen.Run(run.ID).Forget(s, run.ID, missing)
	}
	if r.round != nil && q.Revision < r.round.Revision {
		p.Round = r.round
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
	run := s.Run(q.Run)
	if run == nil || !of(s, q.Worker, q.Run) {
		return &wire.Verdict{}
	}
	w, v, r := l.hear(q.Worker), l.seen.Run(q.Run), l.of(q.Run)
	rep := &plan.Report{
		Worker: q.Worker, Epoch: q.Epoch, Maxima: q.Maxima, NonFinite: q.NonFinite, Overflow: q.Overflow,
		Loss: q.Loss, Tokens: q.Tokens, Digest: q.Digest,
	}
	if rep.NonFinite && run.Round != nil && r.host != nil {
		rep.Rows = r.host.batches.describe(plan.Work{Kind: run.Round.Kind, Step: run.Round.Step, Suite: run.Round.Suite}, q.Shard)
	}
	phase := plan.Phase(q.Phase)
	if phase == plan.Second {
		return &wire.Verdict{Accepted: v.Check(s, run, q.Round, q.Attempt, q.Shard, plan.Check{Worker: q.Worker, Digest: q.Digest, Rows: q.Rows})}
	}
	if phase == plan.Embed && v.Round == q.Round && q.Shard >= 0 && q.Shard < len(v.Embedded) {
		if old := v.Embedded[q.Shard]; old != nil && old.Digest != "" && q.Digest != "" && old.Digest != q.Digest {
			r.watch.warn(run, q.Worker, fmt.Sprintf("shard %d of round %d: embeddings of %s and %s differ (%s, %s)", q.Shard, q.Round, old.Worker, q.Worker, old.Digest, q.Digest))
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
	if !v.Accept(s, run, q.Round, q.Attempt, phase, q.Shard, rep) {
		return &wire.Verdict{}
	}
	w.Active = w.Heard
	return &wire.Verdict{Accepted: true}
}

// applyReport takes a member's result of a step. A follower's may be of a step that is committed already.
func (l *leader) applyReport(q *wire.Applied) *wire.Verdict {
	s := l.machine.State()
	run := s.Run(q.Run)
	if run == nil || !of(s, q.Worker, q.Run) {
		return &wire.Verdict{}
	}
	w, v := l.hear(q.Worker), l.seen.Run(q.Run)
	if w.Run != q.Run || q.Step+1 >= w.State {
		w.Run, w.State, w.Parameters = q.Run, q.Step+1, q.Parameters
	}
	if r := run.Round; r != nil && r.Kind == fsm.Train && r.Number == q.Round && r.Attempt == q.Attempt && r.Step == q.Step && v.Round == q.Round {
		v.Applied[q.Worker] = plan.Applied{Gradient: q.Gradient, Parameters: q.Parameters, Loss: q.Loss, Norm: q.Norm, Rate: q.Rate}
		return &wire.Verdict{Accepted: true}
	}
	return &wire.Verdict{Accepted: q.Step < run.Cursor}
}

// scored takes the result of an evaluation.
func (l *leader) scored(q *wire.Scored) *wire.Verdict {
	s := l.machine.State()
	run := s.Run(q.Run)
	if run == nil || !of(s, q.Worker, q.Run) {
		return &wire.Verdict{}
	}
	l.hear(q.Worker)
	if run.Evaluated(q.Step, q.Suite) {
		return &wire.Verdict{Accepted: true}
	}
	if r := run.Round; r == nil || r.Kind != fsm.Evaluate || r.Number != q.Round || r.Scorer != q.Worker {
		return &wire.Verdict{}
	}
	l.seen.Run(q.Run).Scored = &plan.Scored{Worker: q.Worker, Metrics: q.Metrics, Digest: q.Digest}
	return &wire.Verdict{Accepted: true}
}

// saved takes the writer's answer to a Save.
func (l *leader) saved(q *wire.Saved) *wire.Verdict {
	s := l.machine.State()
	run := s.Run(q.Run)
	if run == nil || !of(s, q.Worker, q.Run) {
		return &wire.Verdict{}
	}
	l.hear(q.Worker)
	if run.Save == nil || run.Save.Step != q.Step || run.Save.Worker != q.Worker {
		return &wire.Verdict{Accepted: run.Manifest(q.Step) != nil && run.Manifest(q.Step).Path == q.Path}
	}
	l.seen.Run(q.Run).Saved = &plan.Saved{Step: q.Step, Worker: q.Worker, Path: q.Path, Digest: q.Manifest, Err: q.Err}
	l.of(q.Run).watch.wrote = q.Seconds
	return &wire.Verdict{Accepted: true}
}

// of reports whether a worker is a member that is assigned to the run.
func of(s *fsm.State, worker, run string) bool {
	m := s.Member(worker)
	return m != nil && m.Run == run
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
