// Package membus is a message bus in memory for simulations: bus.Carriers over a network whose faults a seed decides.
//
// It keeps what NATS promises (subjects without wildcards, queue groups, at most once, order from one sender to one
// subscriber, no responders known at once, connections whose end is told) and takes back on request what a network takes
// back: messages are dropped, delayed, repeated and overtaken, links are cut in one or both directions, connections
// break and come back, and whole hosts stand still. It uses channels, mutexes and timers only, and owns no goroutine
// that outlives its connections, so that a network lives inside a testing/synctest bubble and its time is virtual.
package membus

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// Faults are what happens to messages. Probabilities are of one message to one receiver.
type Faults struct {
	Delay     time.Duration // of every message
	Jitter    time.Duration // up to so much more, uniformly; the order between two connections stays
	Drop      float64
	Duplicate float64
	Reorder   float64       // the message may be overtaken
	Late      time.Duration // by up to so much
}

// Network is a bus. Hosts are what faults strike; each has any number of connections.
type Network struct {
	mu      sync.Mutex
	rng     *rand.Rand
	faults  Faults
	notice  func() time.Duration
	hosts   map[string]*host
	subs    map[string][]*subscription // by subject, in the order of their making
	blocked map[[2]string]bool         // from, to
	stats   Stats
}

// Stats count messages to receivers.
type Stats struct{ Delivered, Dropped, Repeated, Blocked int64 }

// host is a machine or process: its connections live, break and stand still together.
type host struct {
	name   string
	conns  map[*conn]bool
	frozen chan struct{} // closed by Thaw; nil = it runs
	held   []func()      // what it sent meanwhile
	down   bool          // disconnected
}

// New returns a network without faults. Its random choices come from seed; the end of a connection is told after notice.
func New(seed uint64, notice time.Duration) *Network {
	return &Network{
		rng: rand.New(rand.NewPCG(seed, 0x6d656d627573)), notice: func() time.Duration { return notice },
		hosts: map[string]*host{}, subs: map[string][]*subscription{}, blocked: map[[2]string]bool{},
	}
}

// SetFaults changes what happens to messages from now on.
func (n *Network) SetFaults(f Faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = f
}

// SetNotice changes after what time the end of a connection is told.
func (n *Network) SetNotice(f func() time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.notice = f
}

// Stats returns the counts so far.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// Block cuts the link in one direction, or mends it. Messages on their way arrive.
func (n *Network) Block(from, to string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if cut {
		n.blocked[[2]string{from, to}] = true
	} else {
		delete(n.blocked, [2]string{from, to})
	}
}

// Mend takes all cuts back.
func (n *Network) Mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.blocked)
}

// Freeze makes a host stand still: what it publishes and is sent waits for Thaw, and so do its requests.
func (n *Network) Freeze(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.host(name); h.frozen == nil {
		h.frozen = make(chan struct{})
	}
}

// Thaw ends a Freeze: everything that waited comes at once.
func (n *Network) Thaw(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.host(name)
	if h.frozen == nil {
		return
	}
	close(h.frozen)
	h.frozen = nil
	for _, send := range h.held {
		send()
	}
	h.held = nil
}

// Frozen returns a channel that is closed when the host runs again; nil = it runs.
func (n *Network) Frozen(name string) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.host(name).frozen
}

// Disconnect breaks all connections of a host, and everybody who watches is told. Its subscriptions come back with
// Reconnect; what was sent to them meanwhile is lost.
func (n *Network) Disconnect(name, reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.host(name)
	h.down = true
	for c := range h.conns {
		n.tell(c, reason)
	}
}

// Reconnect ends a Disconnect.
func (n *Network) Reconnect(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.host(name).down = false
}

// Kill closes all connections of a host, as the end of its process does. Requests in flight fail.
func (n *Network) Kill(name string) {
	n.mu.Lock()
	h := n.host(name)
	var all []*conn
	for c := range h.conns {
		all = append(all, c)
	}
	n.mu.Unlock()
	for _, c := range all {
		c.end("killed")
	}
	n.Thaw(name)
}

// Dial connects a host. watch is called with the name of every other connection that ends, and why; nil = nobody watches.
func (n *Network) Dial(name string, o bus.Options, watch func(name, reason string)) (*bus.Conn, error) {
	return bus.Over(o, func(func(error)) (bus.Carrier, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		h := n.host(name)
		c := &conn{net: n, host: h, name: o.Name, watch: watch, closed: make(chan struct{}), subs: map[*subscription]bool{}}
		h.conns[c] = true
		return c, nil
	})
}

// Connections returns how many connections are open.
func (n *Network) Connections() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for _, h := range n.hosts {
		count += len(h.conns)
	}
	return count
}

func (n *Network) host(name string) *host {
	h := n.hosts[name]
	if h == nil {
		h = &host{name: name, conns: map[*conn]bool{}}
		n.hosts[name] = h
	}
	return h
}

// tell calls those who watch, after a while, with the end of c. The caller holds the lock.
func (n *Network) tell(c *conn, reason string) {
	for _, h := range n.hosts {
		for w := range h.conns {
			if w != c && w.watch != nil && !h.down && !n.blocked[[2]string{c.host.name, h.name}] {
				time.AfterFunc(n.notice(), func() {
					select {
					case <-w.closed:
					default:
						w.watch(c.name, reason)
					}
				})
			}
		}
	}
}

// fate decides when a message from one host to another arrives, how often, and whether it may be overtaken. The caller
// holds the lock.
func (n *Network) fate(from, to *host) (delays []time.Duration, overtaken bool) {
	if from == to {
		n.stats.Delivered++
		return []time.Duration{0}, false
	}
	if from.down || to.down || n.blocked[[2]string{from.name, to.name}] {
		n.stats.Blocked++
		return nil, false
	}
	f := &n.faults
	if f.Drop > 0 && n.rng.Float64() < f.Drop {
		n.stats.Dropped++
		return nil, false
	}
	delays = append(delays, n.delay())
	if f.Reorder > 0 && n.rng.Float64() < f.Reorder {
		overtaken = true
		delays[0] += n.within(f.Late)
	}
	if f.Duplicate > 0 && n.rng.Float64() < f.Duplicate {
		n.stats.Repeated++
		delays = append(delays, delays[0]+n.within(f.Late))
	}
	n.stats.Delivered++
	return delays, overtaken
}

// ErrCut says that a link is cut.
var ErrCut = errors.New("the link is cut")

// Travel says how a message of another protocol fares between two hosts, over connections that lose nothing: after how
// long it arrives, or that the link is cut or one of them stands still.
func (n *Network) Travel(from, to string) (time.Duration, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, b := n.host(from), n.host(to)
	if a.down || b.down || a.frozen != nil || b.frozen != nil || n.blocked[[2]string{from, to}] {
		return 0, ErrCut
	}
	return n.delay(), nil
}

func (n *Network) delay() time.Duration { return n.faults.Delay + n.within(n.faults.Jitter) }

func (n *Network) within(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(n.rng.Int64N(int64(d)))
}

// String says what the network is like now, for a test that fails.
func (n *Network) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return fmt.Sprintf("%+v, %d hosts, blocked %v, %+v", n.faults, len(n.hosts), n.blocked, n.stats)
}
