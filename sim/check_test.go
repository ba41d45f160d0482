package sim

import (
	"fmt"
	"sync"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/worker/workertest"
)

// check compares what a cluster has come to with the undisturbed run, and its log with what a log may say.
func (c *cluster) check() (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	c.mu.Lock()
	wrong = append(wrong, c.faults...)
	c.mu.Unlock()
	c.tap.mu.Lock()
	wrong = append(wrong, c.tap.wrong...)
	entries := c.tap.log
	c.tap.mu.Unlock()

	state := c.state()
	if state == nil || len(state.Runs) != 1 {
		complain("no state with one run at the end")
		return wrong
	}
	run := state.Runs[0]
	if run.State != fsm.Finished {
		complain("the run is %s after %d of %d steps: %s", run.State, run.Cursor, run.Steps, run.Reason)
	}
	want, err := undisturbed(c.task)
	if err != nil {
		complain("the undisturbed run: %v", err)
		return wrong
	}

	// Parameters and gradients of every committed step are those of the undisturbed run.
	for step := range min(run.Ledger.Len(), int64(len(want.outcomes))) {
		got, w := run.Ledger.At(step), want.outcomes[step]
		if got.Parameters != w.Parameters || got.Gradient != w.Gradient || got.Loss != w.Loss {
			complain("step %d: committed %+v, undisturbed %+v", step, got, w)
			break
		}
	}
	if run.State == fsm.Finished && run.Ledger.Len() != run.Steps {
		complain("%d steps committed, want %d", run.Ledger.Len(), run.Steps)
	}
	if !c.task.feed.Language {
		for _, e := range run.Evaluations {
			if e.Metrics["score"] != want.scores[e.Step] {
				complain("score after %d steps is %v, undisturbed %v", e.Step, e.Metrics["score"], want.scores[e.Step])
			}
		}
	}

	// Every committed manifest can be loaded and holds the parameters of its step.
	c.store.Mu.Lock()
	for _, m := range run.Manifests {
		state, ok := c.store.States[m.Path]
		if !ok && c.store.damaged[m.Path] {
			continue
		}
		if !ok {
			complain("checkpoint %s is committed and not in the store", m.Path)
			continue
		}
		tr := workertest.NewToy()
		if err := tr.Restore(state); err != nil || m.Step > 0 && tr.Digest() != want.outcomes[m.Step-1].Parameters || state.Step != m.Step {
			complain("checkpoint %s: step %d, digest %s, %v; want those of step %d", m.Path, state.Step, tr.Digest(), err, m.Step)
		}
	}
	c.store.Mu.Unlock()
	wrong = append(wrong, c.tap.linearizable()...)
	return append(wrong, ledger(entries, run)...)
}

// ledger proves from the log alone that each shard of each committed step was counted once: every closing's cover is
// disjoint and whole, every commit follows a closing of its round, and the steps come in order. Commands are applied one
// by one, since an entry may hold a closing and its commit.
func ledger(entries [][]byte, final *fsm.Run) (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	whole := fsm.NewMachine()
	m := fsm.NewMachine()
	committed := int64(0)
	for place, b := range entries {
		keys := len(whole.State().Keys)
		chosen := whole.State().Now
		if err := whole.Apply(b); err != nil || keys == len(whole.State().Keys) && keys < 256 && whole.State().Now.Equal(chosen) {
			continue // rejected, or applied before
		}
		e, err := fsm.ParseEntry(b)
		if err != nil {
			complain("entry %d: %v", place, err)
			continue
		}
		for _, command := range e.Commands {
			before := m.State()
			one := fsm.Entry{Time: e.Time, Commands: []fsm.Command{command}}
			if err := m.Apply(one.Marshal()); err != nil {
				complain("entry %d: %T: %v", place, command, err)
				continue
			}
			if len(before.Runs) == 0 {
				continue
			}
			was, is := before.Runs[0], m.State().Runs[0]
			switch command.(type) {
			case *fsm.Close:
				if k := is.Round.Closing; !k.Complete { // a complete one follows one that was not
					for s, n := range counts(is.Round) {
						if n != 1 {
							complain("entry %d: closing %d of step %d counts shard %d %d times", place, k.Number, is.Round.Step, s, n)
						}
					}
				}
			case *fsm.Commit:
				round := was.Round
				if round == nil || round.Closing == nil || round.Closing.Withdrawn || round.Step != was.Cursor || is.Cursor != was.Cursor+1 {
					complain("entry %d: step %d was committed without a closing of its round", place, was.Cursor)
				}
				if n := is.Ledger.Len(); n == committed+1 && was.Cursor == committed {
					committed = n
				} else if n != committed || was.Cursor >= committed {
					complain("entry %d: the commit of step %d makes %d of %d committed steps", place, was.Cursor, n, committed)
				}
			}
		}
	}
	if committed != final.Ledger.Len() {
		complain("the log commits %d steps, the state has %d", committed, final.Ledger.Len())
	}
	return wrong
}

// counts says how often a closing names each shard.
func counts(r *fsm.Round) []int {
	count := make([]int, r.Shards)
	for _, c := range r.Closing.Cover {
		for _, x := range c.Shards {
			for s := max(x.Lo, 0); s < min(x.Hi, len(count)); s++ {
				count[s]++
			}
		}
	}
	return count
}

// expected is what the undisturbed run makes.
type expected struct {
	outcomes []trainer.Outcome
	scores   map[int64]float64
}

var (
	aloneLock sync.Mutex
	aloneRuns = map[string]*expected{}
)

// undisturbed computes a task without any fleet, once.
func undisturbed(t task) (*expected, error) {
	key := fmt.Sprint(t.steps, t.feed, t.erratic)
	aloneLock.Lock()
	defer aloneLock.Unlock()
	if e := aloneRuns[key]; e != nil {
		return e, nil
	}
	outcomes, scores, err := workertest.Alone(t.feed, t.steps, func(tr *workertest.Toy) { tr.Erratic, tr.Language = t.erratic, t.feed.Language })
	if err != nil {
		return nil, err
	}
	aloneRuns[key] = &expected{outcomes, scores}
	return aloneRuns[key], nil
}
