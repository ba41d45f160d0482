package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
)

var settings = fsm.Settings{CheckpointEvery: 4, Keep: 2, Best: "ndcg@10", EvaluateEvery: 5, EvaluateStart: true, Suites: []string{"dev", "test"}}

// The last checkpoint too makes an older one go: what is kept is checkpoint.keep, not one more.
func TestKeepAtTheEnd(t *testing.T) {
	s := newSim(t, 1, fsm.Settings{CheckpointEvery: 2, Keep: 2})
	s.join()
	s.finish(0)
	if r := s.state().Runs[0]; r.State != fsm.Finished || len(r.Manifests) != 2 || r.Manifest(steps) == nil {
		t.Errorf("run is %s with checkpoints %+v, want finished with 2, the newest of step %d", r.State, r.Manifests, steps)
	}
}

func TestUndisturbed(t *testing.T) {
	for n := 1; n <= 5; n++ {
		s := newSim(t, uint64(n), settings)
		for range n {
			s.join()
		}
		s.finish(0)
		s.checkLedger()
		r := s.state().Runs[0]
		if got := len(r.Evaluations); got != 2*4 { // steps 0, 5, 10 and the end
			t.Errorf("%d workers: %d evaluations, want 8", n, got)
		}
		if r.Manifest(steps) == nil {
			t.Errorf("%d workers: no checkpoint of the last step: %+v", n, r.Manifests)
		}
		if got := len(r.Manifests); got > settings.Keep+1 {
			t.Errorf("%d workers: %d checkpoints kept, want at most %d", n, got, settings.Keep+1)
		}
	}
}

// Whatever the schedule, every step is committed once and counts every shard once.
func TestRandomSchedules(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		s := newSim(t, seed, settings)
		for range 3 {
			s.join()
		}
		actions := s.finish([]int{15, 40, 120}[seed%3])
		s.checkLedger()
		if t.Failed() {
			t.Fatalf("seed %d, %d actions", seed, actions)
		}
	}
}

// The last worker to drain leaves a checkpoint of the step it was at, so that the next one repeats nothing.
func TestLastWorkerLeavesACheckpoint(t *testing.T) {
	s := newSim(t, 1, fsm.Settings{})
	w := s.join()
	for i := 0; s.run().Cursor < 5 && i < 10_000; i++ {
		s.act(w)
		s.deliver()
		s.think()
	}
	s.seen.Workers[w.id].Leaving = "drained"
	for i := 0; s.state().Member(w.id) != nil && i < 1_000; i++ {
		s.act(w)
		s.deliver()
		s.think()
	}
	r := s.run()
	if s.state().Member(w.id) != nil || r.Cursor > 6 || r.Manifest(r.Cursor) == nil {
		t.Fatalf("at step %d, member %v, checkpoints %+v: want the worker gone within a step, and a checkpoint there", r.Cursor, s.state().Member(w.id), r.Manifests)
	}
	w.alive = false
	s.finish(0)
	s.checkLedger()
}

func TestOddOneOutIsQuarantined(t *testing.T) {
	s := newSim(t, 1, fsm.Settings{})
	for range 3 {
		s.join()
	}
	bad := s.workers[1]
	bad.wrong = true
	for s.run() != nil && s.run().Committed() < 2 {
		for _, w := range s.workers {
			if s.state().Member(w.id) != nil {
				s.act(w)
			}
		}
		s.deliver()
		s.think()
	}
	if got := s.state().Quarantined; len(got) != 1 || got[0] != bad.id {
		t.Errorf("quarantined %v, want %s", got, bad.id)
	}
}

func TestTwoDisagree(t *testing.T) {
	s := newSim(t, 1, fsm.Settings{})
	s.join()
	s.join().wrong = true
	// Without both from the start one of them may commit alone, rightly.
	for i := 0; len(s.state().Full("r")) < 2 && i < 100; i++ {
		for _, w := range s.workers {
			w.state, w.params = 0, "initial r"
			s.seen.Workers[w.id] = &plan.Worker{Heard: s.now, Run: "r", Parameters: "initial r", Size: 100}
		}
		s.think()
	}
	for i := 0; s.run().State == fsm.Running && i < 10_000; i++ {
		s.act(s.workers[i%2])
		s.deliver()
		s.think()
	}
	r := s.run()
	if r.State != fsm.Paused || !strings.Contains(r.Reason, "disagree") || r.Committed() != 0 {
		t.Fatalf("run is %s (%s) after %d steps, want paused: workers disagree, 0 steps", r.State, r.Reason, r.Committed())
	}
	s.workers[1].wrong = false
	s.propose(&fsm.SetState{Run: "r", State: fsm.Running})
	s.finish(0)
	s.checkLedger()
}

func TestNonFiniteFails(t *testing.T) {
	s := newSim(t, 1, fsm.Settings{})
	s.join()
	for i := 0; s.run().Round == nil && i < 100; i++ {
		s.act(s.workers[0])
		s.think()
	}
	lease, _ := s.run().Round.Holder(3)
	s.of().Accept(s.state(), s.run(), s.run().Round.Number, 0, plan.Backward, 3, &plan.Report{Worker: s.workers[0].id, Epoch: lease.Epoch, NonFinite: true, Rows: "source 0, rows 5 and 9"})
	s.think()
	r := s.run()
	if r.State != fsm.Failed || !strings.Contains(r.Reason, "step 1: shard 3 of 7 (source 0, rows 5 and 9)") {
		t.Errorf("run is %s: %q, want failed, naming step 1, shard 3 and the rows", r.State, r.Reason)
	}
}

func TestTotalLossSkipsADamagedCheckpoint(t *testing.T) {
	s := newSim(t, 3, fsm.Settings{CheckpointEvery: 2, Keep: 3})
	s.join()
	for i := 0; s.run().Committed() < 7 && i < 100_000; i++ {
		s.act(s.workers[0])
		s.deliver()
		s.now = s.now.Add(time.Millisecond)
		s.think()
	}
	newest := plan.Candidate(s.run())
	if newest == nil || newest.Step < 4 {
		t.Fatalf("newest checkpoint %+v, want one of step 4 or 6", newest)
	}
	step := newest.Step
	s.workers = nil
	s.queue = nil
	s.lead(s.seen.Timers, true)
	s.of().Verified[newest.Path] = "model.safetensors: checksum differs"
	s.act(s.join()) // nobody holds anything newer
	s.think()
	r := s.run()
	if r.Manifest(step) != nil || r.Cursor != step-2 || r.Resume.Step != step-2 {
		t.Fatalf("at step %d, resume %+v, checkpoint of step %d still there: %v; want step %d", r.Cursor, r.Resume, step, r.Manifest(step) != nil, step-2)
	}
	s.finish(0)
	s.checkLedger()
}

func TestSpeedDecidesLeases(t *testing.T) {
	s := newSim(t, 1, fsm.Settings{})
	a, b := s.join(), s.join()
	for _, w := range s.workers {
		w.state, w.params = 0, "initial r"
	}
	s.seen.Workers[a.id] = &plan.Worker{Heard: s.now, Run: "r", Parameters: "initial r", Size: 100, Speed: 300}
	s.seen.Workers[b.id] = &plan.Worker{Heard: s.now, Run: "r", Parameters: "initial r", Size: 100, Speed: 100}
	s.think()
	tokens := map[string]int32{}
	for _, l := range s.run().Round.Leases {
		for shard := l.Lo; shard < l.Hi; shard++ {
			tokens[l.Worker] += []int32{9, 9, 8, 7, 7, 5, 3}[shard]
		}
	}
	if tokens[a.id] < 30 || tokens[b.id] < 8 {
		t.Errorf("tokens leased %v, want about three quarters of 48 for %s", tokens, a.id)
	}
}

func TestStragglerLosesItsShards(t *testing.T) {
	s := newSim(t, 1, fsm.Settings{})
	a, b := s.join(), s.join()
	for _, w := range s.workers {
		w.state, w.params = 0, "initial r"
		s.seen.Workers[w.id] = &plan.Worker{Heard: s.now, Run: "r", Parameters: "initial r", Size: 100, Speed: 1000}
	}
	s.think()
	for range 3 * shards { // a embeds all of its shards, b beats and computes nothing
		s.act(a)
		s.deliver()
		s.think()
	}
	held := func(id string) (n int) {
		for _, l := range s.run().Round.Leases {
			if l.Worker == id {
				n += l.Hi - l.Lo
			}
		}
		return n
	}
	if held(b.id) == 0 {
		t.Fatal("b holds no shards to begin with")
	}
	for range 40 {
		s.now = s.now.Add(50 * time.Millisecond)
		s.seen.Workers[a.id].Heard, s.seen.Workers[b.id].Heard = s.now, s.now
		s.think()
	}
	if got := held(b.id); got != 0 {
		t.Errorf("after 2s without a report b still holds %d shards", got)
	}
}

// The first step opens when the first worker is ready; the others, moments later, take their part of it.
func TestNewcomerSharesTheRound(t *testing.T) {
	s := newSim(t, 1, fsm.Settings{})
	a, b := s.join(), s.join()
	for i, w := range s.workers {
		w.state, w.params = 0, "initial r"
		s.seen.Workers[w.id] = &plan.Worker{Heard: s.now, Run: "r", Parameters: "initial r", Size: 100}
		s.think()
		held := map[string]int{}
		for _, l := range s.run().Round.Leases {
			held[l.Worker] += l.Hi - l.Lo
		}
		if i == 1 && (held[a.id] < 3 || held[b.id] < 3) {
			t.Errorf("shards held: %v, want about half of %d each", held, shards)
		}
	}
}

func TestFailedSaveIsTriedAgain(t *testing.T) {
	s := newSim(t, 5, fsm.Settings{CheckpointEvery: 3})
	w := s.join()
	failed := false
	for i := 0; s.run() != nil && i < 200_000; i++ {
		if r := s.run(); r.Save != nil && r.Save.Step == 3 {
			s.of().Saved = &plan.Saved{Step: 3, Worker: w.id, Err: "no space left on device"}
			failed = true
		} else {
			s.act(w)
		}
		s.deliver()
		s.now = s.now.Add(time.Millisecond)
		s.think()
	}
	r := s.state().Runs[0]
	if !failed || r.Manifest(3) != nil || r.Manifest(6) == nil {
		t.Errorf("failed %v, checkpoints %+v; want none of step 3 and one of step 6", failed, r.Manifests)
	}
	s.checkLedger()
}

// A checkpoint that was lost is asked for again after a pause, without waiting for the next multiple of checkpoint.every.
func TestStoreComesBack(t *testing.T) {
	s := newSim(t, 5, fsm.Settings{CheckpointEvery: 3})
	w := s.join()
	waited := false
	for i := 0; s.run() != nil && i < 200_000; i++ {
		r := s.run()
		if r.Save != nil && r.Save.Step == 3 {
			s.of().Saved = &plan.Saved{Step: 3, Worker: w.id, Err: "connection refused"}
		} else {
			s.act(w)
		}
		if r.SaveLosses == 1 && r.Cursor == 4 && !waited {
			waited = true
			for range 300 { // a slow step
				s.now = s.now.Add(10 * time.Millisecond)
				s.seen.Workers[w.id].Heard = s.now
				s.think()
			}
		}
		s.deliver()
		s.now = s.now.Add(time.Millisecond)
		s.think()
	}
	r := s.state().Runs[0]
	if !waited || r.Manifest(4) == nil && r.Manifest(5) == nil {
		t.Errorf("waited %v, checkpoints %+v; want one of step 4 or 5, soon after that of step 3 was lost", waited, r.Manifests)
	}
	s.checkLedger()
}

func TestTimersNest(t *testing.T) {
	for _, d := range []time.Duration{plan.MinFailureTimeout, 250 * time.Millisecond, time.Second, 30 * time.Second, plan.MaxFailureTimeout} {
		if _, err := plan.NewTimers(d); err != nil {
			t.Error(err)
		}
	}
	for _, d := range []time.Duration{0, -1, 50 * time.Millisecond, time.Hour} {
		if _, err := plan.NewTimers(d); err == nil {
			t.Errorf("NewTimers(%v) is accepted", d)
		}
	}
}
