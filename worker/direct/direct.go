// Package direct carries questions for parts of large values straight from worker to worker, over TCP or TLS. It knows
// frames, connections and who may ask; what is asked for is the caller's. DESIGN.md has the protocol and its bounds.
package direct

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// What goes wrong, by name. Each is counted (Counters) and ends the connection that it happened on.
var (
	// ErrRefused says that the other side does not know the run or the worker, or that its secret is another.
	ErrRefused = errors.New("direct: refused")
	// ErrDamaged marks a frame whose header does not have its checksum, or that is no frame of ours.
	ErrDamaged = errors.New("direct: damaged frame")
	// ErrOversized marks a frame beyond its bound.
	ErrOversized = errors.New("direct: frame too large")
	// ErrCredit says that more questions came than the window allows.
	ErrCredit = errors.New("direct: more questions than the window")
	// ErrSlow says that the other side did not take, or did not send, the bytes of a frame in time.
	ErrSlow = errors.New("direct: other side too slow")
	// ErrClosed says that the connection or the Node has ended.
	ErrClosed = errors.New("direct: closed")
)

// Options configure a Node. Listen is required.
type Options struct {
	Listen  string        // host:port; port 0 = any free one
	Server  *tls.Config   // of accepted connections; nil = plain TCP
	Client  *tls.Config   // of those made; nil = plain TCP
	Failure time.Duration // failure_timeout: deadlines derive from it; 0 = 1 s

	Connections int // to each worker; default 2
	Window      int // questions in flight on a connection: the credit; default 32
	Accepted    int // connections from others at a time; default 1,024

	Buffer  func(n int) []byte // memory for payloads; nil = make
	Recycle func([]byte)       // takes it back; nil = none does
	Log     *slog.Logger       // nil = none
}

// Handler answers a question; done, which may be nil, is called when the answer has been sent.
type Handler func(ctx context.Context, q *wire.ChunkRequest) (answer *wire.Chunk, done func())

// Peer is a worker that can be asked.
type Peer struct {
	Run, Worker string
	Address     string // host:port
	Secret      []byte // of the run
}

// Node is a process's listener and its connections to others.
type Node struct {
	o        Options
	listener net.Listener
	counters counters
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	shaking  chan struct{} // handshakes at a time

	mu      sync.Mutex
	closed  bool
	served  map[[2]string]*served // by run and worker
	inbound map[net.Conn]bool
	pools   map[poolKey]*pool
}

// served is a worker of this process.
type served struct {
	secret []byte
	handle Handler
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	ended bool
	conns map[net.Conn]bool
	busy  sync.WaitGroup // answers in the making
}

// Listen starts a Node.
func Listen(o Options) (*Node, error) {
	if o.Failure <= 0 {
		o.Failure = time.Second
	}
	if o.Connections <= 0 {
		o.Connections = 2
	}
	if o.Window <= 0 {
		o.Window = 32
	}
	if o.Accepted <= 0 {
		o.Accepted = 1024
	}
	if o.Buffer == nil {
		o.Buffer = func(n int) []byte { return make([]byte, n) }
	}
	if o.Recycle == nil {
		o.Recycle = func([]byte) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for other workers on %q (host:port, port 0 for any free one): %w", o.Listen, err)
	}
	n := &Node{
		o: o, listener: l, shaking: make(chan struct{}, 64),
		served: map[[2]string]*served{}, inbound: map[net.Conn]bool{}, pools: map[poolKey]*pool{},
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.running.Go(n.accept)
	return n, nil
}

// Address returns host:port as listened on.
func (n *Node) Address() string { return n.listener.Addr().String() }

// Attend answers questions for a worker of this process until stop is called, which waits for answers in the making.
func (n *Node) Attend(run, worker string, secret []byte, h Handler) (stop func(), err error) {
	if len(secret) < 16 {
		return nil, fmt.Errorf("attend to worker %s: a secret of %d bytes, want 16 or more", worker, len(secret))
	}
	s := &served{secret: secret, handle: h, conns: map[net.Conn]bool{}}
	s.ctx, s.cancel = context.WithCancel(n.ctx)
	k := [2]string{run, worker}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, ErrClosed
	}
	if n.served[k] != nil {
		return nil, fmt.Errorf("attend to worker %s of run %s: attended to already", worker, run)
	}
	n.served[k] = s
	return func() {
		n.mu.Lock()
		delete(n.served, k)
		n.mu.Unlock()
		s.end()
	}, nil
}

func (s *served) end() {
	s.cancel()
	s.mu.Lock()
	s.ended = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.busy.Wait()
}

// adopt takes an authenticated connection, unless the worker is gone.
func (s *served) adopt(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.conns[c] = true
	}
	return !s.ended
}

func (s *served) drop(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// answer runs f in a goroutine that end waits for.
func (s *served) answer(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.busy.Go(f)
	}
}

// Close ends the listener and all connections, and waits for the goroutines.
func (n *Node) Close() error {
	n.mu.Lock()
	n.closed = true
	all := make([]*served, 0, len(n.served))
	for _, s := range n.served {
		all = append(all, s)
	}
	for c := range n.inbound {
		c.Close()
	}
	pools := n.pools
	n.pools = map[poolKey]*pool{}
	n.mu.Unlock()
	n.cancel()
	err := n.listener.Close()
	for _, s := range all {
		s.end()
	}
	for _, p := range pools {
		p.close(ErrClosed)
	}
	n.running.Wait()
	return err
}
