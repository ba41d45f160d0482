package fsm_test

import (
	"errors"
	"testing"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// Steps that are taken back are committed anew, with other digests; the ledger of before stays as it was for who holds it.
func TestRewind(t *testing.T) {
	l := started(t)
	for s := range int64(3) {
		if s > 0 {
			l.must(open(s+1, s))
		}
		l.must(closing(s+1, 1))
		l.must(commit(s+1, s, "bad"))
		if s == 1 {
			l.must(&fsm.SaveAt{Run: "r", Step: 2, Worker: "a"})
			l.must(&fsm.Saved{Run: "r", Step: 2, Worker: "a", Path: "c2", Digest: "d"})
		}
	}
	before := l.machine.State()
	for name, c := range map[string]*fsm.Rewind{
		"no such checkpoint": {Run: "r", Step: 1, Path: "c1"},
		"beyond":             {Run: "r", Step: 9},
		"another run":        {Run: "q"},
	} {
		if err := l.apply(c); !errors.Is(err, fsm.ErrRejected) {
			t.Errorf("rewind, %s = %v, want ErrRejected", name, err)
		}
	}
	l.must(&fsm.Rewind{Run: "r", Reason: "test"})
	r := l.run()
	if r.Committed() != 0 || r.Cursor != 0 || len(r.Manifests) != 0 || r.Parameters() != "p0" || len(l.machine.State().Full("r")) != 0 {
		t.Errorf("after a rewind %d steps are committed, at %d, checkpoints %v", r.Committed(), r.Cursor, r.Manifests)
	}
	if len(r.Rewinds) != 1 || r.Rewinds[0].From != 0 || r.Rewinds[0].To != 3 || r.Rewinds[0].Reason != "test" {
		t.Errorf("rewinds %+v, want one of steps 1 to 3", r.Rewinds)
	}
	if before.Runs[0].Committed() != 3 || before.Runs[0].Ledger.At(2).Parameters != "pbad" {
		t.Error("the state of before was changed")
	}
	l.must(&fsm.Promote{Worker: "a"}, &fsm.Promote{Worker: "b"})
	l.must(open(4, 0))
	l.must(closing(4, 1))
	l.must(commit(4, 0, "good"))
	if got := l.run().Ledger.At(0).Parameters; got != "pgood" {
		t.Errorf("committed anew: %s, want pgood", got)
	}
}
