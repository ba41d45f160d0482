package plan

import (
	"fmt"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// evaluation moves an evaluation round on: embed, name a scorer, take its result.
func (p *planner) evaluation() {
	r := p.run()
	if p.nonFinite() {
		return
	}
	missing := func(shard int) bool { return p.v.embedded(r.Round, shard) == nil }
	p.adopt(missing)
	if len(ranges(r.Round.Shards, missing)) > 0 {
		p.steal()
		return
	}
	scorer := r.Round.Scorer
	if s := p.v.Scored; s != nil && p.v.Round == r.Round.Number && s.Worker == scorer {
		p.do(&fsm.Evaluated{Run: r.ID, Round: r.Round.Number, Metrics: s.Metrics, Digest: s.Digest})
		return
	}
	if !p.full(scorer) {
		p.do(&fsm.Score{Run: r.ID, Round: r.Round.Number, Worker: p.assignable()[0]})
	}
}

// Next returns what the run's next round is about; ok is false when it has none: it stops, or is at its end.
func Next(r *fsm.Run) (w Work, ok bool) {
	if r.State != fsm.Running {
		return Work{}, false
	}
	if suite, due := evaluationDue(r, r.Cursor); due {
		return Work{fsm.Evaluate, r.Cursor, suite}, true
	}
	return Work{Kind: fsm.Train, Step: r.Cursor}, r.Cursor < r.Steps
}

// After returns what comes after the round in flight, as far as that can be known: what to prepare meanwhile.
func After(r *fsm.Run) (w Work, ok bool) {
	if r.Round == nil || r.Round.Kind == fsm.Evaluate {
		return Next(r)
	}
	at := r.Cursor + 1
	if suite, due := evaluationDue(r, at); due {
		return Work{fsm.Evaluate, at, suite}, true
	}
	return Work{Kind: fsm.Train, Step: at}, at < r.Steps
}

// evaluationDue returns the first suite that is to be evaluated at a step and was not.
func evaluationDue(r *fsm.Run, step int64) (suite int, due bool) {
	every := r.Settings.EvaluateEvery
	if !(step == r.Steps || step == 0 && r.Settings.EvaluateStart || step > 0 && every > 0 && step%every == 0) {
		return 0, false
	}
	for suite := range r.Settings.Suites {
		if !r.Evaluated(step, suite) {
			return suite, true
		}
	}
	return 0, false
}

// between opens the next round, or ends the run. Checkpoints are asked for here: the parameters between two steps are
// the same on every worker.
func (p *planner) between() {
	p.save()
	r := p.run()
	next, ok := Next(r)
	if !ok {
		p.end()
		return
	}
	if p.everybodyLeaves() {
		p.release()
		return // with a checkpoint, if save asked for one: the next worker goes on there
	}
	p.release()
	if len(p.s.Full(p.at)) < r.Settings.WorkersMin {
		return // it waits for more; others may take these
	}
	shape, known := p.v.Shapes[next]
	workers := p.assignable()
	switch {
	case !known || len(workers) == 0:
		return // the leader prepares it
	case shape.Err != "":
		p.do(&fsm.SetState{Run: r.ID, State: fsm.Failed, Reason: shape.Err})
		return
	}
	shards := make([]int, len(shape.Tokens))
	for i := range shards {
		shards[i] = i
	}
	p.do(&fsm.Open{
		Run: r.ID, Number: r.Rounds + 1, Kind: next.Kind, Step: next.Step, Suite: next.Suite, Shards: len(shards), Gather: shape.Gather,
		Leases: p.share(shards, shape.Tokens, workers), Batch: shape.Digest,
	})
}

// saveRetries is how often a run's last checkpoint is tried, one failure timeout apart.
const saveRetries = 3

// end finishes a run that has nothing left to do, once its last checkpoint is committed.
func (p *planner) end() {
	r := p.run()
	if r.Save != nil {
		return
	}
	if r.Cursor > 0 && r.Manifest(r.Cursor) == nil {
		if r.SaveLosses >= saveRetries {
			p.do(&fsm.SetState{Run: r.ID, State: fsm.Paused, Reason: fmt.Sprintf("the checkpoint of step %d could not be written: %s", r.Cursor, r.SaveError)})
		}
		return // save asks again
	}
	if p.unchecked() {
		return // their beats tell
	}
	p.retain() // of a run that is over nothing is planned any more
	if r.State == fsm.Stopping {
		p.do(&fsm.SetState{Run: r.ID, State: fsm.Paused, Reason: r.Reason})
		return
	}
	p.do(&fsm.SetState{Run: r.ID, State: fsm.Finished})
}

// save asks for a checkpoint of the present parameters when one is due: a multiple of checkpoint.every was passed, the
// evaluation of this step is the best so far, or the run ends here.
func (p *planner) save() {
	r := p.run()
	if r.Save != nil || r.Cursor == 0 || r.Manifest(r.Cursor) != nil {
		return
	}
	every := r.Settings.CheckpointEvery
	due := every > 0 && r.Cursor/every*every > max(r.SaveTried, 0)
	best := p.best()
	if _, more := Next(r); !more && (r.SaveTried < r.Cursor || r.SaveLosses < saveRetries && p.now.Sub(r.SaveLostAt) >= p.seen.Timers.Failure) {
		due = true
	}
	if p.everybodyLeaves() && r.SaveTried < r.Cursor {
		due = true
	}
	if pause := p.seen.Timers.Failure << min(r.SaveLosses, 6); r.SaveLosses > 0 && r.SaveTried < r.Cursor && p.now.Sub(r.SaveLostAt) >= pause {
		due = true // a store that was away may be back; each loss doubles the pause
	}
	if !due && !best {
		return
	}
	workers := p.assignable()
	standby := ""
	if len(workers) > 1 {
		standby = workers[1]
	}
	p.do(&fsm.SaveAt{Run: r.ID, Step: r.Cursor, Worker: workers[0], Standby: standby, Best: best})
}

// of reports whether a worker is a member of the run.
func (p *planner) of(worker string) bool {
	m := p.s.Member(worker)
	return m != nil && m.Run == p.at
}

// best reports whether the step's evaluation is complete and beats every checkpoint's.
func (p *planner) best() bool {
	r := p.run()
	score, ok := r.ScoreOf(r.Cursor)
	if _, due := evaluationDue(r, r.Cursor); !ok || due || r.SaveTried >= r.Cursor {
		return false
	}
	for _, m := range r.Manifests {
		if other, ok := r.ScoreOf(m.Step); ok && other >= score {
			return false
		}
	}
	return true
}

// saving moves a checkpoint in the making on.
func (p *planner) saving() {
	r := p.run()
	if r.Save == nil {
		return
	}
	save := *r.Save
	if v := p.v.Saved; v != nil && v.Step == save.Step && v.Worker == save.Worker {
		if v.Err != "" {
			p.do(&fsm.SaveLost{Run: r.ID, Step: save.Step, Reason: v.Err})
		} else {
			p.do(&fsm.Saved{Run: r.ID, Step: save.Step, Worker: v.Worker, Path: v.Path, Digest: v.Digest})
		}
		return
	}
	switch {
	case p.of(save.Worker):
	case save.Standby != "" && p.of(save.Standby):
		p.do(&fsm.SaveAt{Run: r.ID, Step: save.Step, Worker: save.Standby})
	default:
		p.do(&fsm.SaveLost{Run: r.ID, Step: save.Step, Reason: "the writer and its standby were lost"})
	}
}

// retain drops the checkpoints beyond checkpoint.keep, but for the best.
func (p *planner) retain() {
	r := p.run()
	if r.Settings.Keep <= 0 {
		return
	}
	for i := 0; i < len(r.Manifests)-r.Settings.Keep; i++ {
		if m := r.Manifests[i]; !m.Best {
			p.do(&fsm.Drop{Run: r.ID, Step: m.Step, Reason: fmt.Sprintf("older than the newest %d", r.Settings.Keep)})
		}
	}
}

// Deadline returns when Plan should look again though nothing was heard.
func Deadline(v *Seen, now time.Time) time.Time { return now.Add(v.Timers.Tick) }
