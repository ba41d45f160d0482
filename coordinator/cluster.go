package coordinator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/consensus"
	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// Coordinator is one of cluster.coordinators: who it is, and where the others, workers and users reach it.
type Coordinator struct {
	Name  string `yaml:"name,omitempty" json:"name,omitempty"`
	Raft  string `yaml:"raft,omitempty" json:"raft,omitempty"`   // host:port for the other coordinators
	NATS  string `yaml:"nats,omitempty" json:"nats,omitempty"`   // host:port for workers
	Route string `yaml:"route,omitempty" json:"route,omitempty"` // host:port for the other coordinators' NATS servers
	API   string `yaml:"api,omitempty" json:"api,omitempty"`     // host:port of the HTTP API
}

// NATS is cluster.nats: the user's own NATS servers in place of the embedded ones.
type NATS struct {
	URL string `yaml:"url,omitempty" json:"url,omitempty"` // nats://host:port, several separated by commas
}

// FindCoordinator returns which of the coordinators this process is: the one of that name, or, without a name, the one
// that is called like this host, or the only one whose Raft address is of this host.
func FindCoordinator(all []Coordinator, name string) (Coordinator, error) {
	var names []string
	for _, c := range all {
		if names = append(names, c.Name); c.Name == name {
			return c, nil
		}
	}
	if name != "" {
		return Coordinator{}, fmt.Errorf("--name %s: it is not among cluster.coordinators: %s", name, strings.Join(names, ", "))
	}
	host, _ := os.Hostname() // "" is like none
	here, _ := net.InterfaceAddrs()
	var found []Coordinator
	for _, c := range all {
		if c.Name == host {
			return c, nil
		}
		at, _, _ := net.SplitHostPort(c.Raft)
		if slices.ContainsFunc(here, func(a net.Addr) bool { ip, ok := a.(*net.IPNet); return ok && ip.IP.String() == at }) {
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		return Coordinator{}, fmt.Errorf("which of cluster.coordinators is this? --name is needed: %s", strings.Join(names, ", "))
	}
	return found[0], nil
}

// name is this coordinator's, for connections and logs.
func (n *Node) name() string {
	if n.o.Name == "" {
		return "coordinator"
	}
	return n.o.Name
}

// consensus returns the options of this node's member of the group.
func (n *Node) consensus() consensus.Options {
	o := consensus.Options{Dir: n.o.Dir, Name: n.name(), FailureTimeout: n.timers.Failure, Version: n.o.Version, Log: n.o.Log, Store: n.o.Cluster.Store}
	for _, c := range n.o.Cluster.Coordinators {
		o.Servers = append(o.Servers, consensus.Server{Name: c.Name, Address: c.Raft})
	}
	if s := n.guard.source; s != nil {
		o.TLS = consensus.TLS{
			Server: func() *tls.Config { return s.ServerConfig(credential.Coordinator) },
			Client: func() *tls.Config { return s.ClientConfig("", credential.Coordinator) },
		}
	}
	if n.o.Consensus != nil {
		n.o.Consensus(&o)
	}
	return o
}

// routes returns how this node's NATS server joins the others'; nil = it is alone.
func (n *Node) routes() *bus.Cluster {
	if len(n.o.Cluster.Coordinators) == 0 {
		return nil
	}
	c := &bus.Cluster{Name: n.name()}
	if n.guard.source != nil {
		c.TLS = n.guard.source.MeshConfig(credential.Coordinator)
	}
	for _, other := range n.o.Cluster.Coordinators {
		if other.Name == n.name() {
			c.Listen, c.Advertise = other.Route, other.NATS
		} else {
			c.Routes = append(c.Routes, other.Route)
		}
	}
	return c
}

// borrow connects to the user's own NATS servers. Those tell nobody who is gone: workers are lost by their silence.
func (n *Node) borrow() (err error) {
	n.conn, err = bus.Connect(n.closing, bus.Options{URL: n.o.Cluster.NATS.URL, Name: n.name(), FailureTimeout: n.timers.Failure, Log: n.o.Log})
	return err
}

// Join returns what workers are given to join, of all coordinators; "" when nothing listens.
func (n *Node) Join() string {
	if u := n.o.Cluster.NATS.URL; u != "" {
		return redacted(u)
	}
	var all []string
	for _, c := range n.o.Cluster.Coordinators {
		all = append(all, "nats://"+c.NATS)
	}
	if len(all) == 0 {
		return n.URL()
	}
	return strings.Join(all, ",")
}

// redacted hides the passwords of URLs.
func redacted(list string) string {
	urls := strings.Split(list, ",")
	for i, text := range urls {
		if u, err := url.Parse(strings.TrimSpace(text)); err == nil {
			urls[i] = u.Redacted()
		} else {
			urls[i] = "?"
		}
	}
	return strings.Join(urls, ",")
}

// errLeft ends Run of a node that has left.
var errLeft = errors.New("this coordinator leaves")

// Leave hands leadership over, if this node leads, and ends Run: what SIGTERM is for one of several coordinators. The
// run goes on under the others.
func (n *Node) Leave(ctx context.Context) {
	began := time.Now()
	leads := n.raft.Leader() == n.name()
	switch err := n.raft.Transfer(ctx); {
	case err != nil:
		n.o.Log.Warn("leadership not handed over; the others elect", "error", err)
	case leads:
		n.o.Log.Info("leadership handed over", "took", time.Since(began).Round(time.Microsecond))
	}
	n.leave(errLeft)
}

// follow waits until this node leads. While it follows, it drops what is meant for a leader, and notices that the run is
// over: then nobody will lead any more.
func (n *Node) follow(ctx context.Context) (term uint64, lost <-chan struct{}, over bool, err error) {
	type lead struct {
		term uint64
		lost <-chan struct{}
		err  error
	}
	led := make(chan lead, 1)
	waiting, stop := context.WithCancel(ctx)
	go func() {
		term, lost, err := n.raft.Lead(waiting)
		led <- lead{term, lost, err}
	}()
	tick := time.NewTicker(n.timers.Failure / 4)
	defer tick.Stop()
	for {
		select {
		case l := <-led:
			context.AfterFunc(ctx, stop) // its loss is told until then
			return l.term, l.lost, false, l.err
		case <-n.inbox:
		case <-tick.C:
			n.openRuns()
			if n.concluded() {
				stop()
				if l := <-led; l.err == nil {
					return l.term, l.lost, false, nil
				}
				return 0, nil, true, nil
			}
		}
	}
}

// concluded reports whether the own run ended, under this leader or another, and no other works.
func (n *Node) concluded() bool {
	if len(n.o.Cluster.Coordinators) == 0 || n.first == nil || n.o.Stay && n.o.Host != nil {
		return false
	}
	var own *fsm.Run
	for _, run := range n.machine.State().Runs {
		if run.State.Working() {
			n.worked = true
			return false
		}
		if run.Name == n.o.Run.Name && run.Identity == n.o.Run.Identity {
			own = run
		}
	}
	return own != nil && (own.State.Over() || !n.o.Stay) && (n.worked || !n.o.Resume)
}

// settle lets the others learn of the run's end, which the last of them could not find out alone.
func (n *Node) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*n.timers.Failure)
	defer cancel()
	if err := n.raft.Settle(ctx); err != nil {
		n.o.Log.Warn("a coordinator may not know that the run is over", "error", err)
	}
}

// CoordinatorStatus is a coordinator as the leader sees it.
type CoordinatorStatus struct {
	Name    string  `json:"name"`
	Role    string  `json:"role"` // leader, follower
	Voter   bool    `json:"voter"`
	Silent  float64 `json:"silent_seconds"` // since it was last heard; -1 = never
	Last    uint64  `json:"last_index"`
	Commit  uint64  `json:"commit_index"` // the leader's
	Applied uint64  `json:"applied_index"`
	Slowest float64 `json:"slowest_write_ms"` // of its log, of late
	Version string  `json:"version,omitempty"`
	Unfit   string  `json:"unfit,omitempty"` // why it cannot lead
}

// coordinators returns the group for status.
func (n *Node) coordinators() (out []CoordinatorStatus) {
	commit := n.raft.Stats().Commit
	for _, m := range n.raft.Members() {
		s := CoordinatorStatus{
			Name: m.Name, Role: "follower", Voter: m.Voter, Silent: m.Silent.Seconds(), Last: m.Last, Commit: commit, Applied: m.Applied,
			Slowest: float64(m.Slowest.Microseconds()) / 1000, Version: m.Version, Unfit: m.Unfit,
		}
		if m.Leader {
			s.Role = "leader"
		}
		if m.Silent < 0 {
			s.Silent = -1
		}
		out = append(out, s)
	}
	return out
}

// Leader returns the name of the coordinator that leads; "" while none is known.
func (n *Node) Leader() string { return n.raft.Leader() }
