package bus

import (
	"context"
	"fmt"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// Subscription is a handler's registration.
type Subscription struct{ end func() }

// Unsubscribe ends the subscription; messages that wait are dropped.
func (s *Subscription) Unsubscribe() { s.end() }

// Publish sends m, a pointer to a wire message, to whoever subscribes to the subject now.
func (c *Conn) Publish(subject string, m any) error {
	b, err := wire.Encode(m)
	if err != nil {
		return fmt.Errorf("publish to %s: %w", subject, err)
	}
	if err := c.carrier.Publish(subject, b); err != nil {
		return fmt.Errorf("publish to %s: %w", subject, err)
	}
	return nil
}

// Subscribe calls f with every message on the subject, one after another, in a goroutine of the subscription. A
// message that is no M is dropped and raised.
func Subscribe[M any](c *Conn, subject string, f func(*M)) (*Subscription, error) {
	return c.subscribe(subject, "", func(n Message) {
		m := new(M)
		if err := wire.Decode(n.Data, m); err != nil {
			c.raise(fmt.Errorf("on %s: %w", subject, err))
			return
		}
		f(m)
	})
}

// Request sends m and waits for the answer until ctx ends. Nobody there: ErrNoResponder, at once.
func Request[Reply any](ctx context.Context, c *Conn, subject string, m any) (*Reply, error) {
	b, err := wire.Encode(m)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", subject, err)
	}
	answer, err := c.carrier.Request(ctx, subject, b)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", subject, err)
	}
	reply := new(Reply)
	if err := wire.Decode(answer, reply); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", subject, err)
	}
	return reply, nil
}

// Serve answers requests on the subject. Of several servers of one queue, one gets each request; queue "" means that
// every server gets each. f runs in the subscription's goroutine, one request after another; it may keep reply and
// call it later from anywhere, once. A request that is not answered is a timeout to the one who asked.
func Serve[Question, Reply any](c *Conn, subject, queue string, f func(q *Question, reply func(*Reply))) (*Subscription, error) {
	return c.subscribe(subject, queue, func(n Message) {
		q := new(Question)
		if err := wire.Decode(n.Data, q); err != nil {
			c.raise(fmt.Errorf("on %s: %w", subject, err))
			return
		}
		f(q, func(r *Reply) {
			b, err := wire.Encode(r)
			if err == nil {
				err = n.Respond(b)
			}
			if err != nil {
				c.raise(fmt.Errorf("answer on %s: %w", subject, err))
			}
		})
	})
}

func (c *Conn) subscribe(subject, queue string, f func(Message)) (*Subscription, error) {
	end, err := c.carrier.Subscribe(subject, queue, f)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return &Subscription{end}, nil
}
