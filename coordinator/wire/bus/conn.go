// Package bus moves wire messages over NATS: an embedded server, connections, and typed publish, subscribe, request
// and serve. It is the only importer of nats.go and of nats-server.
//
// NATS core is at most once: a message may be lost, and then somebody asks again (package wire's DESIGN.md). What may
// not happen is silence: a slow consumer, a message that does not decode and a lost connection all reach
// Options.Errors by name.
//
// Tests use a server that does not listen (ServerOptions.Listen "") and in-process connections: the real thing in
// 10 ms, so there is no in-memory twin that could behave otherwise.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
)

// Errors that callers decide on.
var (
	// ErrNoResponder says that nobody serves the subject now: no coordinator is up, or the worker is gone.
	ErrNoResponder = errors.New("nobody answers")
	// ErrSlowConsumer says that messages were dropped because this process did not take them in time.
	ErrSlowConsumer = errors.New("messages dropped, consumer too slow")
	// ErrDisconnected says that there is no connection now; it comes back by itself.
	ErrDisconnected = errors.New("not connected")
	// ErrClosed says that the connection was closed on this side.
	ErrClosed = errors.New("connection closed")
)

// pendingBytes bounds what waits for one subscription's handler; beyond it messages are dropped and ErrSlowConsumer
// is raised.
const pendingBytes = 256 << 20

// Options configure a connection.
type Options struct {
	Server         *Server       // a server in this process; nil = URL
	URL            string        // nats://host:port, several separated by commas
	Name           string        // the connection's name: what Disconnected is called with
	FailureTimeout time.Duration // pings derive from it; 0 = 1 s
	Log            *slog.Logger  // nil = none
	Errors         func(error)   // told of everything that went wrong in the background; may be nil
}

// Conn is a connection. It reconnects for ever, every 20 ms at first, until it is closed.
type Conn struct {
	nats *nats.Conn
	o    Options
}

// Connect connects. Until ctx ends it retries a server that cannot be reached.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FailureTimeout <= 0 {
		o.FailureTimeout = time.Second
	}
	c := &Conn{o: o}
	options := []nats.Option{
		nats.Name(o.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(20 * time.Millisecond),
		nats.ReconnectJitter(20*time.Millisecond, 20*time.Millisecond),
		nats.CustomReconnectDelay(func(attempts int) time.Duration {
			return min(20*time.Millisecond*time.Duration(attempts), o.FailureTimeout)
		}),
		nats.Timeout(max(2*o.FailureTimeout, 2*time.Second)),
		nats.PingInterval(max(o.FailureTimeout/2, 50*time.Millisecond)),
		nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1), // a publish without a connection is an error, not a message that comes late
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) { c.raise(s, err) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.raise(nil, fmt.Errorf("connection %q lost: %w", o.Name, err))
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { o.Log.Info("reconnected", "connection", o.Name) }),
	}
	if o.Server != nil {
		options = append(options, nats.InProcessServer(o.Server.nats))
	}
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		var err error
		if c.nats, err = nats.Connect(o.URL, options...); err == nil {
			return c, nil
		}
		if !errors.Is(err, nats.ErrNoServers) && !errors.Is(err, nats.ErrTimeout) {
			return nil, fmt.Errorf("connect to %s: %w", o.target(), err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to %s: %w (%w)", o.target(), err, ctx.Err())
		case <-time.After(wait):
		}
	}
}

func (o *Options) target() string {
	if o.Server != nil {
		return "the server in this process"
	}
	return o.URL
}

// raise tells Errors and the log of what happened in the background.
func (c *Conn) raise(s *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) && s != nil {
		dropped, _ := s.Dropped()
		err = fmt.Errorf("%s: %d: %w", s.Subject, dropped, ErrSlowConsumer)
	}
	c.o.Log.Warn("bus", "connection", c.o.Name, "error", err)
	if c.o.Errors != nil {
		c.o.Errors(err)
	}
}

// Connected reports whether the connection is up at this moment.
func (c *Conn) Connected() bool { return c.nats.IsConnected() }

// Name returns the connection's name.
func (c *Conn) Name() string { return c.o.Name }

// Flush waits until the server has taken everything that was published and subscribed, at most 10 s.
func (c *Conn) Flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return named(c.nats.FlushWithContext(ctx))
}

// Close closes the connection; its subscriptions end. Handlers that run go on to their end.
func (c *Conn) Close() { c.nats.Close() }
