package sim

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	"github.com/anishathalye/porcupine"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// tap watches the logs of all coordinators and compares them as they grow.
type tap struct {
	mu     sync.Mutex
	log    [][]byte // entries, by their place
	chains [][]byte // chain of the state after each
	wrong  []string
	clock  int64 // of the history: order of what happened
	calls  []call
	seen   []porcupine.Operation // what workers saw
}

// call is a leader's proposal, from when it was made until its outcome was known.
type call struct {
	by         string
	entry      []byte
	begin, end int64 // end 0 = never known
	outcome    error
	unanswered bool
}

func newTap() *tap { return &tap{} }

func (t *tap) complain(format string, args ...any) {
	if len(t.wrong) < 10 {
		t.wrong = append(t.wrong, fmt.Sprintf(format, args...))
	}
}

// of returns the part of one coordinator.
func (t *tap) of(name string) coordinator.Tap { return &spout{t, name} }

type spout struct {
	*tap
	name string
}

// Propose implements coordinator.Tap.
func (s *spout) Propose(entry []byte) func(error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	at := len(s.calls)
	s.calls = append(s.calls, call{by: s.name, entry: entry, begin: s.clock, unanswered: true})
	return func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.clock++
		c := &s.calls[at]
		c.end, c.outcome, c.unanswered = s.clock, err, false
	}
}

// Applied implements coordinator.Tap: whoever applies an entry at a place must apply the one that was applied there
// before, by whomever, and come to the same state.
func (s *spout) Applied(entry []byte, after *fsm.State, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	place := int(after.Entries) - 1
	switch {
	case place < len(s.log):
		if !bytes.Equal(s.log[place], entry) {
			s.complain("%s applied another entry at place %d than was applied there before", s.name, place)
		}
		if !bytes.Equal(s.chains[place], after.Chain) {
			s.complain("%s has another state after place %d than was reached there before", s.name, place)
		}
	case place == len(s.log):
		s.log = append(s.log, slices.Clone(entry))
		s.chains = append(s.chains, after.Chain)
	default:
		s.complain("%s applied place %d, and nobody has applied place %d", s.name, place, len(s.log))
	}
}
