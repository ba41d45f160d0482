package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
)

// audited returns a simulation whose round in flight has all gradients reported, each with a digest.
func audited(t *testing.T, workers int, settings fsm.Settings) *sim {
	s := newSim(t, 8, settings)
	for range workers {
		s.join()
	}
	s.until(func(r *fsm.Run) bool {
		return r.Round != nil && r.Round.Kind == fsm.Train && len(s.state().Full("r")) == workers && r.Round.Closing == nil && len(leased(r)) == workers
	})
	s.queue = nil
	s.reportAll()
	return s
}

func leased(r *fsm.Run) map[string]bool {
	out := map[string]bool{}
	for _, l := range r.Round.Leases {
		out[l.Worker] = true
	}
	return out
}

func (s *sim) reportAll() {
	r := s.run().Round
	s.turn()
	for shard := range shards {
		lease, _ := r.Holder(shard)
		s.of().Accept(s.state(), s.run(), r.Number, 0, plan.Embed, shard, &plan.Report{Worker: lease.Worker, Epoch: lease.Epoch, Digest: fmt.Sprint("e", shard)})
		s.of().Accept(s.state(), s.run(), r.Number, r.Attempt, plan.Backward, shard, &plan.Report{Worker: lease.Worker, Epoch: lease.Epoch, Maxima: []float32{1}, Digest: fmt.Sprint("d", shard)})
	}
}

// answer lets those who are asked compute what they are asked for.
func (s *sim) answer(digest func(a plan.Audit) string) (asked int) {
	r := s.run()
	for _, a := range plan.Audits(s.state(), r, s.seen) {
		if lease, _ := r.Round.Holder(a.Shard); lease.Worker == a.Worker {
			s.t.Errorf("shard %d is to be audited by %s, in whose sum it is", a.Shard, a.Worker)
		}
		if !s.of().Check(s.state(), r, r.Round.Number, r.Round.Attempt, a.Shard, plan.Check{Worker: a.Worker, Digest: digest(a), Rows: s.embeds(a)}) {
			s.t.Errorf("the answer of %s about shard %d is refused", a.Worker, a.Shard)
		}
		asked++
	}
	return asked
}

// embeds is what an auditor finds the embeddings of a shard to be: those that were reported, unless a test says otherwise.
func (s *sim) embeds(a plan.Audit) string {
	if s.smudged == a.Shard+1 {
		return "other rows"
	}
	return fmt.Sprint("e", a.Shard)
}

func right(a plan.Audit) string { return fmt.Sprint("d", a.Shard) }

func TestClosingWaitsForAudits(t *testing.T) {
	s := audited(t, 3, fsm.Settings{Audit: 1})
	s.think()
	if s.run().Round.Closing != nil {
		t.Fatal("the step was closed before its audits")
	}
	if n := s.answer(right); n != shards {
		t.Errorf("%d shards are audited, want all %d", n, shards)
	}
	s.think()
	if s.run().Round.Closing == nil {
		t.Error("audited, the step is not closed")
	}
	if len(s.state().Quarantined) > 0 {
		t.Errorf("quarantined: %v", s.state().Quarantined)
	}
}

func TestAuditNamesTheOdd(t *testing.T) {
	for _, reporter := range []bool{true, false} { // who is wrong: the one in whose sum the shard is, or the one who checks it
		s := audited(t, 3, fsm.Settings{Audit: 1})
		r := s.run().Round
		lease, _ := r.Holder(2)
		var odd string
		s.answer(func(a plan.Audit) string {
			if a.Shard == 2 {
				if odd = a.Worker; reporter {
					odd = lease.Worker
				}
				return "other"
			}
			return right(a)
		})
		s.think()
		if s.run().Round.Number != r.Number || s.run().Round.Closing != nil {
			t.Fatal("the round went on with a doubt")
		}
		third := s.answer(func(a plan.Audit) string {
			if reporter {
				return "other"
			}
			return right(a)
		})
		if third != 1 {
			t.Errorf("%d further computations are asked for, want one by the third", third)
		}
		s.think()
		if s.state().Member(odd) != nil || len(s.state().Quarantined) != 1 {
			t.Errorf("members %v, quarantined %v; want %s sent away", s.state().Members, s.state().Quarantined, odd)
		}
		if now := s.run().Round; now == nil || now.Step != r.Step || now.Number != r.Number+1 {
			t.Errorf("round %+v, want a new one of step %d: its embeddings were the odd one's too", now, r.Step)
		}
	}
}

func TestAuditOfTwoPauses(t *testing.T) {
	s := audited(t, 2, fsm.Settings{Audit: 1})
	s.answer(func(a plan.Audit) string {
		if a.Shard == 5 {
			return "other"
		}
		return right(a)
	})
	s.think()
	if r := s.run(); r.State != fsm.Paused || !strings.Contains(r.Reason, "shard 5") || len(s.state().Full("r")) != 0 {
		t.Errorf("run is %s: %q, full members %v; want paused, naming the shard, and nobody trusted", r.State, r.Reason, s.state().Full("r"))
	}
}

func TestOneWorkerIsNotAudited(t *testing.T) {
	s := audited(t, 1, fsm.Settings{Audit: 1})
	s.think()
	if s.run().Round.Closing == nil {
		t.Error("a single worker waits for an auditor")
	}
}

// Embeddings that only their worker finds right send it away, though all agree about the gradient.
func TestAuditOfEmbeddings(t *testing.T) {
	s := audited(t, 3, fsm.Settings{Audit: 1})
	r := s.run().Round
	lease, _ := r.Holder(4)
	s.smudged = 5
	s.answer(right)
	s.think()
	if s.run().Round.Number != r.Number || s.run().Round.Closing != nil {
		t.Fatal("the round went on with a doubt")
	}
	if n := s.answer(right); n != 1 {
		t.Errorf("%d further computations are asked for, want one by the third", n)
	}
	s.think()
	if s.state().Member(lease.Worker) != nil || len(s.state().Quarantined) != 1 || s.run().Round.Number != r.Number+1 {
		t.Errorf("quarantined %v in round %d, want %s sent away and a new round", s.state().Quarantined, s.run().Round.Number, lease.Worker)
	}
}

// The share is met on average, and the same shards are chosen again.
func TestAuditedShare(t *testing.T) {
	r := &fsm.Run{ID: "r", Settings: fsm.Settings{Audit: 1.0 / 64}}
	n := 0
	for step := range int64(500) {
		r.Round = &fsm.Round{Kind: fsm.Train, Step: step, Shards: 64}
		chosen := plan.Audited(r)
		if !slices.Equal(chosen, plan.Audited(r)) {
			t.Fatal("another choice the second time")
		}
		n += len(chosen)
	}
	if n < 400 || n > 600 {
		t.Errorf("%d of 32,000 shards are audited, want about 500", n)
	}
	r.Settings.Audit = 0
	if plan.Audited(r) != nil {
		t.Error("shards are audited though none are to be")
	}
}

// A worker whose frozen weights changed is sent away, and what was committed since it was sound is taken back.
func TestSpoiledWeightsRewind(t *testing.T) {
	s := newSim(t, 9, fsm.Settings{CheckpointEvery: 3})
	for range 3 {
		s.join()
	}
	s.until(func(r *fsm.Run) bool {
		return r.Committed() == 8 && r.Manifest(6) != nil && r.Manifest(3) != nil && r.Round != nil
	})
	odd := s.state().Members[1].Worker
	s.seen.Workers[odd].Spoiled, s.seen.Workers[odd].Checked = "the frozen weights x changed", 5
	s.think()
	r := s.run()
	if s.state().Member(odd) != nil || len(s.state().Quarantined) != 1 {
		t.Errorf("quarantined %v, want %s", s.state().Quarantined, odd)
	}
	if r.Committed() != 3 || r.Cursor != 3 || r.Manifest(6) != nil || len(r.Rewinds) != 1 || r.Rewinds[0].To != 8 || !strings.Contains(r.Rewinds[0].Reason, odd) {
		t.Errorf("at step %d with %d committed, checkpoints %+v, rewinds %+v; want step 3, the newest checkpoint at which it was sound", r.Cursor, r.Committed(), r.Manifests, r.Rewinds)
	}
}

// One that loaded other weights than the others never takes part.
func TestOtherWeightsAreRefused(t *testing.T) {
	s := newSim(t, 10, fsm.Settings{})
	s.join()
	s.join()
	s.until(func(r *fsm.Run) bool { return r.Committed() == 2 && len(s.state().Full("r")) == 2 })
	for _, m := range s.state().Members {
		s.seen.Workers[m.Worker].Frozen = "same"
	}
	s.join()
	w := s.state().Members[2].Worker
	s.propose(&fsm.Assign{Worker: w, Run: "r"})
	v := s.seen.Workers[w]
	v.Run, v.Frozen, v.State, v.Parameters, v.Size = "r", "else", s.run().Cursor, s.run().Parameters(), 100
	commands, err := plan.Plan(s.state(), s.seen, s.now)
	if err != nil {
		t.Fatal(err)
	}
	found := slices.ContainsFunc(commands, func(c fsm.Command) bool {
		e, ok := c.(*fsm.Expire)
		return ok && e.Worker == w && e.Quarantine && strings.Contains(e.Reason, "it loaded other files")
	})
	if !found && s.run().Round != nil && s.run().Round.Closing == nil {
		t.Errorf("commands %+v, want the newcomer sent away", commands)
	}
}
