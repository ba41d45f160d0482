package credential

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound what strangers can take of a listener before they have shown who they are.
type Limits struct {
	Handshake  time.Duration // time for the TLS handshake; 0 = 5 s
	Bytes      int64         // bytes read in it; 0 = 64 KiB
	Pending    int           // handshakes at once; 0 = 64
	PerAddress int           // connections of one address, open or in handshake; 0 = 256
	Total      int           // connections of all; 0 = 4,096
}

func (l Limits) orDefault() Limits {
	if l.Handshake <= 0 {
		l.Handshake = 5 * time.Second
	}
	if l.Bytes <= 0 {
		l.Bytes = 64 << 10
	}
	if l.Pending <= 0 {
		l.Pending = 64
	}
	if l.PerAddress <= 0 {
		l.PerAddress = 256
	}
	if l.Total <= 0 {
		l.Total = 4096
	}
	return l
}

// Listener accepts connections whose other end has shown a good certificate: Accept returns a *tls.Conn after its
// handshake. Handshakes run beside one another under Limits; one that is slow, long or refused is closed and counted,
// and holds up nobody. Without a TLS configuration, for loopback, only the limits on connections hold.
type Listener struct {
	inner    net.Listener
	config   *tls.Config
	limits   Limits
	refusals *Refusals

	ready   chan net.Conn
	pending chan struct{}
	done    chan struct{}
	failed  error // of inner, set before done is closed
	closing sync.Once
	work    sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc

	mu    sync.Mutex
	total int
	from  map[string]int
}

// NewListener wraps a listener. config nil = plain connections. It owns inner from then on.
func NewListener(inner net.Listener, config *tls.Config, limits Limits, refusals *Refusals) *Listener {
	l := &Listener{
		inner: inner, config: config, limits: limits.orDefault(), refusals: refusals,
		ready: make(chan net.Conn), done: make(chan struct{}), from: map[string]int{},
	}
	l.pending = make(chan struct{}, l.limits.Pending)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.work.Go(l.accept)
	return l
}

// Addr returns the listener's address.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Open returns how many connections are open or in handshake.
func (l *Listener) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// Accept returns the next connection that has been authenticated.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.done:
		return nil, l.failed
	}
}

// Close ends the listener and handshakes; connections that Accept has returned live on.
func (l *Listener) Close() error {
	err := l.end(net.ErrClosed)
	l.work.Wait()
	return err
}

func (l *Listener) end(why error) (err error) {
	l.closing.Do(func() {
		l.failed = why
		close(l.done)
		l.cancel()
		err = l.inner.Close()
	})
	return err
}

func (l *Listener) accept() {
	for pause := time.Duration(0); ; {
		c, err := l.inner.Accept()
		switch {
		case err == nil:
			pause = 0
		case errors.Is(err, net.ErrClosed) || l.ctx.Err() != nil:
			_ = l.end(err)
			return
		default: // out of files, for example: wait for some to be closed
			pause = min(2*pause+5*time.Millisecond, time.Second)
			select {
			case <-time.After(pause):
			case <-l.done:
				return
			}
			continue
		}
		host, reason, why := l.enter(c)
		if reason != "" {
			l.refusals.Add(reason, c.RemoteAddr().String(), why)
			_ = c.Close()
			continue
		}
		counted := &counted{Conn: c, left: l.limits.Bytes, leave: func() { l.leave(host) }}
		if l.config == nil {
			counted.opened.Store(true)
			l.work.Go(func() { l.hand(counted, counted) })
			continue
		}
		select {
		case l.pending <- struct{}{}:
		default:
			l.refusals.Add(TooMany, c.RemoteAddr().String(), fmt.Errorf("%d handshakes are under way", l.limits.Pending))
			_ = counted.Close()
			continue
		}
		l.work.Go(func() { l.handshake(counted) })
	}
}

// enter counts a connection, unless there are too many.
func (l *Listener) enter(c net.Conn) (host string, reason Reason, why error) {
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		host = c.RemoteAddr().String()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.total >= l.limits.Total:
		return host, TooMany, fmt.Errorf("%d connections are open", l.total)
	case l.from[host] >= l.limits.PerAddress:
		return host, TooManyAddress, fmt.Errorf("%s has %d connections open", host, l.from[host])
	}
	l.total++
	l.from[host]++
	return host, "", nil
}

func (l *Listener) leave(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.from[host]--; l.from[host] == 0 {
		delete(l.from, host)
	}
}

// handshake lets a connection through if its other end is who it should be.
func (l *Listener) handshake(c *counted) {
	defer func() { <-l.pending }()
	ctx, cancel := context.WithTimeout(l.ctx, l.limits.Handshake)
	defer cancel()
	secure := tls.Server(c, l.config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		var refused *RefusedError
		switch {
		case l.ctx.Err() != nil: // the listener ends
		case c.exceeded.Load():
			l.refusals.Add(TooManyBytes, c.RemoteAddr().String(), err)
		case errors.As(err, &refused): // counted where it was refused
		case errors.Is(err, context.DeadlineExceeded):
			l.refusals.Add(HandshakeSlow, c.RemoteAddr().String(), err)
		case errors.Is(err, io.EOF) && c.read.Load() == 0: // a probe: connected and left
		default:
			l.refusals.Add(reasonOf(err), c.RemoteAddr().String(), err)
		}
		return
	}
	c.opened.Store(true)
	l.hand(secure, c)
}

// hand gives a connection to Accept.
func (l *Listener) hand(c net.Conn, inner *counted) {
	select {
	case l.ready <- c:
	case <-l.done:
		_ = inner.Close()
	}
}

// counted is a connection that counts towards the limits until it is closed.
type counted struct {
	net.Conn
	left     int64 // bytes that may still be read before the connection is opened; used by its one reader
	read     atomic.Int64
	opened   atomic.Bool
	exceeded atomic.Bool
	once     sync.Once
	leave    func()
}

// Read reads, before the handshake is over no more than is left.
func (c *counted) Read(b []byte) (int, error) {
	if c.opened.Load() {
		return c.Conn.Read(b)
	}
	left := c.left - c.read.Load()
	if left <= 0 {
		c.exceeded.Store(true)
		return 0, fmt.Errorf("%d bytes before authentication", c.left)
	}
	n, err := c.Conn.Read(b[:min(int64(len(b)), left)])
	c.read.Add(int64(n))
	return n, err
}

// Close closes the connection, which then no longer counts.
func (c *counted) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.leave)
	return err
}
