// Package bus moves wire messages over NATS: an embedded server, connections, and typed publish, subscribe, request
// and serve. It is the only importer of nats.go and of nats-server.
//
// NATS core is at most once: a message may be lost, and then somebody asks again (package wire's DESIGN.md). What may
// not happen is silence: a slow consumer, a message that does not decode and a lost connection all reach
// Options.Errors by name.
//
// Tests use a server that does not listen (ServerOptions.Listen "") and in-process connections: the real thing in
// 10 ms. Only simulations in virtual time, where no socket may wait, use another Carrier, package membus; the same
// conformance test runs over both.
package bus

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
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

// Options configure a connection.
type Options struct {
	Server         *Server            // a server in this process; nil = URL
	URL            string             // nats://host:port, several separated by commas
	Name           string             // the connection's name: what Disconnected is called with
	TLS            *credential.Source // own certificate, and the CA that the server must be of; nil = plain. Not with Server
	Key            *Key               // of a worker, where the server asks for certificates
	Token          credential.Secret  // join token, shown with every hello until the key is admitted
	FailureTimeout time.Duration      // pings derive from it; 0 = 1 s
	Log            *slog.Logger       // nil = none
	Errors         func(error)        // told of everything that went wrong in the background; may be nil
}

// Conn is a connection. It reconnects for ever, every 20 ms at first, until it is closed.
type Conn struct {
	carrier Carrier
	o       Options
}

// Carrier is what a connection's messages go over: NATS, or the memory network of simulations. Its errors that callers
// decide on are this package's.
type Carrier interface {
	// Publish sends payload, which it does not keep, to whoever subscribes to the subject now.
	Publish(subject string, payload []byte) error
	// Subscribe calls f with every message on the subject, one after another. Of several subscribers of one queue, one
	// gets each message; queue "" is every one. Messages that wait are dropped when unsubscribe is called.
	Subscribe(subject, queue string, f func(Message)) (unsubscribe func(), err error)
	// Request sends payload and waits for one answer until ctx ends; ErrNoResponder, at once, when nobody subscribes.
	Request(ctx context.Context, subject string, payload []byte) ([]byte, error)
	// Flush waits until everything that was published and subscribed has been taken.
	Flush(ctx context.Context) error
	Connected() bool
	Close()
}

// Message is what a subscriber is given.
type Message struct {
	Data []byte
	// Respond answers a request, once; who asked may be gone, which is no error. A message that is no request has no use
	// for it and drops it.
	Respond func(payload []byte) error
}

func (o Options) defaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FailureTimeout <= 0 {
		o.FailureTimeout = time.Second
	}
	return o
}

// Over returns a connection over a carrier, which it closes when it is closed. Background errors of the carrier come to
// raise, which may be called from any goroutine.
func Over(o Options, dial func(raise func(error)) (Carrier, error)) (*Conn, error) {
	o = o.defaults()
	c := &Conn{o: o}
	var err error
	if c.carrier, err = dial(c.raise); err != nil {
		return nil, err
	}
	return c, nil
}

// raise tells Errors and the log of what happened in the background.
func (c *Conn) raise(err error) {
	c.o.Log.Warn("bus", "connection", c.o.Name, "error", err)
	if c.o.Errors != nil {
		c.o.Errors(err)
	}
}

// Connected reports whether the connection is up at this moment.
func (c *Conn) Connected() bool { return c.carrier.Connected() }

// Name returns the connection's name.
func (c *Conn) Name() string { return c.o.Name }

// Introduce completes a worker's hello with its key, its signature and the join token, if the connection has a key.
func (c *Conn) Introduce(m *wire.Hello) error {
	if c.o.Key == nil {
		return nil
	}
	return c.o.Key.introduce(m, c.o.Token)
}

// Flush waits until the server has taken everything that was published and subscribed, at most 10 s.
func (c *Conn) Flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return c.carrier.Flush(ctx)
}

// Close closes the connection; its subscriptions end. Handlers that run go on to their end.
func (c *Conn) Close() { c.carrier.Close() }
