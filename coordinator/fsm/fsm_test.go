package fsm_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// log applies entries of one command each and keeps their bytes.
type log struct {
	t       testing.TB
	machine *fsm.Machine
	bytes   [][]byte
}

func newLog(t testing.TB) *log { return &log{t: t, machine: fsm.NewMachine()} }

func (l *log) apply(commands ...fsm.Command) error {
	n := uint64(len(l.bytes))
	b := fsm.NewEntry(1, n, epoch.Add(time.Duration(n)*time.Second), commands).Marshal()
	l.bytes = append(l.bytes, b)
	err := l.machine.Apply(b)
	if check := l.machine.State().Check(); check != nil {
		l.t.Fatalf("after %T: %v", commands[0], check)
	}
	return err
}

func (l *log) must(commands ...fsm.Command) {
	l.t.Helper()
	if err := l.apply(commands...); err != nil {
		l.t.Fatal(err)
	}
}

func (l *log) run() *fsm.Run { return l.machine.State().Runs[len(l.machine.State().Runs)-1] }

// started returns a log with a run, two full members a and b, and round 1 in flight: 6 shards, 3 each.
func started(t testing.TB) *log {
	l := newLog(t)
	l.must(&fsm.Submit{ID: "r", Steps: 4, Settings: fsm.Settings{Suites: []string{"dev"}, Best: "ndcg@10"}})
	l.must(&fsm.Join{Worker: "a", Name: "a"}, &fsm.Join{Worker: "b", Name: "b"}, &fsm.Assign{Worker: "a", Run: "r"}, &fsm.Assign{Worker: "b", Run: "r"})
	l.must(&fsm.Promote{Worker: "a"}, &fsm.Promote{Worker: "b"})
	l.must(&fsm.Fix{Run: "r", Numerics: "k1", Parameters: "p0", Size: 10})
	l.must(open(1, 0))
	return l
}

func open(number, step int64) *fsm.Open {
	return &fsm.Open{Run: "r", Number: number, Kind: fsm.Train, Step: step, Shards: 6, Leases: []fsm.Lease{{Lo: 0, Hi: 3, Worker: "a"}, {Lo: 3, Hi: 6, Worker: "b"}}}
}

func closing(round int64, number int32) *fsm.Close {
	return &fsm.Close{Run: "r", Round: round, Closing: fsm.Closing{
		Number: number, Cover: []fsm.Cover{{Worker: "a", Shards: []fsm.Range{{Lo: 0, Hi: 6}}}},
		Owners: []fsm.Owner{{Worker: "a", Lo: 0, Hi: 10}}, Maxima: []float32{1}, Tokens: 60,
	}}
}

func commit(round, step int64, digest string) *fsm.Commit {
	return &fsm.Commit{Run: "r", Round: round, Step: step, Gradient: "g" + digest, Parameters: "p" + digest, Loss: 1}
}

func TestStepIsCommittedOnce(t *testing.T) {
	l := started(t)
	l.must(closing(1, 1))
	l.must(commit(1, 0, "1"))
	if err := l.apply(commit(1, 0, "1")); !errors.Is(err, fsm.ErrRejected) {
		t.Errorf("the same commit again = %v, want ErrRejected", err)
	}
	if got := l.run().Committed(); got != 1 {
		t.Errorf("committed %d steps, want 1", got)
	}
	if got := l.run().Parameters(); got != "p1" {
		t.Errorf("parameters %s, want p1", got)
	}
}

func TestIdempotencyKey(t *testing.T) {
	l := started(t)
	before := l.machine.State()
	if err := l.machine.Apply(l.bytes[len(l.bytes)-1]); err != nil {
		t.Fatalf("an entry that comes twice = %v, want nil", err)
	}
	if d := cmp.Diff(before.Runs, l.machine.State().Runs); d != "" {
		t.Errorf("an entry that came twice changed the runs:\n%s", d)
	}
}

func TestRejections(t *testing.T) {
	double := closing(1, 1)
	double.Closing.Cover = append(double.Closing.Cover, fsm.Cover{Worker: "b", Shards: []fsm.Range{{Lo: 5, Hi: 6}}})
	partial := closing(1, 1)
	partial.Closing.Cover[0].Shards[0].Hi = 5
	short := closing(1, 1)
	short.Closing.Owners[0].Hi = 9
	gap := open(2, 0)
	gap.Leases[1].Lo = 4
	for name, c := range map[string]fsm.Command{
		"the same run":             &fsm.Submit{ID: "r", Steps: 1},
		"assigned twice":           &fsm.Assign{Worker: "a", Run: "r"},
		"assign to nothing":        &fsm.Assign{Worker: "a", Run: "x"},
		"priority of nothing":      &fsm.Prioritize{Run: "x", Priority: 1},
		"verify elsewhere":         &fsm.Verify{Entries: 99},
		"join twice":               &fsm.Join{Worker: "a"},
		"unknown member":           &fsm.Expire{Worker: "x"},
		"open in flight":           open(2, 0),
		"lease gap":                gap,
		"lease to a stranger":      &fsm.Grant{Run: "r", Round: 1, Leases: []fsm.Lease{{Lo: 0, Hi: 1, Worker: "x"}}},
		"lease beyond":             &fsm.Grant{Run: "r", Round: 1, Leases: []fsm.Lease{{Lo: 0, Hi: 7, Worker: "a"}}},
		"old round":                &fsm.Grant{Run: "r", Round: 0, Leases: []fsm.Lease{{Lo: 0, Hi: 1, Worker: "a"}}},
		"commit without a closing": commit(1, 0, "1"),
		"closing, shard twice":     double,
		"closing, shard missing":   partial,
		"closing, parameters":      short,
		"closing number":           closing(1, 2),
		"attempt":                  &fsm.Retry{Run: "r", Round: 1, Attempt: 2},
		"finished to running":      &fsm.SetState{Run: "q", State: fsm.Running},
		"save mid-round":           &fsm.SaveAt{Run: "r", Step: 0, Worker: "a"},
		"restart":                  &fsm.Restart{Run: "r", Step: 3, Path: "/x"},
	} {
		t.Run(name, func(t *testing.T) {
			l := started(t)
			before := l.machine.State().Runs
			if err := l.apply(c); !errors.Is(err, fsm.ErrRejected) {
				t.Errorf("apply = %v, want ErrRejected", err)
			}
			if d := cmp.Diff(before, l.machine.State().Runs); d != "" {
				t.Errorf("a rejected command changed the runs:\n%s", d)
			}
		})
	}
}

func TestEntryIsAtomic(t *testing.T) {
	l := started(t)
	if err := l.apply(&fsm.Expire{Worker: "b"}, &fsm.Expire{Worker: "x"}); !errors.Is(err, fsm.ErrRejected) {
		t.Fatalf("apply = %v, want ErrRejected", err)
	}
	if l.machine.State().Member("b") == nil {
		t.Error("half of a rejected entry was applied")
	}
}

func TestGrantWithdrawsTheClosing(t *testing.T) {
	l := started(t)
	l.must(closing(1, 1))
	l.must(&fsm.Expire{Worker: "b"}, &fsm.Grant{Run: "r", Round: 1, Leases: []fsm.Lease{{Lo: 3, Hi: 6, Worker: "a"}}})
	round := l.run().Round
	if !round.Closing.Withdrawn {
		t.Error("the closing stands although shards were leased again")
	}
	if h, _ := round.Holder(4); h.Worker != "a" || h.Epoch <= round.Leases[0].Epoch {
		t.Errorf("shard 4 is held by %+v, want a under a newer epoch than %d", h, round.Leases[0].Epoch)
	}
	l.must(closing(1, 2))
}

func TestExecutedAgainIsCompared(t *testing.T) {
	l := started(t)
	l.must(closing(1, 1))
	l.must(commit(1, 0, "1"))
	l.must(&fsm.Restart{Run: "r"})
	if full := l.machine.State().Full("r"); len(full) != 0 {
		t.Errorf("after a restart %v are full members, want none", full)
	}
	l.must(&fsm.Promote{Worker: "a"}, &fsm.Promote{Worker: "b"}, open(2, 0), closing(2, 1))
	if err := l.apply(commit(2, 0, "other")); !errors.Is(err, fsm.ErrRejected) {
		t.Errorf("another digest for a committed step = %v, want ErrRejected", err)
	}
	l.must(commit(2, 0, "1"))
	if r := l.run(); r.Committed() != 1 || r.Cursor != 1 {
		t.Errorf("%d committed, at step %d; want 1, 1", r.Committed(), r.Cursor)
	}
}

func TestConfigure(t *testing.T) {
	l := started(t)
	l.must(closing(1, 1), commit(1, 0, "1"), &fsm.SaveAt{Run: "r", Step: 1, Worker: "a"})
	l.must(&fsm.Configure{Run: "r", Store: "/old", Settings: fsm.Settings{Suites: []string{"dev", "test"}}})
	l.must(&fsm.Saved{Run: "r", Step: 1, Path: "/old/step-1", Digest: "m"})
	evaluate := func(number int64, suite int) *fsm.Open {
		return &fsm.Open{Run: "r", Number: number, Kind: fsm.Evaluate, Step: 1, Suite: suite, Shards: 1, Leases: []fsm.Lease{{Lo: 0, Hi: 1, Worker: "a"}}}
	}
	l.must(evaluate(2, 0), &fsm.Evaluated{Run: "r", Round: 2})
	l.must(evaluate(3, 1))
	l.must(&fsm.Configure{Run: "r", Store: "/new", Settings: fsm.Settings{Suites: []string{"other", "dev"}}})
	r := l.run()
	if r.Round != nil {
		t.Error("the evaluation of a suite that is no longer there is still in flight")
	}
	if r.Evaluated(1, 0) || !r.Evaluated(1, 1) {
		t.Error("results do not follow their suite's name")
	}
	if m := r.Manifest(1); m == nil || m.Path != "/new/step-1" {
		t.Errorf("checkpoint %+v, want /new/step-1: it moved with the store", m)
	}
}

// The query of a store's URL says how to reach it, and moves with it.
func TestConfigureMovesURLs(t *testing.T) {
	for _, c := range []struct{ was, is, path, want string }{
		{"s3://b/p?endpoint=a", "s3://b/p?endpoint=c", "s3://b/p/step-1?endpoint=a", "s3://b/p/step-1?endpoint=c"},
		{"s3://b/p?endpoint=a", "s3://other/q", "s3://b/p/step-1?endpoint=a", "s3://other/q/step-1"},
		{"/folder", "s3://b/p?region=x", "/folder/step-1", "s3://b/p/step-1?region=x"},
		{"s3://b/p", "/folder", "s3://elsewhere/step-1?x=y", "s3://elsewhere/step-1?x=y"},
	} {
		l := started(t)
		l.must(closing(1, 1), commit(1, 0, "1"), &fsm.SaveAt{Run: "r", Step: 1, Worker: "a"})
		l.must(&fsm.Configure{Run: "r", Store: c.was}, &fsm.Saved{Run: "r", Step: 1, Path: c.path, Digest: "m"}, &fsm.Configure{Run: "r", Store: c.is})
		if m := l.run().Manifest(1); m == nil || m.Path != c.want {
			t.Errorf("from %q to %q: checkpoint %+v, want %q", c.was, c.is, m, c.want)
		}
	}
}

func TestSnapshotRefusesDamage(t *testing.T) {
	l := started(t)
	var b bytes.Buffer
	if _, err := l.machine.State().WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	for i := range b.Len() {
		damaged := bytes.Clone(b.Bytes())
		damaged[i] ^= 1
		if fsm.NewMachine().Restore(bytes.NewReader(damaged)) == nil {
			t.Fatalf("a snapshot with bit 0 of byte %d flipped was accepted", i)
		}
	}
}

func TestUnknownCommand(t *testing.T) {
	b := fsm.NewEntry(1, 1, epoch, nil).Marshal()
	b[0] = 9
	if err := fsm.NewMachine().Apply(b); !errors.Is(err, fsm.ErrUnknown) {
		t.Errorf("an entry of version 9 = %v, want ErrUnknown", err)
	}
}

// random returns a command that often, not always, fits the state.
func random(rng *rand.Rand, s *fsm.State) fsm.Command {
	worker := fmt.Sprintf("w%d", rng.IntN(5))
	run, number, step, last := "r0", int64(0), int64(0), int32(0)
	if n := len(s.Runs); n > 0 {
		r := s.Runs[n-1-rng.IntN(min(n, 3))]
		run, number, step = r.ID, r.Rounds, r.Cursor
		if r.Round != nil && r.Round.Closing != nil {
			last = r.Round.Closing.Number
		}
	}
	full := append(s.Full(run), worker)
	someone := full[rng.IntN(len(full))]
	all := []fsm.Lease{{Lo: 0, Hi: 4, Worker: someone}}
	switch rng.IntN(29) {
	case 0:
		return &fsm.Submit{
			ID: fmt.Sprintf("r%d", len(s.Runs)), Steps: 9, Settings: fsm.Settings{Suites: []string{"s"}, Best: "m"},
			Key: fmt.Sprint("k", rng.IntN(99)), Priority: rng.IntN(3), File: []byte("file"),
		}
	case 1, 2:
		return &fsm.Join{Worker: worker, Name: worker, Labels: []string{"gpu=h200"}}
	case 3:
		return &fsm.Expire{Worker: worker}
	case 4, 5:
		return &fsm.Promote{Worker: worker}
	case 6:
		return &fsm.Follow{Worker: worker, Peer: someone}
	case 7:
		return &fsm.Fix{Run: run, Numerics: "n", Parameters: "p", Size: 8}
	case 8, 9, 10:
		return &fsm.Open{Run: run, Number: number + 1, Kind: fsm.Kind(1 + rng.IntN(2)), Step: step, Shards: 4, Leases: all}
	case 11:
		lo := rng.IntN(4)
		return &fsm.Grant{Run: run, Round: number, Leases: []fsm.Lease{{Lo: lo, Hi: lo + 1 + rng.IntN(4-lo), Worker: someone}}}
	case 12:
		return &fsm.Retry{Run: run, Round: number, Attempt: 1, Maxima: []float32{rng.Float32()}}
	case 13, 14, 15:
		return &fsm.Close{Run: run, Round: number, Closing: fsm.Closing{
			Number: last + 1, Cover: []fsm.Cover{{Worker: someone, Shards: []fsm.Range{{Lo: 0, Hi: 4}}}}, Owners: []fsm.Owner{{Worker: someone, Hi: 8}},
		}}
	case 16, 17:
		return &fsm.Commit{Run: run, Round: number, Step: step, Gradient: fmt.Sprint(step), Parameters: fmt.Sprint(step)}
	case 18:
		return &fsm.Evaluated{Run: run, Round: number, Metrics: map[string]float64{"m": rng.Float64()}}
	case 19:
		return &fsm.SaveAt{Run: run, Step: step, Worker: someone}
	case 20:
		return &fsm.Saved{Run: run, Step: step, Path: fmt.Sprintf("/%d", step)}
	case 21:
		return &fsm.Drop{Run: run, Step: step}
	case 22:
		return &fsm.Restart{Run: run, Step: step, Path: fmt.Sprintf("/%d", step)}
	case 23, 24, 25:
		if rng.IntN(5) == 0 {
			run = ""
		}
		return &fsm.Assign{Worker: worker, Run: run}
	case 26:
		return &fsm.Prioritize{Run: run, Priority: rng.IntN(3)}
	case 27:
		return fsm.NewVerify(s)
	}
	states := []fsm.Lifecycle{fsm.Running, fsm.Running, fsm.Running, fsm.Stopping, fsm.Paused, fsm.Failed, fsm.Finished}
	return &fsm.SetState{Run: run, State: states[rng.IntN(len(states))]}
}

// Replaying a log, whole or from a snapshot anywhere in it, ends in the same bytes; a state that was handed out
// never changes.
func TestReplayProperty(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		l := newLog(t)
		var kept *fsm.State
		var keptDigest string
		var snapshot bytes.Buffer
		accepted, cut := 0, 150+rng.IntN(300)
		for i := range 600 {
			if err := l.apply(random(rng, l.machine.State())); err == nil {
				accepted++
			}
			if i == cut {
				kept = l.machine.State()
				keptDigest = kept.Digest()
				if _, err := kept.WriteTo(&snapshot); err != nil {
					t.Fatal(err)
				}
			}
		}
		if accepted < 50 {
			t.Errorf("seed %d: %d of 600 commands accepted: the test does not reach far", seed, accepted)
		}
		if got := kept.Digest(); got != keptDigest {
			t.Fatalf("seed %d: a state that was handed out changed", seed)
		}
		again, restored := fsm.NewMachine(), fsm.NewMachine()
		if err := restored.Restore(&snapshot); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for i, b := range l.bytes {
			_ = again.Apply(b)
			if i > cut {
				_ = restored.Apply(b)
			}
		}
		want := l.machine.State().Digest()
		if got := again.State().Digest(); got != want {
			t.Errorf("seed %d: replay ends in %s, want %s", seed, got, want)
		}
		if got := restored.State().Digest(); got != want {
			t.Errorf("seed %d: replay from the snapshot ends in %s, want %s", seed, got, want)
		}
	}
}

func FuzzApply(f *testing.F) {
	l := started(f)
	l.must(closing(1, 1))
	for _, b := range l.bytes {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := fsm.NewMachine()
		for _, e := range l.bytes {
			_ = m.Apply(e)
		}
		_ = m.Apply(b)
		if err := m.State().Check(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzRestore(f *testing.F) {
	l := started(f)
	var b bytes.Buffer
	if _, err := l.machine.State().WriteTo(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		m := fsm.NewMachine()
		if m.Restore(bytes.NewReader(b)) == nil {
			_ = m.State().Digest()
		}
	})
}
