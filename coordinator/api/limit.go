package api

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// buckets limit how often each address may ask: a bucket of burst tokens, filled at rate a second. The table is
// bounded, so that a stranger with many addresses costs neither memory nor the others' share.
type buckets struct {
	rate, burst float64
	most        int // addresses remembered
	now         func() time.Time

	mu  sync.Mutex
	all map[netip.Addr]*bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newBuckets(rate, burst float64) *buckets {
	return &buckets{rate: rate, burst: burst, most: 4096, now: time.Now, all: map[netip.Addr]*bucket{}}
}

// take takes cost tokens of an address and reports whether there was at least one.
func (b *buckets) take(who netip.Addr, cost float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	k := b.all[who]
	if k == nil {
		if len(b.all) >= b.most {
			b.forget(now)
		}
		if len(b.all) >= b.most {
			who = netip.Addr{} // all that are too many share one bucket
			k = b.all[who]
		}
		if k == nil {
			k = &bucket{tokens: b.burst, at: now}
			b.all[who] = k
		}
	}
	k.tokens = min(b.burst, k.tokens+b.rate*now.Sub(k.at).Seconds())
	k.at = now
	if k.tokens < 1 {
		return false
	}
	k.tokens -= cost
	return true
}

// forget drops the buckets that are full again: they say nothing.
func (b *buckets) forget(now time.Time) {
	for who, k := range b.all {
		if k.tokens+b.rate*now.Sub(k.at).Seconds() >= b.burst {
			delete(b.all, who)
		}
	}
}

// address is whom a request counts for: an IPv4 address, or the /64 of an IPv6 one, which is what one machine has.
func address(remote string) netip.Addr {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	if a = a.Unmap().WithZone(""); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	return a
}

// listener accepts at most so many connections at once, and from each address only so often: a stranger is turned
// away before a byte of him is read.
type listener struct {
	net.Listener
	slots   chan struct{}
	rates   *buckets
	refused func(remote net.Addr, why string)
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if !l.rates.take(address(c.RemoteAddr().String()), 1) {
			l.refused(c.RemoteAddr(), "connects too often")
			_ = c.Close()
			continue
		}
		select {
		case l.slots <- struct{}{}:
			return &slotted{Conn: c, free: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
			l.refused(c.RemoteAddr(), "too many connections")
			_ = c.Close()
		}
	}
}

type slotted struct {
	net.Conn
	free func()
}

// Close implements net.Conn.
func (c *slotted) Close() error {
	c.free()
	return c.Conn.Close()
}
