// Package collective sums the workers' gradients: each range of the parameters has an owner that adds the sums
// named by the step's closing, and everybody takes the totals of all ranges. Sums are integers, so the result
// has the same bits for any cover, any owners and any order.
//
// Values are pulled. Whoever needs a part asks for it, a window of parts at a time, until it has it; the side that
// holds the value answers from what it holds and remembers nothing of its askers. So a part that is dropped,
// repeated or late costs one more question, and a closing with a higher number needs no clean-up anywhere.
// DESIGN.md of package worker tells why each contribution counts once.
package collective

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// The streams of wire.ChunkRequest that a Group answers.
const (
	StreamSum   = "sum"
	StreamTotal = "total"
)

// ErrGone says that nobody asked has the total of that round any more: the step was committed long ago.
var ErrGone = errors.New("collective: total of the round is no longer kept")

// Transport takes a question to another worker. An error means that no answer came; the Group asks again. done is called
// when the answer's payload is no longer needed; it may be nil.
type Transport interface {
	Ask(ctx context.Context, worker string, req *wire.ChunkRequest) (answer *wire.Chunk, done func(), err error)
}

// Neighbours is a Transport that knows Groups of this process: their values are read where they are, without packing.
type Neighbours interface {
	Near(worker string) *Group     // nil = not in this process
	Lent(worker string, bytes int) // so much was read there
}

// Options are the measures of a Group; zero values choose the defaults.
type Options struct {
	Part    int           // values in a part; default 131,072: about 550 KB packed
	Window  int           // parts asked of one worker at a time: the credit; default 2
	Poll    time.Duration // how long an answer may wait for its value before it says "later"; default 500 ms
	Timeout time.Duration // how long a question may take; default 4 Polls
	Keep    int           // totals of committed rounds kept for followers; default 4
	Log     *slog.Logger  // nil = none
}

func (o Options) defaults() Options {
	if o.Part <= 0 {
		o.Part = 128 << 10
	}
	if o.Window <= 0 {
		o.Window = 2
	}
	if o.Poll <= 0 {
		o.Poll = 500 * time.Millisecond
	}
	if o.Timeout <= 0 {
		o.Timeout = 4 * o.Poll
	}
	if o.Keep <= 0 {
		o.Keep = 4
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Group holds one worker's sums and totals of the rounds of one run.
type Group struct {
	run       string
	transport Transport
	Options

	mu     sync.Mutex
	held   map[key]*held
	floor  int64 // rounds before it were released
	unused unused

	damaged atomic.Int64
}

// key names a try of a round: all totals of one key are equal, whatever closing they were made under.
type key struct {
	round   int64
	attempt int32
}

// New returns a Group of a run that asks through transport.
func New(run string, transport Transport, options Options) *Group {
	return &Group{run: run, transport: transport, Options: options.defaults(), held: map[key]*held{}}
}

// Step is what Reduce and Follow need to know of a round in flight.
type Step struct {
	Self    string // this worker
	Round   int64
	Attempt int32
	Size    int64 // parameters
	Closing *wire.Closing
	Others  []string // live members besides Self, asked where an owner does not answer
	Share   bool     // others, followers included, may ask for the total
}

// Damaged returns how many parts came with another checksum than they were sent with, or could not be read. Each was
// named in the log and asked for again.
func (g *Group) Damaged() int64 { return g.damaged.Load() }

// hold returns the entry of a key, made on first use.
func (g *Group) hold(k key) *held {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.held[k]
	if h == nil {
		h = &held{changed: make(chan struct{}), spare: &g.unused}
		g.held[k] = h
	}
	return h
}

// Release forgets the sums of rounds before round, and their totals except the newest Keep complete ones, which
// followers may still ask for. With all, it forgets those too. It waits for answers in the making.
func (g *Group) Release(round int64, all bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.floor = max(g.floor, round)
	kept := 0
	for k, h := range g.held {
		if k.round >= round {
			continue
		}
		if h.release(all) {
			kept++
			continue
		}
		delete(g.held, k)
	}
	for ; kept > g.Keep; kept-- {
		oldest := key{round: -1}
		for k := range g.held {
			if k.round < round && (oldest.round < 0 || k.round < oldest.round) {
				oldest = k
			}
		}
		g.held[oldest].release(true)
		delete(g.held, oldest)
	}
}

// Total returns the whole total of a try of a round, or nil.
func (g *Group) Total(round int64, attempt int32) *fixed.Sum {
	g.mu.Lock()
	h := g.held[key{round, attempt}]
	g.mu.Unlock()
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.total == nil || !h.filled.covers(0, int64(len(h.total.Values))) {
		return nil
	}
	return h.total
}
