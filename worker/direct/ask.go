package direct

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// poolKey names the connections from a worker of this process to another worker.
type poolKey struct{ run, self, worker, address string }

// pool is the connections to one worker, made when they are first needed and again after they broke.
type pool struct {
	node  *Node
	peer  Peer
	self  string
	next  atomic.Uint32
	slots []slot
}

// slot holds a connection; who has its token may change it.
type slot struct {
	token chan struct{}
	line  *line
}

// line is a connection on which questions are asked.
type line struct {
	node    *Node
	name    string
	c       net.Conn
	credit  chan struct{}
	last    atomic.Int64 // when a frame last came, Unix nanoseconds
	writing sync.Mutex

	mu      sync.Mutex
	id      uint32
	waiting map[uint32]chan frame
	err     error // why it ended
	ended   chan struct{}
}

// Ask takes a question to a worker and waits for the answer until ctx ends. done is called when its payload is no longer
// needed. An error means that no answer came: the worker is not reachable this way now, or went away meanwhile.
func (n *Node) Ask(ctx context.Context, self string, p Peer, q *wire.ChunkRequest) (a *wire.Chunk, done func(), err error) {
	k := poolKey{p.Run, self, p.Worker, p.Address}
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil, nil, ErrClosed
	}
	pl := n.pools[k]
	if pl == nil {
		pl = &pool{node: n, peer: p, self: self, slots: make([]slot, n.o.Connections)}
		for i := range pl.slots {
			pl.slots[i].token = make(chan struct{}, 1)
		}
		n.pools[k] = pl
	}
	n.mu.Unlock()
	l, err := pl.get(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to worker %s at %s: %w", p.Worker, p.Address, err)
	}
	f, err := l.ask(ctx, q)
	if err != nil {
		return nil, nil, fmt.Errorf("ask worker %s at %s: %w", p.Worker, p.Address, err)
	}
	a = new(wire.Chunk)
	if err := wire.Decode(f.head, a); err != nil {
		err = fmt.Errorf("answer of worker %s: %w: %w", p.Worker, ErrDamaged, err)
		l.end(err)
		return nil, nil, err
	}
	a.Payload = f.payload
	return a, func() { n.o.Recycle(f.payload) }, nil
}

// Forget closes the connections from self to workers that are not in keep.
func (n *Node) Forget(run, self string, keep map[string]bool) {
	n.mu.Lock()
	var gone []*pool
	for k, p := range n.pools {
		if k.run == run && k.self == self && !keep[k.worker] {
			gone = append(gone, p)
			delete(n.pools, k)
		}
	}
	n.mu.Unlock()
	for _, p := range gone {
		p.close(ErrClosed)
	}
}

// get returns a connection, made anew where there is none.
func (p *pool) get(ctx context.Context) (*line, error) {
	s := &p.slots[int(p.next.Add(1))%len(p.slots)]
	select {
	case s.token <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-s.token }()
	if s.line != nil && s.line.alive() {
		return s.line, nil
	}
	l, err := p.dial(ctx)
	s.line = l
	return l, err
}

func (p *pool) close(err error) {
	for i := range p.slots {
		s := &p.slots[i]
		s.token <- struct{}{}
		if s.line != nil {
			s.line.end(err)
			s.line = nil
		}
		<-s.token
	}
}

func (p *pool) dial(ctx context.Context) (*line, error) {
	n := p.node
	ctx, cancel := context.WithTimeout(ctx, n.o.Failure)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", p.peer.Address)
	if err != nil {
		return nil, err
	}
	if n.o.Client != nil {
		config := n.o.Client
		if config.ServerName == "" && !config.InsecureSkipVerify {
			host, _, err := net.SplitHostPort(p.peer.Address)
			if err != nil {
				c.Close()
				return nil, err
			}
			config = config.Clone()
			config.ServerName = host
		}
		c = tls.Client(c, config)
	}
	if err := greet(c, p.peer, p.self, 2*n.o.Failure); err != nil {
		c.Close()
		err = slow(err)
		n.note(p.peer.Worker, err)
		return nil, err
	}
	l := &line{
		node: n, name: p.peer.Worker, c: c, credit: make(chan struct{}, n.o.Window),
		waiting: map[uint32]chan frame{}, ended: make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		c.Close()
		return nil, ErrClosed
	}
	n.running.Go(l.listen)
	return l, nil
}

func (l *line) alive() bool {
	select {
	case <-l.ended:
		return false
	default:
		return true
	}
}

// end closes the connection; all questions in flight fail with err.
func (l *line) end(err error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = err
	l.mu.Unlock()
	close(l.ended)
	l.c.Close()
	l.node.note(l.name, err)
}

// listen hands answers to those who wait for them.
func (l *line) listen() {
	r := newReader(l.c, answer, wire.MaxMessage, &l.node.o)
	for {
		f, err := r.next()
		if err != nil {
			l.end(err)
			return
		}
		l.last.Store(time.Now().UnixNano())
		l.mu.Lock()
		to := l.waiting[f.id]
		delete(l.waiting, f.id)
		l.mu.Unlock()
		if to == nil {
			l.end(fmt.Errorf("answer to question %d, which was not asked: %w", f.id, ErrDamaged))
			return
		}
		<-l.credit
		to <- f
	}
}

// ask sends a question and waits. The credit of a question that was given up comes back with its answer.
func (l *line) ask(ctx context.Context, q *wire.ChunkRequest) (frame, error) {
	select {
	case l.credit <- struct{}{}:
	case <-l.ended:
		return frame{}, l.err
	case <-ctx.Done():
		return frame{}, context.Cause(ctx)
	}
	head, err := wire.Encode(q)
	if err != nil {
		<-l.credit
		return frame{}, err
	}
	came := make(chan frame, 1)
	l.mu.Lock()
	l.id++
	id := l.id
	l.waiting[id] = came
	l.mu.Unlock()
	asked := time.Now()
	l.writing.Lock()
	err = (&frame{kind: question, id: id, head: head}).write(l.c, asked.Add(2*l.node.o.Failure))
	l.writing.Unlock()
	if err != nil {
		l.end(err)
		return frame{}, err
	}
	select {
	case f := <-came:
		return f, nil
	case <-l.ended:
		return frame{}, l.err
	case <-ctx.Done():
	}
	// Given up. The answer may still come, its credit is held until then, and its memory is nobody's; a connection that has been silent since is
	// taken for dead, so that the next question makes a new one.
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && time.Since(asked) >= l.node.o.Failure && l.last.Load() < asked.UnixNano() {
		l.end(fmt.Errorf("no answer for %v: %w", time.Since(asked).Round(time.Millisecond), ErrSlow))
		return frame{}, l.err
	}
	return frame{}, context.Cause(ctx)
}
