package consensus

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/hashicorp/raft"
)

// Machine is what entries are applied to. Apply and Restore are called from one goroutine. Snapshot returns a
// capture at once; it is written while Apply goes on.
//
// An error of Apply goes to whoever proposed the entry; one that wraps ErrHalt also stops the node, for its state is no
// longer the log's.
type Machine interface {
	Apply(entry []byte) error
	Snapshot() io.WriterTo
	Restore(r io.Reader) error
}

// ErrHalt marks errors of Machine.Apply after which a node must not go on.
var ErrHalt = errors.New("this node stops")

// adapter makes a Machine a raft.FSM.
type adapter struct {
	m    Machine
	halt func(error)
	why  error // set once, by Raft's goroutine of the machine
}

func (a *adapter) Apply(l *raft.Log) (answer any) {
	if a.why != nil {
		return a.why
	}
	defer func() {
		if r := recover(); r != nil {
			a.stop(fmt.Errorf("apply entry %d of term %d: %v: %w\n%s", l.Index, l.Term, r, ErrHalt, debug.Stack()))
			answer = a.why
		}
	}()
	err := a.m.Apply(l.Data)
	if errors.Is(err, ErrHalt) {
		a.stop(fmt.Errorf("apply entry %d of term %d: %w", l.Index, l.Term, err))
	}
	return err
}

func (a *adapter) stop(err error) {
	a.why = err
	a.halt(err)
}

func (a *adapter) Snapshot() (raft.FSMSnapshot, error) {
	if a.why != nil {
		return nil, a.why
	}
	return snapshot{a.m.Snapshot()}, nil
}

func (a *adapter) Restore(r io.ReadCloser) error {
	defer r.Close()
	return a.m.Restore(r)
}

type snapshot struct{ from io.WriterTo }

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := s.from.WriteTo(sink); err != nil {
		return errors.Join(fmt.Errorf("write snapshot %s: %w", sink.ID(), err), sink.Cancel())
	}
	return sink.Close()
}

func (s snapshot) Release() {}
