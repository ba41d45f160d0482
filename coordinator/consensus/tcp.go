package consensus

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// TLS gives the configurations of new connections. It is asked for each one, so that certificates can change. Without
// both, links are plain: for loopback.
type TLS struct {
	Server, Client func() *tls.Config
}

// Each connection begins with a magic, a version, what follows, and where the one who connects can be reached itself: a
// length of one byte and an address.
const (
	magic    = "cp\x01"
	forRaft  = 'r'
	forAsker = 'a'
)

// Limits of a listener, before and after the handshake.
const (
	maxGreeting = 32  // connections that have not said who they are
	maxOpen     = 256 // connections
)

// TCP is a transport over TCP, with TLS if it is configured.
type TCP struct {
	*raft.NetworkTransport
	layer   *layer
	greet   time.Duration
	mu      sync.Mutex
	askers  map[string]*asker
	answers atomic.Pointer[func([]byte) []byte]
}

// listen makes the node's TCP transport.
func (n *Node) listen() (*TCP, error) {
	l := n.o.Listener
	if l == nil {
		at := n.o.Listen
		if at == "" {
			at = n.address
		}
		var err error
		if l, err = net.Listen("tcp", at); err != nil {
			return nil, fmt.Errorf("listen for other coordinators: %w", err)
		}
	}
	t := &TCP{greet: max(n.timers.Failure, time.Second), askers: map[string]*asker{}}
	connect := n.o.Dial
	if connect == nil {
		connect = func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
	}
	t.layer = &layer{
		listener: l, connect: connect, lost: n.suspect, tls: n.o.TLS, address: address(n.address), greet: t.greet, log: n.log, ask: t.serve,
		accepted: make(chan net.Conn), closed: make(chan struct{}), open: map[net.Conn]bool{},
	}
	go t.layer.accept()
	t.NetworkTransport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: t.layer, MaxPool: 3, Timeout: n.timers.RPC, Logger: n.hc, ServerAddressProvider: nil,
	})
	return t, nil
}

// Refused counts connections that were refused before anything was read of them.
func (t *TCP) Refused() uint64 { return t.layer.refused.Load() }

// Close implements raft.WithClose: all connections end, so that others notice at once.
func (t *TCP) Close() error {
	err := t.NetworkTransport.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range t.askers {
		a.reset()
	}
	return err
}

// Answer implements Transport.
func (t *TCP) Answer(f func([]byte) []byte) { t.answers.Store(&f) }

// Ask implements Transport. One connection an address is kept.
func (t *TCP) Ask(ctx context.Context, address string, q []byte) ([]byte, error) {
	t.mu.Lock()
	a := t.askers[address]
	if a == nil {
		a = &asker{}
		t.askers[address] = a
	}
	t.mu.Unlock()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(t.greet)
	}
	return a.ask(t.layer, address, q, deadline)
}

// asker is a connection for questions.
type asker struct {
	mu   sync.Mutex
	conn atomic.Pointer[net.Conn]
}

func (a *asker) reset() {
	if c := a.conn.Swap(nil); c != nil {
		_ = (*c).Close() // it is given up
	}
}

func (a *asker) ask(l *layer, to string, q []byte, deadline time.Time) (answer []byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer func() {
		if err != nil {
			a.reset()
			err = fmt.Errorf("ask %s: %w", to, err)
		}
	}()
	c := a.conn.Load()
	if c == nil {
		conn, err := l.dial(to, time.Until(deadline), forAsker)
		if err != nil {
			return nil, err
		}
		c = &conn
		a.conn.Store(c)
	}
	if err := (*c).SetDeadline(deadline); err != nil {
		return nil, err
	}
	if err := writeFrame(*c, q); err != nil {
		return nil, err
	}
	return readFrame(*c)
}

// serve answers the questions of a connection until it ends.
func (t *TCP) serve(c net.Conn) {
	defer c.Close()
	for {
		q, err := readFrame(c)
		if err != nil {
			return
		}
		f := t.answers.Load()
		if f == nil {
			return
		}
		if err := c.SetWriteDeadline(time.Now().Add(t.greet)); err != nil {
			return
		}
		if err := writeFrame(c, (*f)(q)); err != nil {
			return
		}
	}
}

// writeFrame writes a length of two bytes and a message.
func writeFrame(w io.Writer, b []byte) error {
	if len(b) > maxQuestion {
		return fmt.Errorf("message of %d bytes: at most %d are allowed", len(b), maxQuestion)
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

// readFrame reads what writeFrame wrote; a longer one is refused before it is read.
func readFrame(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > maxQuestion {
		return nil, fmt.Errorf("message of %d bytes: at most %d are allowed", n, maxQuestion)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// address is where others reach a listener, which may listen elsewhere.
type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

// layer is a raft.StreamLayer that lets a connection through to Raft when it has shaken hands and greeted in time.
type layer struct {
	listener net.Listener
	connect  func(ctx context.Context, address string) (net.Conn, error)
	tls      TLS
	address  address
	greet    time.Duration // to shake hands and greet
	log      *slog.Logger
	ask      func(net.Conn)       // serves a connection of questions
	lost     func(address string) // told when a connection that a member made for Raft ends

	accepted chan net.Conn
	closed   chan struct{}
	greeting atomic.Int64
	refused  atomic.Uint64
	said     atomic.Int64 // unix ms of the last line about a refusal

	mu   sync.Mutex
	open map[net.Conn]bool
}

// accept takes connections until the listener is closed.
func (l *layer) accept() {
	for {
		c, err := l.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of files, for example
			l.log.Warn("accept a coordinator's connection", "error", err)
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-l.closed:
				return
			}
		}
		if l.greeting.Add(1) > maxGreeting || !l.track(c) {
			l.greeting.Add(-1)
			l.refuse(c, errors.New("too many connections"))
			continue
		}
		go func() {
			tracked := &conn{Conn: c, layer: l}
			ready, kind, peer, err := l.welcome(tracked)
			l.greeting.Add(-1)
			switch {
			case err != nil:
				l.refuse(tracked, err)
			case kind == forAsker:
				l.ask(ready)
			default:
				tracked.peer = peer
				select {
				case l.accepted <- ready:
				case <-l.closed:
					_ = ready.Close() // the node is closing
				}
			}
		}()
	}
}

// track remembers an open connection; false = there are too many, or the layer is closed.
func (l *layer) track(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil || len(l.open) >= maxOpen {
		return false
	}
	l.open[c] = true
	return true
}

// conn is a tracked connection.
type conn struct {
	net.Conn
	layer *layer
	peer  string // whose connection for Raft it is; "" = one that this node made, or for questions
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && c.peer != "" && !errors.Is(err, net.ErrClosed) {
		go c.layer.lost(c.peer)
	}
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.layer.mu.Lock()
	delete(c.layer.open, c.Conn)
	c.layer.mu.Unlock()
	return c.Conn.Close()
}

// welcome shakes hands with a connection and reads its greeting, in a bounded time.
func (l *layer) welcome(c net.Conn) (ready net.Conn, kind byte, peer string, err error) {
	if err := c.SetDeadline(time.Now().Add(l.greet)); err != nil {
		return nil, 0, "", err
	}
	ready = c
	if l.tls.Server != nil {
		t := tls.Server(c, l.tls.Server())
		if err := t.Handshake(); err != nil {
			return nil, 0, "", fmt.Errorf("handshake: %w", err)
		}
		ready = t
	}
	var hello [len(magic) + 2]byte
	if _, err := io.ReadFull(ready, hello[:]); err != nil {
		return nil, 0, "", fmt.Errorf("no greeting: %w", err)
	}
	kind = hello[len(magic)]
	if string(hello[:len(magic)]) != magic || kind != forRaft && kind != forAsker {
		return nil, 0, "", fmt.Errorf("greeting %q is not that of a coordinator of this version", hello)
	}
	from := make([]byte, hello[len(magic)+1])
	if _, err := io.ReadFull(ready, from); err != nil {
		return nil, 0, "", fmt.Errorf("no address in the greeting: %w", err)
	}
	return ready, kind, string(from), c.SetDeadline(time.Time{})
}

// refuse closes a connection and tells of it, at most once a second.
func (l *layer) refuse(c net.Conn, why error) {
	_ = c.Close() // it is refused
	count := l.refused.Add(1)
	now := time.Now().UnixMilli()
	if last := l.said.Load(); now-last >= 1000 && l.said.CompareAndSwap(last, now) {
		l.log.Warn("refused a connection to this coordinator's Raft", "from", c.RemoteAddr().String(), "reason", why, "refused so far", count)
	}
}

// dial connects, shakes hands and greets.
func (l *layer) dial(to string, timeout time.Duration, kind byte) (net.Conn, error) {
	deadline := time.Now().Add(timeout)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	raw, err := l.connect(ctx, to)
	if err != nil {
		return nil, err
	}
	if !l.track(raw) {
		return nil, errors.Join(raft.ErrTransportShutdown, raw.Close())
	}
	c := net.Conn(&conn{Conn: raw, layer: l})
	if err := c.SetDeadline(deadline); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if l.tls.Client != nil {
		config := l.tls.Client()
		if config.ServerName == "" {
			config = config.Clone()
			if config.ServerName, _, err = net.SplitHostPort(to); err != nil {
				return nil, errors.Join(err, c.Close())
			}
		}
		t := tls.Client(c, config)
		if err := t.Handshake(); err != nil {
			return nil, errors.Join(fmt.Errorf("handshake with %s: %w", to, err), c.Close())
		}
		c = t
	}
	own := l.address[:min(len(l.address), 255)]
	if _, err := c.Write(append([]byte(magic), append([]byte{kind, byte(len(own))}, own...)...)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, c.SetDeadline(time.Time{})
}

// Dial implements raft.StreamLayer.
func (l *layer) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return l.dial(string(to), timeout, forRaft)
}

// Accept implements net.Listener.
func (l *layer) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener: where others reach this node.
func (l *layer) Addr() net.Addr { return l.address }

// Close implements net.Listener: every connection ends.
func (l *layer) Close() error {
	l.mu.Lock()
	open := l.open
	l.open = nil
	l.mu.Unlock()
	if open == nil {
		return nil
	}
	close(l.closed)
	err := l.listener.Close()
	for c := range open {
		_ = c.Close() // whatever state it is in
	}
	return err
}
