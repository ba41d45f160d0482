package membus

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// conn is a bus.Carrier. The network's lock guards its subscriptions.
type conn struct {
	net    *Network
	host   *host
	name   string
	watch  func(name, reason string)
	subs   map[*subscription]bool
	once   sync.Once
	closed chan struct{}
}

// subscription is one registration with its goroutine.
type subscription struct {
	conn           *conn
	subject, queue string
	f              func(bus.Message)
	waiting        deliveries          // guarded by the network's lock
	last           map[*conn]time.Time // arrival of the newest message of each sender
	wake           chan struct{}       // holds one
	done           chan struct{}
	sequence       uint64
}

// delivery is a message on its way.
type delivery struct {
	due      time.Time
	sequence uint64
	message  bus.Message
}

// deliveries is a heap by arrival.
type deliveries []delivery

func (d deliveries) Len() int      { return len(d) }
func (d deliveries) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d deliveries) Less(i, j int) bool {
	return d[i].due.Before(d[j].due) || d[i].due.Equal(d[j].due) && d[i].sequence < d[j].sequence
}
func (d *deliveries) Push(x any) { *d = append(*d, x.(delivery)) }
func (d *deliveries) Pop() any {
	old := *d
	last := old[len(old)-1]
	old[len(old)-1] = delivery{}
	*d = old[:len(old)-1]
	return last
}

// Publish implements bus.Carrier.
func (c *conn) Publish(subject string, payload []byte) error {
	n := c.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := c.usable(); err != nil {
		return err
	}
	payload = slices.Clone(payload)
	c.whenThawed(func() { c.send(subject, payload, nil) })
	return nil
}

// whenThawed sends now, or when a host that stands still runs again. The caller holds the network's lock.
func (c *conn) whenThawed(send func()) {
	if c.host.frozen != nil {
		c.host.held = append(c.host.held, send)
		return
	}
	send()
}

// usable returns why nothing can be sent; the caller holds the network's lock.
func (c *conn) usable() error {
	select {
	case <-c.closed:
		return bus.ErrClosed
	default:
	}
	if c.host.down {
		return bus.ErrDisconnected
	}
	return nil
}

// send hands a message to every subscriber and to one of each queue, and reports whether there is any. answered takes
// the answers; nil = it is no request. The caller holds the network's lock.
func (c *conn) send(subject string, payload []byte, answered func(by *conn, payload []byte)) bool {
	n := c.net
	var to []*subscription
	queues := map[string][]*subscription{}
	for _, s := range n.subs[subject] {
		switch {
		case s.conn.host.down:
		case s.queue == "":
			to = append(to, s)
		default:
			queues[s.queue] = append(queues[s.queue], s)
		}
	}
	for _, q := range queues {
		to = append(to, q[n.rng.IntN(len(q))])
	}
	for _, s := range to {
		delays, overtaken := n.fate(c.host, s.conn.host)
		for i, d := range delays {
			due, free := time.Now().Add(d), overtaken || i > 0 // a repetition comes whenever
			if last := s.last[c]; !free && due.Before(last) {
				due = last
			}
			if !free {
				s.last[c] = due
			}
			s.sequence++
			heap.Push(&s.waiting, delivery{due, s.sequence, bus.Message{Data: payload, Respond: s.conn.answering(answered)}})
		}
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return len(to) > 0
}

// answering returns the Respond of a message that came to c.
func (c *conn) answering(answered func(by *conn, payload []byte)) func([]byte) error {
	return func(payload []byte) error {
		if answered == nil {
			return nil
		}
		n := c.net
		n.mu.Lock()
		defer n.mu.Unlock()
		if err := c.usable(); err != nil {
			return nil // whoever died or is cut off says nothing, and needs no telling
		}
		payload = slices.Clone(payload)
		c.whenThawed(func() { answered(c, payload) })
		return nil
	}
}

// Subscribe implements bus.Carrier.
func (c *conn) Subscribe(subject, queue string, f func(bus.Message)) (func(), error) {
	n := c.net
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-c.closed:
		return nil, bus.ErrClosed
	default:
	}
	s := &subscription{
		conn: c, subject: subject, queue: queue, f: f, last: map[*conn]time.Time{}, wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	n.subs[subject] = append(n.subs[subject], s)
	c.subs[s] = true
	go s.run()
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		s.end()
	}, nil
}

// end takes a subscription out; the caller holds the network's lock.
func (s *subscription) end() {
	if !s.conn.subs[s] {
		return
	}
	delete(s.conn.subs, s)
	n := s.conn.net
	n.subs[s.subject] = slices.DeleteFunc(n.subs[s.subject], func(x *subscription) bool { return x == s })
	if len(n.subs[s.subject]) == 0 {
		delete(n.subs, s.subject)
	}
	close(s.done)
}

// run delivers until the subscription ends.
func (s *subscription) run() {
	n := s.conn.net
	for {
		n.mu.Lock()
		wait, next := time.Duration(-1), (*bus.Message)(nil)
		frozen := s.conn.host.frozen
		if len(s.waiting) > 0 && frozen == nil {
			if wait = time.Until(s.waiting[0].due); wait <= 0 {
				m := heap.Pop(&s.waiting).(delivery).message
				next = &m
			}
		}
		n.mu.Unlock()
		if next != nil {
			select {
			case <-s.done:
				return
			default:
				s.f(*next)
			}
			continue
		}
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-s.wake:
		case <-due:
		case <-frozen: // nil unless the host stands still
		case <-s.done:
			return
		}
	}
}

// answer is what came for a request, to be heard when it is due.
type answer struct {
	due     time.Time
	payload []byte
}

// Request implements bus.Carrier.
func (c *conn) Request(ctx context.Context, subject string, payload []byte) ([]byte, error) {
	n := c.net
	if err := c.thawed(ctx); err != nil {
		return nil, err
	}
	answers := make(chan answer, 1)
	n.mu.Lock()
	if err := c.usable(); err != nil {
		n.mu.Unlock()
		return nil, err
	}
	there := c.send(subject, slices.Clone(payload), func(by *conn, payload []byte) {
		if delays, _ := n.fate(by.host, c.host); len(delays) > 0 {
			select {
			case answers <- answer{time.Now().Add(delays[0]), payload}:
			default: // only the first counts
			}
		}
	})
	n.mu.Unlock()
	if !there {
		return nil, bus.ErrNoResponder
	}
	var got answer
	select {
	case got = <-answers:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.closed:
		return nil, bus.ErrClosed
	}
	if wait := time.Until(got.due); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.closed:
			return nil, bus.ErrClosed
		}
	}
	if err := c.thawed(ctx); err != nil {
		return nil, err
	}
	return got.payload, nil
}

// thawed waits while the host stands still.
func (c *conn) thawed(ctx context.Context) error {
	for {
		frozen := c.net.Frozen(c.host.name)
		if frozen == nil {
			return nil
		}
		select {
		case <-frozen:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.closed:
			return bus.ErrClosed
		}
	}
}

// Flush implements bus.Carrier: everything is taken at once.
func (c *conn) Flush(context.Context) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	return c.usable()
}

// Connected implements bus.Carrier.
func (c *conn) Connected() bool {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	return c.usable() == nil
}

// Close implements bus.Carrier.
func (c *conn) Close() { c.end("client closed") }

func (c *conn) end(reason string) {
	c.once.Do(func() {
		n := c.net
		n.mu.Lock()
		defer n.mu.Unlock()
		close(c.closed)
		for s := range c.subs {
			s.end()
		}
		delete(c.host.conns, c)
		n.tell(c, reason)
	})
}
