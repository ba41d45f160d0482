package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
)

// has lists the members that work on a run.
func (s *sim) has(run string) (out []string) {
	if r := s.state().Run(run); r == nil || !r.State.Working() {
		return nil
	}
	for _, m := range s.state().Of(run) {
		out = append(out, m.Worker)
	}
	return out
}

// while lets the workers act until f holds.
func (s *sim) while(what string, f func() bool) {
	s.t.Helper()
	for i := 0; !f(); i++ {
		if i > 20_000 {
			for _, r := range s.state().Runs {
				s.t.Logf("%s is %s at step %d, members %v, round %+v, save %+v", r.ID, r.State, r.Cursor, s.has(r.ID), r.Round, r.Save)
			}
			s.t.Fatalf("waited in vain until %s", what)
		}
		s.act(s.workers[i%len(s.workers)])
		s.deliver()
		s.now = s.now.Add(time.Millisecond)
		s.think()
	}
}

// One run takes all that match; the next ones wait, in the order of their submission.
func TestRunsQueue(t *testing.T) {
	s := newSim(t, 1, fsm.Settings{})
	s.submit("second", 0, fsm.Settings{})
	s.submit("third", 0, fsm.Settings{})
	s.join()
	s.join()
	s.while("r has both", func() bool { return len(s.has("r")) == 2 })
	if why := plan.Queued(s.state(), s.seen, s.state().Run("second")); !strings.Contains(why, "r has 2") {
		t.Errorf("Queued(second) = %q, want who has the workers", why)
	}
	var order []string
	s.while("all runs are over", func() bool {
		for _, r := range s.state().Runs {
			if r.State == fsm.Finished && !slices.Contains(order, r.ID) {
				order = append(order, r.ID)
			}
			if r.State == fsm.Running && len(order) == 0 && r.ID != "r" && len(s.has(r.ID)) > 0 {
				t.Fatalf("run %s has %v while r works", r.ID, s.has(r.ID))
			}
		}
		return len(s.open()) == 0
	})
	if want := []string{"r", "second", "third"}; !slices.Equal(order, want) {
		t.Errorf("runs ended in the order %v, want %v", order, want)
	}
	s.checkLedger()
}

// Labels, the least and the most that a run asks for decide who works on it.
func TestWorkersThatFit(t *testing.T) {
	for name, c := range map[string]struct {
		settings []fsm.Settings // of the runs r0, r1, ...
		labels   [][]string     // of the workers, in the order that they join
		want     string         // run -> workers
	}{
		"all that match": {
			[]fsm.Settings{{Labels: []string{"gpu=h200"}}, {}},
			[][]string{{"gpu=h200"}, nil, {"gpu=h200", "rack=1"}},
			"r0: w1 w3; r1: w2",
		},
		"every label":     {[]fsm.Settings{{Labels: []string{"gpu=h200", "rack=1"}}}, [][]string{{"gpu=h200"}, {"gpu=h200", "rack=1"}}, "r0: w2"},
		"none matches":    {[]fsm.Settings{{Labels: []string{"gpu=b200"}}, {}}, [][]string{nil, {"gpu=h200"}}, "r0: ; r1: w1 w2"},
		"the most":        {[]fsm.Settings{{WorkersMax: 2}, {WorkersMax: 2}}, [][]string{nil, nil, nil}, "r0: w1 w2; r1: w3"},
		"the least":       {[]fsm.Settings{{WorkersMin: 3}, {}}, [][]string{nil, nil}, "r0: ; r1: w1 w2"},
		"the least, had":  {[]fsm.Settings{{WorkersMin: 2, WorkersMax: 2}, {}}, [][]string{nil, nil, nil}, "r0: w1 w2; r1: w3"},
		"more than there": {[]fsm.Settings{{WorkersMin: 3, WorkersMax: 9}}, [][]string{nil, nil, nil}, "r0: w1 w2 w3"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, 1, c.settings[0])
			for i, settings := range c.settings[1:] {
				s.submit(fmt.Sprint("r", i+1), 0, settings)
			}
			for _, l := range c.labels { // all at once, before the plan looks
				s.names++
				id := fmt.Sprint("w", s.names)
				s.seen.Workers[id] = &plan.Worker{Heard: s.now, State: -1}
				s.propose(&fsm.Join{Worker: id, Name: id, Numerics: "k", Labels: l})
			}
			s.think()
			var got []string
			for i := range c.settings {
				id := fmt.Sprint("r", i)
				if i == 0 {
					id = "r"
				}
				got = append(got, fmt.Sprintf("r%d: %s", i, strings.Join(s.has(id), " ")))
			}
			if got := strings.Join(got, "; "); got != c.want {
				t.Errorf("workers %q, want %q", got, c.want)
			}
		})
	}
}

// A higher priority takes workers at the end of a round, the sums of which are not lost; what the other run has
// reached is in a checkpoint when its last worker goes, and it goes on there.
func TestPriorityTakesWorkers(t *testing.T) {
	s := newSim(t, 2, fsm.Settings{})
	s.join()
	s.join()
	s.while("r is under way", func() bool { return s.run().Committed() == 3 && s.run().Round != nil && len(s.has("r")) == 2 })
	round := s.run().Round.Number
	s.submit("urgent", 5, fsm.Settings{})
	s.while("urgent has both", func() bool {
		if r := s.run(); r.Round != nil && r.Round.Number > round {
			t.Fatalf("r opened round %d although its workers are wanted", r.Round.Number)
		}
		return len(s.has("urgent")) == 2
	})
	r := s.run()
	if r.Committed() != 4 || r.Manifest(4) == nil || r.Cursor != 4 {
		t.Errorf("r gave its workers at step %d with %d committed and checkpoints %+v; want 4 and one of step 4", r.Cursor, r.Committed(), r.Manifests)
	}
	s.while("urgent is over", func() bool { return s.state().Run("urgent").State.Over() })
	s.finish(0)
	s.checkLedger()
	if r := s.state().Run("r"); r.Rounds != steps+2 { // two attempts are one round: steps 4 and 9 overflow within theirs
		t.Logf("r needed %d rounds", r.Rounds)
	}
}

// A run that asks for one worker of a higher priority leaves the others where they are, and the round goes on.
func TestPriorityTakesNoMoreThanItAsksFor(t *testing.T) {
	s := newSim(t, 3, fsm.Settings{})
	for range 3 {
		s.join()
	}
	s.while("r has three", func() bool { return len(s.state().Full("r")) == 3 })
	s.submit("small", 1, fsm.Settings{WorkersMax: 1})
	s.while("small has one", func() bool { return len(s.has("small")) == 1 })
	if got := s.has("small"); got[0] != s.workers[2].id {
		t.Errorf("small has %v, want %s: the last to join goes first", got, s.workers[2].id)
	}
	if len(s.run().Manifests) != 0 {
		t.Errorf("r wrote checkpoints %+v although others hold its parameters", s.run().Manifests)
	}
	s.finish(0)
	s.checkLedger()
}

// Equal priorities take nothing from each other, whoever was first.
func TestEqualPriorityTakesNothing(t *testing.T) {
	s := newSim(t, 4, fsm.Settings{})
	s.join()
	s.while("r is under way", func() bool { return s.run().Committed() == 2 })
	s.propose(&fsm.SetState{Run: "r", State: fsm.Stopping, Reason: "asked"})
	s.while("r is paused", func() bool { return s.run().State == fsm.Paused })
	at := s.run().Cursor
	if s.run().Manifest(at) == nil {
		t.Errorf("r is paused at step %d with checkpoints %+v", at, s.run().Manifests)
	}
	s.submit("second", 0, fsm.Settings{})
	s.while("second has the worker", func() bool { return len(s.has("second")) == 1 })
	s.propose(&fsm.SetState{Run: "r", State: fsm.Running})
	s.while("second is over", func() bool {
		if len(s.has("r")) > 0 && !s.state().Run("second").State.Over() {
			t.Fatal("r took the worker of a run of its own priority")
		}
		return s.state().Run("second").State.Over()
	})
	s.finish(0)
	s.checkLedger()
	if r := s.state().Run("r"); r.Rounds != steps {
		t.Errorf("r needed %d rounds for %d steps: the checkpoint of step %d should have cost none", r.Rounds, steps, at)
	}
}

// Less than it asks for is not enough: a run waits, keeps nobody from others, and goes on when they are back.
func TestFewerThanTheLeast(t *testing.T) {
	s := newSim(t, 5, fsm.Settings{WorkersMin: 2})
	a := s.join()
	for range 50 {
		s.act(a)
		s.deliver()
		s.think()
	}
	if r := s.run(); r.Round != nil || r.Committed() > 0 {
		t.Fatalf("r works with one of two workers: round %+v", r.Round)
	}
	s.submit("other", 0, fsm.Settings{})
	s.while("other has it", func() bool { return len(s.has("other")) == 1 })
	s.join()
	s.while("other is over", func() bool { return s.state().Run("other").State.Over() })
	s.while("r has two", func() bool { return len(s.state().Full("r")) == 2 })
	s.finish(0)
	s.checkLedger()
}

// A setting that changed on the way takes workers away that no longer fit, and those beyond the most.
func TestWorkersThatNoLongerFit(t *testing.T) {
	s := newSim(t, 6, fsm.Settings{})
	s.join("gpu=h200")
	s.join()
	s.join("gpu=h200")
	s.while("r has three", func() bool { return len(s.state().Full("r")) == 3 })
	s.propose(&fsm.Configure{Run: "r", Settings: fsm.Settings{Labels: []string{"gpu=h200"}}})
	s.while("the second is free", func() bool { return len(s.has("r")) == 2 })
	if m := s.state().Member(s.workers[1].id); m.Run != "" {
		t.Errorf("worker without the label is %+v, want idle", m)
	}
	s.propose(&fsm.Configure{Run: "r", Settings: fsm.Settings{WorkersMax: 1}})
	s.while("one is left", func() bool { return len(s.has("r")) == 1 })
	s.finish(0)
	s.checkLedger()
}

// Whatever the schedule: faults, priorities that change, pauses; every run ends, each of its steps committed once with
// every shard counted once, and no run waits while one of lower priority has a worker that it could use.
func TestRandomSchedulesOfRuns(t *testing.T) {
	seeds := uint64(30)
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		s := newSim(t, 1000+seed, settings)
		rng := s.rng
		for i := range 2 + rng.IntN(2) {
			s.submit(fmt.Sprint("s", i), rng.IntN(3)-1, fsm.Settings{
				CheckpointEvery: int64(rng.IntN(5)), WorkersMin: rng.IntN(3), WorkersMax: []int{0, 0, 2}[rng.IntN(3)], Labels: [][]string{nil, {"any"}}[rng.IntN(2)],
			})
		}
		for range 3 {
			s.join("any")
		}
		starved := map[string]int{}
		s.each = func(i int) {
			if i < 40_000 && rng.IntN(400) == 0 {
				s.meddle()
			}
			if i > 50_000 { // everybody may go on
				for _, r := range s.open() {
					if r.State == fsm.Paused {
						s.propose(&fsm.SetState{Run: r.ID, State: fsm.Running})
					}
				}
				s.staff()
			}
			s.starves(starved)
		}
		actions := s.finish([]int{30, 120, 0}[seed%3])
		for s.each = nil; len(s.open()) > 0; s.finish(0) {
			for _, r := range s.open() {
				if r.State == fsm.Paused { // it was paused when the others ended
					s.propose(&fsm.SetState{Run: r.ID, State: fsm.Running})
				}
			}
			s.staff()
		}
		s.checkLedger()
		if t.Failed() {
			t.Fatalf("seed %d, %d actions; replay: go test -run TestRandomSchedulesOfRuns ./coordinator/plan", seed, actions)
		}
	}
}

// staff sees to three workers that work.
func (s *sim) staff() {
	s.workers = slices.DeleteFunc(s.workers, func(w *worker) bool { return !w.alive || w.hung })
	for len(s.workers) < 3 {
		s.join("any")
	}
}

// meddle does what a user may do.
func (s *sim) meddle() {
	open := s.open()
	if len(open) == 0 {
		return
	}
	r := open[s.rng.IntN(len(open))]
	switch {
	case s.rng.IntN(2) == 0:
		s.propose(&fsm.Prioritize{Run: r.ID, Priority: s.rng.IntN(4)})
	case r.State == fsm.Running:
		s.propose(&fsm.SetState{Run: r.ID, State: fsm.Stopping, Reason: "asked"})
	case r.State == fsm.Paused:
		s.propose(&fsm.SetState{Run: r.ID, State: fsm.Running})
	}
}

// starves fails when a run had nobody for long although it could have had the workers of one of lower priority.
func (s *sim) starves(since map[string]int) {
	for _, r := range s.open() {
		usable := 0
		for i := range s.state().Members {
			m := &s.state().Members[i]
			h := s.state().Run(m.Run)
			w := s.byID(m.Worker)
			if w == nil || !w.alive || w.hung || len(r.Settings.Labels) > 0 && !slices.Contains(m.Labels, r.Settings.Labels[0]) {
				continue
			}
			if s.state().Idle(m) || h.Priority < r.Priority {
				usable++
			}
		}
		if r.State != fsm.Running || len(s.has(r.ID)) > 0 || usable < max(1, r.Settings.WorkersMin) {
			since[r.ID] = 0
			continue
		}
		if since[r.ID]++; since[r.ID] > 4000 {
			s.t.Fatalf("run %s (priority %d) waits although %d workers could be its: %+v", r.ID, r.Priority, usable, s.state().Members)
		}
	}
}

func TestSuits(t *testing.T) {
	for _, c := range []struct {
		numerics, kernels string
		want              bool
	}{
		{"cpu/1/avx512", "", true},
		{"cpu/1/avx512", "avx512", true},
		{"cpu/1/avx512", "avx2", false},
		{"cpu/1/avx2", "avx512", false},
		{"cuda/1/h200", "avx2", true},
	} {
		if got := plan.Suits(c.numerics, c.kernels); got != c.want {
			t.Errorf("Suits(%q, %q) = %v, want %v", c.numerics, c.kernels, got, c.want)
		}
	}
}
