package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// pendingBytes bounds what waits for one subscription's handler; beyond it messages are dropped and ErrSlowConsumer
// is raised.
const pendingBytes = 256 << 20

// natsCarrier is a Carrier over a NATS connection. It reconnects for ever, every 20 ms at first, until it is closed.
type natsCarrier struct {
	nats *nats.Conn

	mu            sync.Mutex
	subscriptions map[*subscribed]bool
	link          context.Context // of this connection; ends when it is lost, and another begins
	sever         context.CancelFunc
}

// lose ends what waits for answers on a connection that is lost: they will not come, and whoever asked asks again.
func (c *natsCarrier) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sever()
	c.link, c.sever = context.WithCancel(context.Background())
}

// Connect connects over NATS. Until ctx ends it retries a server that cannot be reached.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	return Over(o, func(raise func(error)) (Carrier, error) { return dialNATS(ctx, o, raise) })
}

func dialNATS(ctx context.Context, o Options, raise func(error)) (Carrier, error) {
	o = o.defaults()
	carrier := &natsCarrier{subscriptions: map[*subscribed]bool{}}
	carrier.link, carrier.sever = context.WithCancel(context.Background())
	timers := NewTimers(o.FailureTimeout)
	options := []nats.Option{
		nats.Name(o.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(20 * time.Millisecond),
		nats.ReconnectJitter(20*time.Millisecond, 20*time.Millisecond),
		nats.CustomReconnectDelay(func(attempts int) time.Duration {
			return min(20*time.Millisecond*time.Duration(attempts), timers.Retry)
		}),
		nats.Timeout(max(2*o.FailureTimeout, 2*time.Second)),
		nats.PingInterval(timers.Ping),
		nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1), // a publish without a connection is an error, not a message that comes late
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			if !carrier.refused(err) {
				raise(lost(s, err))
			}
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			carrier.lose()
			if err != nil {
				raise(fmt.Errorf("connection %q lost: %w", o.Name, err))
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { o.Log.Info("reconnected", "connection", o.Name) }),
	}
	if o.Server != nil {
		options = append(options, nats.InProcessServer(o.Server.nats))
	}
	options = append(options, o.identity()...)
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		c, err := nats.Connect(o.URL, options...)
		if err == nil {
			if limit := c.MaxPayload(); limit < wire.MaxMessage {
				c.Close()
				return nil, fmt.Errorf("%s takes messages of at most %d bytes: its max_payload must be %d or more", o.target(), limit, wire.MaxMessage)
			}
			carrier.nats = c
			return carrier, nil
		}
		// An end in the middle of the greeting is a server that goes down, or something before it whose server is not up yet.
		if !errors.Is(err, nats.ErrNoServers) && !errors.Is(err, nats.ErrTimeout) && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			return nil, fmt.Errorf("connect to %s: %w", o.target(), refusedBy(err))
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

// lost says what a subscription that was too slow lost.
func lost(s *nats.Subscription, err error) error {
	if errors.Is(err, nats.ErrSlowConsumer) && s != nil {
		dropped, _ := s.Dropped()
		return fmt.Errorf("%s: %d: %w", s.Subject, dropped, ErrSlowConsumer)
	}
	return err
}

// Publish implements Carrier.
func (c *natsCarrier) Publish(subject string, payload []byte) error {
	return named(c.nats.Publish(subject, payload))
}

// Subscribe implements Carrier: one after another means in a goroutine of the subscription.
func (c *natsCarrier) Subscribe(subject, queue string, f func(Message)) (func(), error) {
	s := &subscribed{subject: subject, queue: queue, handler: func(n *nats.Msg) {
		f(Message{Data: n.Data, Respond: func(payload []byte) error {
			err := n.Respond(payload)
			if errors.Is(err, nats.ErrMsgNoReply) || errors.Is(err, nats.ErrConnectionClosed) {
				return nil // the one who asked may be gone: that is not this side's trouble
			}
			return named(err)
		}})
	}}
	c.mu.Lock()
	c.subscriptions[s] = true
	c.mu.Unlock()
	if err := c.make(s); err != nil {
		c.end(s)
		return nil, named(err)
	}
	return func() { c.end(s) }, nil
}

// Request implements Carrier.
func (c *natsCarrier) Request(ctx context.Context, subject string, payload []byte) ([]byte, error) {
	c.mu.Lock()
	link := c.link
	c.mu.Unlock()
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(link, cancel)()
	n, err := c.nats.RequestWithContext(asking, subject, payload)
	switch {
	case err != nil && ctx.Err() == nil && link.Err() != nil:
		return nil, ErrDisconnected
	case err != nil:
		return nil, named(err)
	}
	return n.Data, nil
}

// Flush implements Carrier.
func (c *natsCarrier) Flush(ctx context.Context) error { return named(c.nats.FlushWithContext(ctx)) }

// Connected implements Carrier.
func (c *natsCarrier) Connected() bool { return c.nats.IsConnected() }

// Close implements Carrier.
func (c *natsCarrier) Close() { c.nats.Close() }

// named replaces the library's errors that callers decide on by ours.
func named(err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return ErrNoResponder
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionReconnecting):
		return ErrDisconnected
	case errors.Is(err, nats.ErrConnectionClosed):
		return ErrClosed
	case errors.Is(err, nats.ErrPermissionViolation):
		return fmt.Errorf("%w: %w", ErrNotPermitted, err)
	}
	return err
}
