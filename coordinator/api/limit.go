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
