package worker

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// muted is a link that falls silent for a while when the worker tells of a step's update.
type muted struct {
	Link
	step int64
	mu   sync.Mutex
	till time.Time
}

func (m *muted) silent() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Before(m.till)
}

func (m *muted) Applied(ctx context.Context, a *wire.Applied) (*wire.Verdict, error) {
	m.mu.Lock()
	if a.Step == m.step && m.till.IsZero() {
		m.till = time.Now().Add(2 * officeTimeout)
	}
	m.mu.Unlock()
	if m.silent() {
		return nil, errLost
	}
	return m.Link.Applied(ctx, a)
}

func (m *muted) Beat(ctx context.Context, b *wire.Beat) (*wire.Pulse, error) {
	if m.silent() {
		return nil, errLost
	}
	return m.Link.Beat(ctx, b)
}

// The only worker is expired when it has made an update that nobody has heard of. It comes back with parameters that
// were never committed, takes those that the run goes on from, and the step is executed again.
func TestNodeForgetsTheOnlyWorkerAfterItsUpdate(t *testing.T) {
	for _, step := range []int64{0, 3} { // the round stays in flight; the run is taken back
		t.Run(fmt.Sprint("step ", step), func(t *testing.T) {
			leaks(t)
			o := newOffice(t, 8)
			o.open()
			o.adapt = func(c *Config) { c.Link = &muted{Link: c.Link, step: step} }
			o.hire("w")
			o.check()
		})
	}
}
