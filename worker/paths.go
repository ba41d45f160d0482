package worker

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/worker/collective"
	"github.com/counterpoint-ml/counterpoint/worker/direct"
)

// Kinds of a path, best first.
const (
	pathMemory = "memory"
	pathDirect = "direct"
	pathRelay  = "relay"
)

// paths carries questions to other workers of a run, to each by the best way that works: within the process, over a direct
// connection, or over the relay (NATS). A direct connection that cannot be made, or breaks, is tried again after a pause
// that doubles; until then the relay carries what it would have.
type paths struct {
	run     string
	secret  wire.Secret
	relay   Link
	node    *direct.Node // nil = none
	hub     *Hub         // nil = none
	timeout time.Duration
	log     *slog.Logger

	mu   sync.Mutex
	self string
	view *view
	of   map[string]*path
}

// path is what is known of the way to one worker.
type path struct {
	wire.Path
	last  time.Time     // when a value last came
	busy  time.Duration // while values came
	taken int64         // bytes in that time
	pause time.Duration // before direct is tried again
	until time.Time
}

var (
	_ collective.Transport  = (*paths)(nil)
	_ collective.Neighbours = (*paths)(nil)
)

func newPaths(a *Agent, info wire.RunInfo, timeout time.Duration, log *slog.Logger) *paths {
	p := &paths{run: info.ID, relay: a.Link, hub: a.Hub, timeout: timeout, log: log, of: map[string]*path{}}
	if len(info.Secret) > 0 {
		p.node, p.secret = a.Direct, info.Secret
	}
	return p
}

// as says under which id this worker asks, and where the others' addresses are.
func (p *paths) as(self string, v *view) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.self, p.view = self, v
	clear(p.of)
}

// to returns the entry of a worker, and its direct address where that is to be tried now. The entries of workers that are
// gone go too.
func (p *paths) to(worker string) (e *path, peer direct.Peer, self string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e = p.of[worker]; e == nil {
		e = &path{Path: wire.Path{Worker: worker}}
		p.of[worker] = e
	}
	if p.node == nil {
		e.Why = "this worker has no direct listener"
		return e, peer, p.self
	}
	address := ""
	if p.view != nil {
		if r, _ := p.view.now(); r != nil {
			if m := member(r, worker); m != nil {
				address = m.Address
			}
		}
	}
	switch {
	case address == "":
		e.Why = "it has no direct listener"
	case time.Now().Before(e.until):
	default:
		peer = direct.Peer{Run: p.run, Worker: worker, Address: address, Secret: p.secret}
	}
	return e, peer, p.self
}

// Ask implements collective.Transport.
func (p *paths) Ask(ctx context.Context, worker string, q *wire.ChunkRequest) (*wire.Chunk, func(), error) {
	if j := p.hub.find(p.run, worker); j != nil {
		c, done := j.answer(ctx, q)
		if !c.Later && c.Err == "" {
			p.note(worker, pathMemory, len(c.Payload))
		}
		return c, done, nil
	}
	e, peer, self := p.to(worker)
	if peer.Address != "" {
		c, done, err := p.node.Ask(ctx, self, peer, q)
		if err == nil {
			if len(c.Payload) > 0 {
				p.note(worker, pathDirect, len(c.Payload))
			}
			return c, done, nil
		}
		if ctx.Err() != nil {
			return nil, nil, err
		}
		p.broken(e, err)
	}
	c, err := p.relay.Ask(ctx, worker, q)
	if err == nil && len(c.Payload) > 0 {
		p.note(worker, pathRelay, len(c.Payload))
	}
	return c, nil, err
}

// broken puts the relay in place of a direct connection for a while.
func (p *paths) broken(e *path, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(e.until) {
		return // another question has noticed
	}
	e.pause = min(max(2*e.pause, p.timeout/4), 30*time.Second)
	e.until, e.Why = time.Now().Add(e.pause), err.Error()
	p.log.Info("worker not reached directly; the relay takes over", "to", e.Worker, "again_in", e.pause, "err", err)
}

// note counts what came, n bytes, over which path. Why it is the relay stays.
func (p *paths) note(worker, kind string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.of[worker]
	if e == nil {
		e = &path{Path: wire.Path{Worker: worker}}
		p.of[worker] = e
	}
	if e.Kind != kind {
		e.busy, e.taken = 0, 0
		e.Kind = kind
	}
	if kind != pathRelay {
		e.Why = ""
	}
	if kind == pathDirect {
		e.pause = 0
	}
	now := time.Now()
	if gap := now.Sub(e.last); gap < p.timeout/4 { // within one exchange
		e.busy += gap
		e.taken += int64(n)
	}
	e.last = now
	e.Bytes += int64(n)
}

// tell returns the paths in use, by worker, for a heartbeat.
func (p *paths) tell() []wire.Path {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []wire.Path
	for _, e := range p.of {
		if e.Kind == "" {
			continue
		}
		x := e.Path
		if e.busy > 0 {
			x.Rate = float64(e.taken) / e.busy.Seconds()
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b wire.Path) int { return cmp.Compare(a.Worker, b.Worker) })
	return out
}

// prune forgets the workers that are no longer in the round, and closes the connections to them.
func (p *paths) prune(r *wire.Round) {
	keep := map[string]bool{}
	for _, m := range r.Members {
		keep[m.Worker] = true
	}
	p.mu.Lock()
	gone := false
	for w := range p.of {
		if !keep[w] {
			delete(p.of, w)
			gone = true
		}
	}
	self := p.self
	p.mu.Unlock()
	if gone && p.node != nil {
		p.node.Forget(p.run, self, keep)
	}
}

// attend answers what other workers ask of this one directly, until stop is called.
func (p *paths) attend(worker string, j *job) (stop func(), err error) {
	if p.node == nil {
		return func() {}, nil
	}
	return p.node.Attend(p.run, worker, p.secret, j.answer)
}
