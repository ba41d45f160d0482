package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
)

// until lets the workers act until f holds.
func (s *sim) until(f func(r *fsm.Run) bool) {
	s.t.Helper()
	for i := 0; !f(s.run()); i++ {
		if i > 20_000 {
			s.t.Fatalf("waited in vain: %+v\nround %+v", s.run(), s.run().Round)
		}
		s.act(s.workers[i%len(s.workers)])
		s.deliver()
		s.now = s.now.Add(time.Millisecond)
		s.think()
	}
}

// When the last full member is lost, nothing is taken back at once: it may come back with its parameters.
func TestGraceAfterTheLastLoss(t *testing.T) {
	s := newSim(t, 1, fsm.Settings{})
	w := s.join()
	s.until(func(r *fsm.Run) bool { return r.Committed() == 3 && r.Round != nil })
	v := s.seen.Workers[w.id]
	v.Lost, v.LostReason = s.now.Add(-time.Second), "cut"
	commands, err := plan.Plan(s.state(), s.seen, s.now)
	if err != nil {
		t.Fatal(err)
	}
	s.propose(commands...)
	if r := s.run(); len(s.state().Full("r")) != 0 || r.Cursor != 3 {
		t.Errorf("at step %d with full members %v, want step 3 and none", r.Cursor, s.state().Full("r"))
	}
}

// A stop does not wait for an evaluation: it is given up, and made when the run goes on.
func TestStopGivesAnEvaluationUp(t *testing.T) {
	s := newSim(t, 2, settings)
	s.join()
	s.join()
	s.until(func(r *fsm.Run) bool { return r.Cursor == 5 && r.Round != nil && r.Round.Kind == fsm.Evaluate })
	s.propose(&fsm.SetState{Run: "r", State: fsm.Stopping, Reason: "interrupted"})
	s.think()
	if r := s.run(); r.Round != nil || r.Save == nil || r.Save.Step != 5 {
		t.Fatalf("round %+v, save %+v; want no round, and the checkpoint of step 5", r.Round, r.Save)
	}
	s.until(func(r *fsm.Run) bool { return r.State == fsm.Paused })
	if r := s.run(); r.Manifest(5) == nil {
		t.Errorf("paused with checkpoints %+v, want one of step 5", r.Manifests)
	}
	s.propose(&fsm.SetState{Run: "r", State: fsm.Running})
	s.finish(0)
	s.checkLedger()
	if r := s.state().Runs[0]; len(r.Evaluations) != 8 {
		t.Errorf("%d evaluations, want 8", len(r.Evaluations))
	}
}

// An embedding of an evaluation that is not finite ends the run, naming the suite, the shard and the rows.
func TestNonFiniteEvaluationFails(t *testing.T) {
	s := newSim(t, 3, settings)
	w := s.join()
	s.until(func(r *fsm.Run) bool { return r.Round != nil && r.Round.Kind == fsm.Evaluate })
	lease, _ := s.run().Round.Holder(3)
	s.of().Accept(s.state(), s.run(), s.run().Round.Number, 0, plan.Embed, 3, &plan.Report{Worker: w.id, Epoch: lease.Epoch, NonFinite: true, Rows: "row 7"})
	s.think()
	if r := s.run(); r.State != fsm.Failed || !strings.Contains(r.Reason, "evaluation of dev after 0 steps: shard 3 of 7 (row 7)") {
		t.Errorf("run is %s: %q, want failed, naming the suite, the shard and the rows", r.State, r.Reason)
	}
}

// A worker that finds the loss not finite when it has reported its shards already is heard.
func TestNonFiniteAfterAReport(t *testing.T) {
	s := newSim(t, 4, fsm.Settings{})
	w := s.join()
	s.until(func(r *fsm.Run) bool { return r.Round != nil && r.Round.Kind == fsm.Train })
	lease, _ := s.run().Round.Holder(0)
	for _, bad := range []bool{false, true} {
		rep := &plan.Report{Worker: w.id, Epoch: lease.Epoch, NonFinite: bad}
		if !s.of().Accept(s.state(), s.run(), s.run().Round.Number, 0, plan.Backward, 0, rep) {
			t.Errorf("report, not finite: %v, is refused", bad)
		}
	}
	s.think()
	if r := s.run(); r.State != fsm.Failed {
		t.Errorf("run is %s, want failed", r.State)
	}
}

// With mixed numerics a shard that is computed again after a closing broke may exceed a bound that it did not exceed
// before. The attempt stays.
func TestOverflowAfterABrokenClosing(t *testing.T) {
	s := newSim(t, 5, fsm.Settings{})
	s.join()
	s.join()
	s.until(func(r *fsm.Run) bool {
		return len(s.state().Full("r")) == 2 && r.Round != nil && r.Round.Closing != nil
	})
	round := s.run().Round.Number
	lost := s.run().Round.Closing.Cover[0].Worker
	s.propose(&fsm.Expire{Worker: lost, Reason: "test"})
	s.think()
	r := s.run()
	if r.Round.Number != round || !r.Round.Closing.Withdrawn {
		t.Fatalf("round %+v, want round %d with a closing withdrawn", r.Round, round)
	}
	for shard := range shards {
		lease, _ := r.Round.Holder(shard)
		s.of().Accept(s.state(), s.run(), round, r.Round.Attempt, plan.Backward, shard, &plan.Report{Worker: lease.Worker, Epoch: lease.Epoch, Maxima: []float32{9, 9}, Overflow: true})
	}
	s.think()
	if k := s.run().Round.Closing; k.Withdrawn || k.Number != 2 {
		t.Errorf("closing %+v, want number 2", k)
	}
}
