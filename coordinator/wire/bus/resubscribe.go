package bus

import (
	"errors"
	"regexp"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// subscribed is a subscription that is made again when the server does not permit it yet: a worker may hear of its run
// from the leader a moment before the server that it is connected to does.
type subscribed struct {
	subject, queue string
	handler        nats.MsgHandler

	mu      sync.Mutex
	current *nats.Subscription
	ended   bool
	tries   int
}

// pause before a refused subscription is tried again: longer each time, at most a second.
func (s *subscribed) pause() time.Duration {
	return min(20*time.Millisecond<<min(s.tries, 6), time.Second)
}

func (c *natsCarrier) make(s *subscribed) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	if s.current != nil {
		_ = s.current.Unsubscribe() // refused by the server: there is nothing to lose
	}
	n, err := c.nats.QueueSubscribe(s.subject, s.queue, s.handler)
	if err == nil {
		err = n.SetPendingLimits(-1, pendingBytes)
	}
	s.current = n
	return err
}

func (c *natsCarrier) end(s *subscribed) {
	c.mu.Lock()
	delete(c.subscriptions, s)
	c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.current != nil {
		// The only errors of unsubscribing are that the subscription or the connection is closed already.
		_ = s.current.Unsubscribe()
	}
}

var refusedSubject = regexp.MustCompile(`Subscription to "(\S+?)"`)

// refused looks after a subject that the server did not permit, and reports whether it is tried again.
func (c *natsCarrier) refused(err error) bool {
	m := refusedSubject.FindStringSubmatch(err.Error())
	if !errors.Is(err, nats.ErrPermissionViolation) || m == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.subscriptions {
		if s.subject != m[1] {
			continue
		}
		pause := s.pause()
		s.tries++
		time.AfterFunc(pause, func() {
			if !c.nats.IsClosed() {
				_ = c.make(s) // without a connection it is made when there is one
			}
		})
		return s.tries < 5 // the first few times it is no news
	}
	return false
}
