package direct

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// Counters say how often what went wrong.
type Counters struct {
	Refused, Damaged, Oversized, Credit, Slow int64
}

type counters struct{ refused, damaged, oversized, credit, slow atomic.Int64 }

// Counters returns what went wrong so far.
func (n *Node) Counters() Counters {
	c := &n.counters
	return Counters{c.refused.Load(), c.damaged.Load(), c.oversized.Load(), c.credit.Load(), c.slow.Load()}
}

// note counts what ended a connection, and names it in the log. A connection that the other side just closed is no news.
func (n *Node) note(where string, err error) {
	named := true
	for _, k := range []struct {
		is    error
		count *atomic.Int64
	}{
		{ErrRefused, &n.counters.refused},
		{ErrDamaged, &n.counters.damaged},
		{ErrOversized, &n.counters.oversized},
		{ErrCredit, &n.counters.credit},
		{ErrSlow, &n.counters.slow},
		{nil, nil},
	} {
		if k.is == nil {
			named = false
		} else if errors.Is(err, k.is) {
			k.count.Add(1)
			break
		}
	}
	if named {
		n.o.Log.Warn("direct connection ended", "with", where, "err", err)
	} else if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		n.o.Log.Debug("direct connection ended", "with", where, "err", err)
	}
}

// accept takes connections until the listener is closed.
func (n *Node) accept() {
	for {
		c, err := n.listener.Accept()
		if err != nil {
			if n.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			n.o.Log.Warn("direct listener", "err", err) // too many open files, for instance: it may pass
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-n.ctx.Done():
				return
			}
		}
		n.mu.Lock()
		full := len(n.inbound) >= n.o.Accepted
		if !n.closed && !full {
			n.inbound[c] = true
		}
		closed := n.closed
		n.mu.Unlock()
		if closed || full {
			if full {
				n.note(c.RemoteAddr().String(), fmt.Errorf("%d connections already: %w", n.o.Accepted, ErrRefused))
			}
			c.Close()
			continue
		}
		n.running.Go(func() {
			defer func() {
				c.Close()
				n.mu.Lock()
				delete(n.inbound, c)
				n.mu.Unlock()
			}()
			n.note(c.RemoteAddr().String(), n.serve(c))
		})
	}
}

// serve answers the questions of one connection; the error says how it ended.
func (n *Node) serve(c net.Conn) error {
	select {
	case n.shaking <- struct{}{}:
	case <-time.After(n.o.Failure):
		return fmt.Errorf("%d handshakes at once: %w", cap(n.shaking), ErrRefused)
	case <-n.ctx.Done():
		return ErrClosed
	}
	if n.o.Server != nil {
		c = tls.Server(c, n.o.Server)
	}
	s, err := n.meet(c)
	<-n.shaking
	if err != nil {
		return slow(err)
	}
	if !s.adopt(c) {
		return ErrClosed
	}
	defer s.drop(c)
	r := newReader(c, question, 0, &n.o)
	var writing sync.Mutex
	var inFlight atomic.Int32
	for {
		f, err := r.next()
		if err != nil {
			return err
		}
		if int(inFlight.Add(1)) > n.o.Window {
			return fmt.Errorf("%d in flight: %w", n.o.Window, ErrCredit)
		}
		q := new(wire.ChunkRequest)
		if err := wire.Decode(f.head, q); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		s.answer(func() {
			a, done := s.handle(s.ctx, q)
			if done != nil {
				defer done()
			}
			head := *a
			head.Payload = nil
			b, err := wire.Encode(&head)
			if err == nil && len(b) > maxHead { // an error text without end
				head.Err = fmt.Sprintf("%.1000s", head.Err)
				b, err = wire.Encode(&head)
			}
			writing.Lock()
			defer writing.Unlock()
			inFlight.Add(-1)
			if err == nil {
				err = (&frame{kind: answer, id: f.id, head: b, payload: a.Payload}).write(c, time.Now().Add(2*n.o.Failure))
			}
			if err != nil {
				n.note(c.RemoteAddr().String(), err)
				c.Close()
			}
		})
	}
}
