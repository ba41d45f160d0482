package coordinator

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/counterpoint-ml/counterpoint/coordinator/consensus"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// machine lets consensus apply entries to the state machine. It remembers an entry that this build cannot read, and one
// that found the state to be another than the leader's: such a node must not go on, for its state is not the log's.
type machine struct {
	*fsm.Machine
	unknown atomic.Pointer[error]
	tap     Tap
	changed func(before, after *fsm.State) // told of every entry that changed the state; may be nil
}

// Apply implements consensus.Machine.
func (m *machine) Apply(entry []byte) error {
	if e := m.unknown.Load(); e != nil {
		return *e
	}
	before := m.State()
	err := m.Machine.Apply(entry)
	if m.changed != nil && err == nil {
		m.changed(before, m.State())
	}
	if m.tap != nil {
		m.tap.Applied(entry, m.State(), err)
	}
	if errors.Is(err, fsm.ErrUnknown) || errors.Is(err, fsm.ErrDiverged) {
		err = fmt.Errorf("%w: %w", consensus.ErrHalt, err)
		m.unknown.Store(&err)
	}
	return err
}

// Restore implements consensus.Machine.
func (m *machine) Restore(r io.Reader) error {
	before := m.State()
	err := m.Machine.Restore(r)
	if m.changed != nil && err == nil {
		m.changed(before, m.State())
	}
	return err
}

// Snapshot implements consensus.Machine: states never change, so the newest one is its own capture.
func (m *machine) Snapshot() io.WriterTo { return m.State() }

// broken returns why the machine stopped; nil = it did not.
func (m *machine) broken() error {
	if e := m.unknown.Load(); e != nil {
		return *e
	}
	return nil
}
