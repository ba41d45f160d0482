package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// group is coordinators in one process, over TCP.
type group struct {
	t       testing.TB
	failure time.Duration
	dir     string
	servers []Server
	nodes   map[string]*Node
	fsm     map[string]*journal
	via     map[string]*proxy // what others reach a member by
	tls     TLS
	store   string
	log     *slog.Logger
	alone   atomic.Value // the member that is cut off
}

func newGroup(t testing.TB, failure time.Duration, names ...string) *group {
	g := &group{
		t: t, failure: failure, dir: t.TempDir(), nodes: map[string]*Node{}, fsm: map[string]*journal{}, via: map[string]*proxy{},
		log: slog.New(slog.DiscardHandler),
	}
	if testing.Verbose() {
		g.log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	for _, name := range names {
		g.add(name)
	}
	t.Cleanup(func() {
		for _, n := range g.nodes {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return g
}

// add names a member and gives it an address, behind a proxy.
func (g *group) add(name string) {
	p := newProxy(g.t)
	g.via[name] = p
	g.servers = append(g.servers, Server{name, p.address()})
}

// start starts a member, or starts it again.
func (g *group) start(name string) *Node {
	g.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	g.via[name].to(l.Addr().String())
	g.via[name].listen()
	g.fsm[name] = &journal{}
	n, err := Open(Options{
		Dir: filepath.Join(g.dir, name), Name: name, FailureTimeout: g.failure, Log: g.log.With("node", name), Version: "test",
		Servers: g.servers, Listener: l, Dial: g.dial(name), TLS: g.tls, Store: g.store,
	}, g.fsm[name])
	if err != nil {
		g.t.Fatal(err)
	}
	g.nodes[name] = n
	return n
}

// dial connects a member to others, unless one of the two is isolated.
func (g *group) dial(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, to string) (net.Conn, error) {
		if name, _ := g.alone.Load().(string); name != "" && (name == from || g.via[name].address() == to) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", to)
	}
}

// isolate cuts a member off from the others, both ways; "" heals.
func (g *group) isolate(name string) {
	g.alone.Store(name)
	if name != "" {
		for _, p := range g.via {
			p.cut()
		}
	}
}

func (g *group) startAll() {
	for _, s := range g.servers {
		g.start(s.Name)
	}
}

// kill ends a member as kill -9 does, as others see it: its connections end at once, nothing is handed over.
func (g *group) kill(name string) {
	g.t.Helper()
	g.via[name].close()
	if err := g.nodes[name].Close(); err != nil {
		g.t.Error(err)
	}
	delete(g.nodes, name)
}

// leader waits until one of the members leads, and returns it.
func (g *group) leader(but ...string) *Node {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 30*time.Second)
	defer cancel()
	led := make(chan *Node, len(g.nodes))
	for name, n := range g.nodes {
		if slices.Contains(but, name) {
			continue
		}
		go func() {
			if _, _, err := n.Lead(ctx); err == nil {
				led <- n
			}
		}()
	}
	select {
	case n := <-led:
		return n
	case <-ctx.Done():
		for name, n := range g.nodes {
			g.t.Logf("%s: %+v %+v", name, n.Stats(), n.Members())
		}
		g.t.Fatal("nobody leads after 30s")
		return nil
	}
}

// commit commits an entry through whoever leads.
func (g *group) commit(entry string, but ...string) *Node {
	g.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		n := g.leader(but...)
		err := n.Propose([]byte(entry))
		if err == nil {
			return n
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("commit %s: %v", entry, err)
		}
	}
}

// eventually waits until f is content.
func (g *group) eventually(what string, f func() bool) {
	g.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			for name, n := range g.nodes {
				g.t.Logf("%s: %+v %+v", name, n.Stats(), n.Members())
			}
			g.t.Fatalf("not after 30s: %s", what)
		}
	}
}

// has waits until members have applied exactly these entries; entries that came twice count once.
func (g *group) has(want []string, names ...string) {
	g.t.Helper()
	for _, name := range names {
		g.eventually(fmt.Sprintf("%s has %v", name, want), func() bool { return slices.Equal(slices.Compact(g.fsm[name].all()), want) })
	}
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.entries)
}

func TestThreeOverTCP(t *testing.T) {
	for _, store := range []string{"wal", "bolt"} {
		t.Run(store, func(t *testing.T) {
			g := newGroup(t, 400*time.Millisecond, "a", "b", "c")
			g.store = store
			g.startAll()
			var want []string
			for i := range 10 {
				want = append(want, fmt.Sprint("first ", i))
				g.commit(want[i])
			}
			g.has(want, "a", "b", "c")

			first := g.leader().Name()
			began := time.Now()
			g.kill(first)
			second := g.commit("after the first leader").Name()
			t.Logf("leader killed, next commit after %v", time.Since(began))
			want = append(want, "after the first leader")

			g.start(first)
			g.has(want, "a", "b", "c")

			leader := g.leader()
			began = time.Now()
			if err := leader.Transfer(t.Context()); err != nil {
				t.Fatal(err)
			}
			third := g.commit("after the hand-over")
			t.Logf("handed over, next commit after %v", time.Since(began))
			want = append(want, "after the hand-over")
			if third.Name() == second {
				t.Errorf("%s leads after it handed over", second)
			}
			g.has(want, "a", "b", "c")
			for _, name := range []string{"a", "b", "c"} {
				g.eventually(name+" knows the leader", func() bool { return g.nodes[name].Leader() == third.Name() })
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := third.Settle(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// A leader behind a partition steps down; what it accepted meanwhile is not lost silently, and it learns what the others
// committed.
func TestPartition(t *testing.T) {
	g := newGroup(t, 400*time.Millisecond, "a", "b", "c")
	g.startAll()
	old := g.commit("before")
	_, lost, err := old.Lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g.isolate(old.Name())
	if err := old.Propose([]byte("in the dark")); !errors.Is(err, ErrUncertain) && !errors.Is(err, ErrNotLeader) {
		t.Errorf("Propose behind a partition = %v, want ErrUncertain or ErrNotLeader", err)
	}
	select {
	case <-lost:
	case <-time.After(10 * time.Second):
		t.Error("a leader behind a partition does not know after 10s")
	}
	g.commit("among two", old.Name())
	g.isolate("")
	g.commit("together")
	g.has([]string{"before", "among two", "together"}, "a", "b", "c")
}

// A fourth coordinator joins without a vote and gets one; one that is gone for long is removed, but not below three.
func TestJoinAndRemove(t *testing.T) {
	g := newGroup(t, 200*time.Millisecond, "a", "b", "c")
	g.startAll()
	g.commit("three")
	g.add("d")
	g.start("d")
	voters := func() (out []string) {
		for _, m := range g.leader().Members() {
			if m.Voter {
				out = append(out, m.Name)
			}
		}
		slices.Sort(out)
		return out
	}
	g.eventually("d is admitted", func() bool { return len(g.leader().Members()) == 4 })
	if got := voters(); len(got) != 3 {
		t.Errorf("voters just after d was admitted: %v, want three", got)
	}
	g.eventually("d votes", func() bool { return len(voters()) == 4 })
	g.commit("four")
	g.has([]string{"three", "four"}, "d")
	if err := g.leader().Remove("c"); err != nil && !errors.Is(err, ErrNotLeader) {
		t.Fatal(err)
	}
	g.eventually("c is out, or joins again", func() bool { return len(voters()) >= 3 })
	g.commit("five")
	g.has([]string{"three", "four", "five"}, "d")
}

// A member whose folder is lost joins under a new id, without a vote at first: what it promised is not known.
func TestLostFolder(t *testing.T) {
	g := newGroup(t, 200*time.Millisecond, "a", "b", "c")
	g.startAll()
	lead := g.commit("one")
	victim := "a"
	if lead.Name() == victim {
		victim = "b"
	}
	g.kill(victim)
	g.dir = t.TempDir()
	for name := range g.via {
		if name != victim {
			continue
		}
		g.start(name)
	}
	g.commit("two")
	g.has([]string{"one", "two"}, victim)
	g.eventually("it votes under a new id", func() bool {
		voters := 0
		renamed := false
		for _, m := range g.leader().Members() {
			if m.Voter {
				voters++
				renamed = renamed || m.Name == victim && m.ID != victim
			}
		}
		return voters == 3 && renamed
	})
}

// A stranger is refused before anything is read of it, and bounded in number and time.
func TestStrangers(t *testing.T) {
	g := newGroup(t, 400*time.Millisecond, "a", "b", "c")
	g.startAll()
	n := g.commit("one")
	at := g.via[n.Name()].target()
	for _, greeting := range []string{"GET / HTTP/1.1\r\n\r\n", "cp\x02r", "cp\x01x\x00", "cp\x01a\x00\xff\xff"} {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(greeting)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if k, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("greeting %q: %d bytes, %v; want a closed connection", greeting, k, err)
		}
		_ = c.Close()
	}
	var crowd []net.Conn
	for range 3 * maxGreeting {
		if c, err := net.Dial("tcp", at); err == nil {
			crowd = append(crowd, c)
		}
	}
	g.eventually("the crowd is refused", func() bool { return n.Stats().Refused >= 3+2*maxGreeting })
	for _, c := range crowd {
		_ = c.Close()
	}
	g.commit("two")
	g.has([]string{"one", "two"}, "a", "b", "c")
}

// An entry that the machine cannot take stops the node by name, and a panic is such an error.
func TestHalt(t *testing.T) {
	for _, entry := range []string{"halt", "panic"} {
		t.Run(entry, func(t *testing.T) {
			n := openOf(t, t.TempDir(), &journal{})
			defer n.Close()
			lead(t, n)
			if err := n.Propose([]byte(entry)); !errors.Is(err, ErrHalt) && !errors.Is(err, ErrUncertain) {
				t.Errorf("Propose(%s) = %v, want ErrHalt", entry, err)
			}
			<-n.Failed()
			if err := n.Propose([]byte("more")); err == nil {
				t.Error("a halted node takes entries")
			}
			if _, _, err := n.Lead(t.Context()); !errors.Is(err, ErrHalt) {
				t.Errorf("Lead of a halted node = %v, want ErrHalt", err)
			}
		})
	}
}

// The verifier compares members' logs, is not misled by tails that were overwritten, and finds an entry that differs.
func TestVerifier(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	faults := make(chan error, 8)
	c := newChecked(raft.NewInmemStore(), func(err error) { faults <- err })
	leader := newChecked(raft.NewInmemStore(), func(err error) { t.Error(err) })
	defer leader.close()
	entry := func(i, term uint64, text string) *raft.Log {
		return &raft.Log{Index: i, Term: term, Type: raft.LogCommand, Data: binary.AppendUvarint([]byte(text), i)}
	}
	for i := uint64(1); i < 10; i++ { // the follower holds a tail that will be overwritten
		if err := c.StoreLog(entry(i, 1, "old")); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.DeleteRange(5, 9); err != nil {
		t.Fatal(err)
	}
	send := func(i uint64, damage bool) {
		l := entry(i, 2, "new")
		if i < 5 {
			l = entry(i, 1, "old")
		}
		if err := leader.StoreLog(l); err != nil {
			t.Fatal(err)
		}
		if i < 5 {
			return
		}
		copied := *l
		if damage {
			copied.Data = append([]byte("x"), l.Data...)
		}
		if err := c.StoreLog(&copied); err != nil {
			t.Fatal(err)
		}
	}
	until := func(n uint64) {
		for deadline := time.Now().Add(10 * time.Second); c.ranges.Load() < n; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d ranges verified after 10s, want %d", c.ranges.Load(), n)
			}
		}
	}
	for i := uint64(1); i <= 2*interval; i++ {
		send(i, false)
		if i == interval {
			until(1)
		}
	}
	until(2)
	at := 2*interval + 1 + seed%(interval-1)
	for i := uint64(2*interval + 1); i <= 3*interval; i++ {
		send(i, i == at)
	}
	select {
	case err := <-faults:
		t.Log(err)
	case <-time.After(10 * time.Second):
		t.Fatalf("entry %d differs and nobody noticed", at)
	}
	c.close()
}

// The death of a leader's process is known by its sockets: others lead before any timer could tell. A leader whose
// connections end while it lives stays leader.
func TestDeathIsKnownBySockets(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for timers that are long on purpose")
	}
	g := newGroup(t, 12*time.Second, "a", "b", "c") // timers of three seconds
	g.startAll()
	old := g.commit("one")
	term := old.Stats().Term
	g.via[old.Name()].cut()
	for _, p := range g.via {
		p.cut()
	}
	time.Sleep(200 * time.Millisecond)
	if now := g.commit("two"); now != old || now.Stats().Term != term {
		t.Errorf("%s leads term %d after connections were cut, want %s and %d: a needless election", now.Name(), now.Stats().Term, old.Name(), term)
	}
	g.eventually("all have it", func() bool {
		for _, j := range g.fsm {
			if len(j.all()) != 2 {
				return false
			}
		}
		return true
	})
	began := time.Now()
	g.kill(old.Name())
	g.commit("three")
	if took := time.Since(began); took > old.timers.Heartbeat {
		t.Errorf("leader killed, next commit after %v; want it before the timers of %v", took, old.timers.Heartbeat)
	}
}
