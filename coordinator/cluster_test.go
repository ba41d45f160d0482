package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// trio is three coordinators of one run, and their fleet.
type trio struct {
	t     testing.TB
	rig   *rig // options of a coordinator alone
	all   []coordinator.Coordinator
	nodes map[string]*coordinator.Node
	stop  map[string]context.CancelFunc
	mu    sync.Mutex
	ends  map[string]result
	runs  sync.WaitGroup
}

func newTrio(t testing.TB, steps int64) *trio {
	g := &trio{t: t, rig: newRig(t, steps), nodes: map[string]*coordinator.Node{}, stop: map[string]context.CancelFunc{}, ends: map[string]result{}}
	var taken []net.Listener
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, l)
		return l.Addr().String()
	}
	for _, name := range []string{"a", "b", "c"} {
		g.all = append(g.all, coordinator.Coordinator{Name: name, Raft: free(), NATS: free(), Route: free()})
	}
	for _, l := range taken {
		_ = l.Close()
	}
	return g
}

func (g *trio) start(name string) {
	g.t.Helper()
	o := g.rig.o
	o.Dir, o.Name, o.Alone, o.Cluster.Coordinators = filepath.Join(g.rig.o.Dir, name), name, false, g.all
	for _, c := range g.all {
		if c.Name == name {
			o.Cluster.Listen = c.NATS
		}
	}
	if testing.Verbose() {
		o.Log = slog.New(slog.NewTextHandler(g.t.Output(), nil)).With("node", name)
	}
	n, err := coordinator.Open(o)
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.nodes[name], g.stop[name] = n, cancel
	g.runs.Go(func() {
		outcome, err := n.Run(ctx)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.ends[name] = result{outcome, err}
	})
}

// end waits until a node's Run has returned.
func (g *trio) end(name string) result {
	g.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		g.mu.Lock()
		r, ok := g.ends[name]
		g.mu.Unlock()
		if ok {
			return r
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("Run of %s does not end; %+v", name, g.nodes[name].State().Runs)
		}
	}
}

// leader returns the name of whoever leads.
func (g *trio) leader() string {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		for name, n := range g.nodes {
			if n.Leader() == name {
				return name
			}
		}
		if time.Now().After(deadline) {
			g.t.Fatal("nobody leads after 30s")
		}
	}
}

// kill ends a node as kill -9 does.
func (g *trio) kill(name string) {
	g.stop[name]()
	g.end(name)
	if err := g.nodes[name].Close(); err != nil {
		g.t.Error(err)
	}
	g.mu.Lock()
	delete(g.ends, name)
	g.mu.Unlock()
	delete(g.nodes, name)
}

// Leaders are killed and told to leave while workers compute; every shard of every step still counts once, no committed
// step is lost, and the last two coordinators both learn of the end.
func TestThreeCoordinators(t *testing.T) {
	const steps = 60
	g := newTrio(t, steps)
	for _, c := range g.all {
		g.start(c.Name)
	}
	var urls []string
	for _, c := range g.all {
		urls = append(urls, "nats://"+c.NATS)
	}
	first := g.leader()
	if got, want := g.nodes[first].Join(), strings.Join(urls, ","); got != want {
		t.Errorf("Join() = %s, want %s", got, want)
	}
	f := newFleet(t, nil, failure, 1)
	f.url = strings.Join(urls, ",")
	workers := []*fake{f.start("w0"), f.start("w1"), f.start("w2")}

	g.rig.until(coordinator.StepCommitted, 10)
	before := g.nodes[first].State().Runs[0].Committed()
	began := time.Now()
	g.kill(first)
	second := g.leader()
	g.rig.until(coordinator.StepCommitted, len(g.rig.of(coordinator.StepCommitted))+1)
	t.Logf("leader %s killed at step %d, %s commits after %v", first, before, second, time.Since(began))
	if after := g.nodes[second].State().Runs[0].Committed(); after < before {
		t.Errorf("%d steps committed after the leader was killed, %d before", after, before)
	}
	g.start(first)

	workers[0].kill() // connected to whichever server: the leader learns of it from there
	g.rig.until(coordinator.WorkerLost, 1)
	g.rig.until(coordinator.StepCommitted, len(g.rig.of(coordinator.StepCommitted))+5)

	second = g.leader()
	began = time.Now()
	g.nodes[second].Leave(t.Context())
	took := time.Since(began)
	if r := g.end(second); r.err != nil || !r.outcome.Others {
		t.Errorf("Run of a coordinator that left = %+v, want that others go on", r)
	}
	if err := g.nodes[second].Close(); err != nil {
		t.Error(err)
	}
	delete(g.nodes, second)
	t.Logf("%s left after %v, now %s leads", second, took, g.leader())

	for name := range g.nodes {
		r := g.end(name)
		if r.err != nil || r.outcome.State != fsm.Finished || r.outcome.Step != steps {
			t.Errorf("Run of %s = %+v, %v; want finished after %d steps", name, r.outcome, r.err, steps)
		}
	}
	want := reference(steps)
	for name, n := range g.nodes {
		run := n.State().Runs[0]
		for step := range int64(steps) {
			if got := run.Ledger.At(step).Parameters; got != want[step+1] {
				t.Fatalf("%s, step %d: parameters %s, want %s: every shard once", name, step, got, want[step+1])
			}
		}
	}
	for _, w := range workers {
		w.kill()
	}
	f.stopped.Wait()
	g.runs.Wait()
	for name, n := range g.nodes {
		if err := n.Close(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("close %s: %v", name, err)
		}
	}
}

func TestFindCoordinator(t *testing.T) {
	all := []coordinator.Coordinator{{Name: "a", Raft: "192.0.2.1:7300"}, {Name: "b", Raft: "127.0.0.1:7301"}, {Name: "c", Raft: "192.0.2.3:7300"}}
	for _, c := range []struct{ name, want, wrong string }{
		{"a", "a", ""}, {"d", "", "not among cluster.coordinators: a, b, c"}, {"", "b", ""},
	} {
		got, err := coordinator.FindCoordinator(all, c.name)
		if got.Name != c.want || fmt.Sprint(err) != "<nil>" && (c.wrong == "" || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("FindCoordinator(%q) = %q, %v; want %q %q", c.name, got.Name, err, c.want, c.wrong)
		}
	}
	if _, err := coordinator.FindCoordinator([]coordinator.Coordinator{{Name: "a", Raft: "127.0.0.1:1"}, {Name: "b", Raft: "127.0.0.1:2"}}, ""); err == nil {
		t.Error("two coordinators of this host and no name: want an error")
	}
}
