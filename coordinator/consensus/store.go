package consensus

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/metrics"
	"github.com/hashicorp/raft-wal/verifier"
)

// interval is how many entries the verifier compares at once: the leader writes the checksum of the last ones into every
// interval-th entry, and each member reads its own back and compares.
const interval = 256

// checked is a group's log: raft-wal's verifier over the store. The verifier adds up what is written; where entries are
// replaced or skipped (a tail that another leader overwrites, a snapshot that was installed) the sum begins anew, or it
// would accuse a sound log.
type checked struct {
	under  raft.LogStore
	report func(error) // told of a range whose checksum differs
	ranges atomic.Uint64

	mu      sync.RWMutex
	current *verifier.LogStore
	number  int
}

func newChecked(under raft.LogStore, report func(error)) *checked {
	c := &checked{under: under, report: report}
	c.renew()
	return c
}

// renew begins a new sum.
func (c *checked) renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil {
		_ = c.current.Close() // closes no store: unclosed hides it
	}
	c.number++
	number := c.number
	c.current = verifier.NewLogStore(unclosed{c.under}, func(l *raft.Log) (bool, error) { return l.Index%interval == 0, nil },
		func(r verifier.VerificationReport) {
			c.mu.RLock()
			stale := number != c.number
			c.mu.RUnlock()
			var differs verifier.ErrChecksumMismatch
			switch {
			case stale:
			case errors.As(r.Err, &differs):
				c.report(fmt.Errorf("entries %s of the log: %w", r.Range, r.Err))
			case r.Err == nil:
				c.ranges.Add(1)
			}
		}, &metrics.NoOpCollector{})
}

// unclosed hides the store's Close from the verifier, which comes and goes.
type unclosed struct{ raft.LogStore }

func (o unclosed) IsMonotonic() bool { return monotonic(o.LogStore) }

func monotonic(s raft.LogStore) bool {
	m, ok := s.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

func (c *checked) FirstIndex() (uint64, error)            { return c.under.FirstIndex() }
func (c *checked) LastIndex() (uint64, error)             { return c.under.LastIndex() }
func (c *checked) GetLog(index uint64, l *raft.Log) error { return c.under.GetLog(index, l) }
func (c *checked) StoreLog(l *raft.Log) error             { return c.StoreLogs([]*raft.Log{l}) }
func (c *checked) IsMonotonic() bool                      { return monotonic(c.under) }

func (c *checked) StoreLogs(l []*raft.Log) error {
	c.mu.RLock() // the verifier must not be closed meanwhile
	defer c.mu.RUnlock()
	return c.current.StoreLogs(l)
}

func (c *checked) DeleteRange(first, last uint64) error {
	end, err := c.under.LastIndex()
	if err != nil {
		return err
	}
	if last >= end {
		c.renew()
	}
	return c.under.DeleteRange(first, last)
}

func (c *checked) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.number++ // reports of what is being closed mean nothing
	_ = c.current.Close()
}

// watched measures a log's appends, and turns errors on which Raft would panic into a node that stops by name.
type watched struct {
	raft.LogStore
	halt   func(error)
	ready  atomic.Bool  // Raft runs: errors come to its goroutines, not to Open
	began  atomic.Int64 // when the append in flight began, in ns of time.Since(epoch) + 1; 0 = none
	epoch  time.Time
	mu     sync.Mutex
	slow   time.Duration // longest append since slowAt
	slowAt time.Time
}

func newWatched(s raft.LogStore, halt func(error)) *watched {
	return &watched{LogStore: s, halt: halt, epoch: time.Now()}
}

func (w *watched) IsMonotonic() bool { return monotonic(w.LogStore) }

func (w *watched) StoreLog(l *raft.Log) error { return w.StoreLogs([]*raft.Log{l}) }

func (w *watched) StoreLogs(l []*raft.Log) error {
	began := time.Now()
	w.began.Store(int64(began.Sub(w.epoch)) + 1)
	err := w.LogStore.StoreLogs(l)
	w.began.Store(0)
	w.note(time.Since(began))
	return err
}

func (w *watched) note(took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); took >= w.slow || now.Sub(w.slowAt) > 10*time.Second {
		w.slow, w.slowAt = took, now
	}
}

// busy is how long the append in flight has taken; 0 = none.
func (w *watched) busy() time.Duration {
	if began := w.began.Load(); began != 0 {
		return time.Since(w.epoch.Add(time.Duration(began - 1)))
	}
	return 0
}

// slowest is the longest append of the last seconds, one in flight included.
func (w *watched) slowest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.slowAt) > 10*time.Second {
		w.slow = 0
	}
	return max(w.slow, w.busy())
}

// GetLog ends the calling goroutine, one of Raft's, when the log cannot be read: Raft would end the process.
func (w *watched) GetLog(index uint64, l *raft.Log) error {
	err := w.LogStore.GetLog(index, l)
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) && w.ready.Load() {
		w.halt(fmt.Errorf("read entry %d of the log: %w", index, err))
		runtime.Goexit()
	}
	return err
}

// votes is a stable store whose errors stop the node by name: Raft would end the process.
type votes struct {
	raft.StableStore
	halt  func(error)
	ready atomic.Bool
}

func (v *votes) check(err error) error {
	if err != nil && v.ready.Load() {
		v.halt(fmt.Errorf("write term and vote: %w", err))
		runtime.Goexit()
	}
	return err
}

func (v *votes) Set(key, value []byte) error { return v.check(v.StableStore.Set(key, value)) }

func (v *votes) SetUint64(key []byte, value uint64) error {
	return v.check(v.StableStore.SetUint64(key, value))
}
