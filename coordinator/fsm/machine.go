package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/counterpoint-ml/counterpoint/coordinator/pack"
)

// keysKept is how many idempotency keys a state remembers: far more than entries can be in flight.
const keysKept = 256

// Machine holds the newest state. Apply and Restore are called by one goroutine, as Raft does; State by any.
type Machine struct{ state atomic.Pointer[State] }

// NewMachine returns a machine in the state before the first entry.
func NewMachine() *Machine {
	m := &Machine{}
	m.state.Store(&State{Chain: make([]byte, sha256.Size)})
	return m
}

// State returns the newest state. It is never changed.
func (m *Machine) State() *State { return m.state.Load() }

// Apply applies an entry's bytes. An error that wraps ErrRejected is a result like any other: the entry counts and
// has changed nothing. One that wraps ErrUnknown or ErrDiverged means that this process must stop.
func (m *Machine) Apply(b []byte) error {
	s := m.State()
	next := s.Clone()
	err := next.enter(b)
	if err != nil {
		next = s.Clone()
	}
	next.Entries++
	sum := sha256.New()
	sum.Write(s.Chain)
	sum.Write(b)
	next.Chain = sum.Sum(nil)
	m.state.Store(next)
	return err
}

// enter applies the commands of an entry; on an error s is half changed and must be dropped.
func (s *State) enter(b []byte) error {
	e, err := ParseEntry(b)
	if err != nil {
		return err
	}
	for _, k := range s.Keys {
		if k == e.Key {
			return nil // applied already: the one who asked did not hear the answer
		}
	}
	if s.Now = e.Time; e.Key != "" {
		s.Keys = append(s.Keys, e.Key)
		s.Keys = s.Keys[max(0, len(s.Keys)-keysKept):]
	}
	for _, c := range e.Commands {
		if err := c.apply(s); err != nil {
			return err
		}
	}
	return nil
}

// Digest returns a hash of the whole state.
func (s *State) Digest() string {
	sum := sha256.Sum256(pack.Marshal(s))
	return hex.EncodeToString(sum[:])
}

// snapshotMagic begins a snapshot: name and version. The SHA-256 of the packed state follows, then the state. In
// version 1 members had no run: there was one.
const (
	snapshotMagic = "CPSNAP\x00\x02"
	snapshotOne   = "CPSNAP\x00\x01"
)

// WriteTo writes a snapshot of the state.
func (s *State) WriteTo(w io.Writer) (int64, error) {
	body := pack.Marshal(s)
	sum := sha256.Sum256(body)
	n, err := w.Write(append(append([]byte(snapshotMagic), sum[:]...), body...))
	return int64(n), err
}

// Restore replaces the state by a snapshot's. A damaged snapshot is an error, and the state stays.
func (m *Machine) Restore(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	if len(b) < len(snapshotMagic)+sha256.Size || string(b[:len(snapshotMagic)]) != snapshotMagic && string(b[:len(snapshotOne)]) != snapshotOne {
		return fmt.Errorf("snapshot of %d bytes: not one of this build's", len(b))
	}
	body := b[len(snapshotMagic)+sha256.Size:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[len(snapshotMagic):len(snapshotMagic)+sha256.Size]) {
		return fmt.Errorf("snapshot of %d bytes: checksum is %x, its content's is %x", len(b), b[len(snapshotMagic):len(snapshotMagic)+sha256.Size], sum)
	}
	s := &State{}
	if err := pack.Unmarshal(body, s); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if string(b[:len(snapshotOne)]) == snapshotOne && len(s.Runs) > 0 {
		s.adopt()
	}
	if err := s.Check(); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	m.state.Store(s)
	return nil
}
