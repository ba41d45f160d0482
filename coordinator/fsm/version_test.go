package fsm_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// replay applies the log that a build of version 1 wrote.
func replay(t *testing.T) *fsm.Machine {
	t.Helper()
	log, err := os.ReadFile("testdata/version1/log.bin")
	if err != nil {
		t.Fatal(err)
	}
	m := fsm.NewMachine()
	for i := 0; len(log) > 0; i++ {
		n, head := binary.Uvarint(log)
		if head <= 0 || n > uint64(len(log)-head) {
			t.Fatalf("entry %d: %d bytes are left", i, len(log))
		}
		if err := m.Apply(log[head : head+int(n)]); err != nil && !errors.Is(err, fsm.ErrRejected) {
			t.Fatalf("entry %d: %v", i, err)
		}
		if err := m.State().Check(); err != nil {
			t.Fatalf("after entry %d: %v", i, err)
		}
		log = log[head+int(n):]
	}
	return m
}

// A log of a build that had one run at a time means to this one what it meant: every field that the old state had has
// its value, and the members work on the run that there was.
func TestLogOfVersionOne(t *testing.T) {
	text, err := os.ReadFile("testdata/version1/state.json")
	if err != nil {
		t.Fatal(err)
	}
	state := replay(t).State()
	now, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := errors.Join(json.Unmarshal(now, &got), json.Unmarshal(text, &want)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, common(got, want)); d != "" {
		t.Errorf("state of version 1 (-was +replayed):\n%s", d)
	}
	if len(state.Members) == 0 || len(state.Runs) < 2 {
		t.Fatalf("%d members and %d runs: the log shows nothing", len(state.Members), len(state.Runs))
	}
	for _, m := range state.Members {
		if want := state.Runs[len(state.Runs)-1].ID; m.Run != want {
			t.Errorf("member %s has run %q, want %q", m.Worker, m.Run, want)
		}
	}
}

// Its snapshot is the same state.
func TestSnapshotOfVersionOne(t *testing.T) {
	f, err := os.Open("testdata/version1/snapshot.bin")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := fsm.NewMachine()
	if err := m.Restore(f); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(replay(t).State(), m.State()); d != "" {
		t.Errorf("the old snapshot (-replayed +restored):\n%s", d)
	}
}

// common returns what of got is in want: the keys of objects that want has too, all the way down.
func common(got, want any) any {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return got
		}
		out := map[string]any{}
		for key := range w {
			if v, ok := g[key]; ok {
				out[key] = common(v, w[key])
			}
		}
		return out
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return got
		}
		out := make([]any, len(g))
		for i := range g {
			out[i] = common(g[i], w[i])
		}
		return out
	}
	return got
}

// Members of one run never take part in another's round.
func TestRunsShareNothing(t *testing.T) {
	l := started(t)
	l.must(&fsm.Submit{ID: "q", Steps: 4, Priority: 3, File: []byte("name: q"), Key: "k"})
	l.must(&fsm.Join{Worker: "c", Name: "c"}, &fsm.Assign{Worker: "c", Run: "q"}, &fsm.Promote{Worker: "c"}, &fsm.Fix{Run: "q", Numerics: "k1", Parameters: "q0", Size: 10})
	other := &fsm.Open{Run: "q", Number: 1, Kind: fsm.Train, Shards: 2, Leases: []fsm.Lease{{Lo: 0, Hi: 2, Worker: "a"}}}
	if err := l.apply(other); !errors.Is(err, fsm.ErrRejected) {
		t.Errorf("a lease to another run's member = %v, want ErrRejected", err)
	}
	other.Leases[0].Worker = "c"
	l.must(other)
	foreign := closing(1, 1)
	foreign.Closing.Owners[0].Worker = "c"
	for name, c := range map[string]fsm.Command{
		"closing": foreign, "grant": &fsm.Grant{Run: "r", Round: 1, Leases: []fsm.Lease{{Lo: 0, Hi: 1, Worker: "c"}}},
		"save": &fsm.SaveAt{Run: "r", Step: 0, Worker: "c"}, "submit again": &fsm.Submit{ID: "q2", Steps: 4, Key: "k"},
	} {
		if err := l.apply(c); !errors.Is(err, fsm.ErrRejected) {
			t.Errorf("%s with another run's member = %v, want ErrRejected", name, err)
		}
	}
	l.must(closing(1, 1))
	l.must(commit(1, 0, "1"))
	l.must(&fsm.Restart{Run: "r"})
	s := l.machine.State()
	if len(s.Full("r")) != 0 || len(s.Full("q")) != 1 || s.Run("q").Round == nil {
		t.Errorf("after a restart of r: full members %v of r, %v of q; want none and c", s.Full("r"), s.Full("q"))
	}
	l.must(&fsm.Promote{Worker: "b"}, &fsm.Follow{Worker: "a", Peer: "b"}, &fsm.Assign{Worker: "b", Run: "q"})
	s = l.machine.State()
	if m := s.Member("b"); m.Run != "q" || !m.Behind || s.Member("a").Peer != "" {
		t.Errorf("b, assigned to q, is %+v, and a still copies from %q", m, s.Member("a").Peer)
	}
	l.must(&fsm.SetState{Run: "r", State: fsm.Paused}, &fsm.Prioritize{Run: "r", Priority: 5})
	if s = l.machine.State(); !s.Idle(s.Member("a")) || s.Idle(s.Member("b")) || s.Run("r").Priority != 5 {
		t.Errorf("r is paused: a idle %v, want true; b idle %v, want false", s.Idle(s.Member("a")), s.Idle(s.Member("b")))
	}
}

// A replica whose state is not what the log makes of it stops when the leader's hash comes.
func TestVerifyFindsADifference(t *testing.T) {
	l := started(t)
	entry := func(c fsm.Command) []byte {
		return fsm.NewEntry(7, 1, epoch, []fsm.Command{c}).Marshal()
	}
	verify := entry(fsm.NewVerify(l.machine.State()))
	same, other := fsm.NewMachine(), fsm.NewMachine()
	for i, b := range l.bytes {
		_ = same.Apply(b)
		if i == len(l.bytes)-2 { // one entry is another one
			b = fsm.NewEntry(1, uint64(i), epoch, []fsm.Command{&fsm.Fix{Run: "r", Numerics: "k1", Parameters: "p9", Size: 10}}).Marshal()
		}
		_ = other.Apply(b)
	}
	if err := same.Apply(verify); err != nil {
		t.Errorf("verify of an equal replica = %v", err)
	}
	if err := other.Apply(verify); !errors.Is(err, fsm.ErrDiverged) {
		t.Errorf("verify of a replica with another entry = %v, want ErrDiverged", err)
	}
	// The same log, and a bit of the state is another: a snapshot that was damaged in memory before it was written.
	var b bytes.Buffer
	damaged := l.machine.State().Clone()
	damaged.Runs[0].Maxima = []float32{7}
	if _, err := damaged.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	restored := fsm.NewMachine()
	if err := restored.Restore(&b); err != nil {
		t.Fatal(err)
	}
	if err := restored.Apply(verify); !errors.Is(err, fsm.ErrDiverged) {
		t.Errorf("verify of a replica with another state = %v, want ErrDiverged", err)
	}
}
