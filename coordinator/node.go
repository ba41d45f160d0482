package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/consensus"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// Outcome is how Run ended.
type Outcome struct {
	State  fsm.Lifecycle
	Reason string
	Step   int64 // steps applied
	Others bool  // other coordinators go on with the run, or led it to its end

	Checkpoint, Manifest string // the checkpoint of that step, and its digest; "" if there is none
}

// Node is one coordinator: a Raft member, a NATS server, and, while it leads, the one that plans.
type Node struct {
	o       Options
	timers  plan.Timers
	machine *machine
	raft    *consensus.Node
	server  *bus.Server
	conn    *bus.Conn
	hosts   *hosts
	first   *host  // the node's own run; nil = it has none
	own     string // its id, once it is known; only Run's goroutine uses it
	lines   lines
	history history
	guard   guard

	inbox  chan func(*leader) // what the leader's loop is to do next; a node that follows drops it
	orders chan func(*leader) // what this process asks for: it waits until the node leads

	background sync.WaitGroup
	worked     bool                    // the run was seen at work, by Run
	leaving    context.Context         // ends with Leave
	leave      context.CancelCauseFunc // of leaving
	closing    context.Context         // ends with Close
	close      context.CancelFunc
}

// Open takes the folder (an *consensus.OwnedError says whose it is), starts Raft and the NATS server, and returns.
// Workers may connect from then on; Run begins to answer them.
func Open(o Options) (_ *Node, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{o: o, machine: &machine{Machine: fsm.NewMachine(), tap: o.Tap}, hosts: newHosts(), inbox: make(chan func(*leader), 1024), orders: make(chan func(*leader), 64)}
	n.closing, n.close = context.WithCancel(context.Background())
	n.leaving, n.leave = context.WithCancelCause(context.Background())
	derived, err := newTimers(timeout(o.Cluster))
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	n.timers = derived.plan
	if err := n.secure(); err != nil {
		return nil, err
	}
	n.machine.changed = n.granted
	if o.Feed != nil {
		n.first = newHost(&Hosted{
			Submission: o.Run, Feed: o.Feed, Suites: o.Suites, Store: o.Store, Kernels: o.Cluster.Kernels, Dir: o.Dir, File: o.File,
		})
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if n.raft, err = consensus.Open(n.consensus(), n.machine); err != nil {
		return n, err
	}
	n.recall()
	switch {
	case o.Bus != nil:
		n.conn, err = o.Bus(n.disconnected)
	case o.Cluster.NATS.URL != "":
		err = n.borrow()
	default:
		err = n.host()
	}
	if err != nil {
		return n, err
	}
	n.o.Log = slog.New(bus.NewLogHandler(n.conn, n.name(), o.Log.Handler()))
	if _, err = bus.Subscribe(n.conn, wire.LogSubject, n.lines.add); err != nil {
		return n, err
	}
	if _, err = bus.Subscribe(n.conn, wire.EventSubject, func(e *wire.RunEvent) { n.history.add(*e) }); err != nil {
		return n, err
	}
	return n, n.conn.Flush(n.closing) // from here on no line of a worker that connects is lost
}

// host starts the embedded NATS server and connects to it. A coordinator that comes back knows its workers again before it
// lets any in: they would be strangers, and others know them.
func (n *Node) host() (err error) {
	recalled, cancel := context.WithTimeout(n.closing, 5*n.timers.Failure)
	if err := n.raft.Recall(recalled); err != nil {
		n.o.Log.Warn("workers are let in before the log is known", "error", err)
	}
	cancel()
	if n.server, err = bus.StartServer(bus.ServerOptions{
		Listen: n.o.Cluster.Listen, FailureTimeout: n.timers.Failure, Log: n.o.Log, Disconnected: n.disconnected,
		Cluster: n.routes(), TLS: n.guard.source, Directory: n, Refusals: n.guard.refusals,
	}); err != nil {
		return err
	}
	n.guard.server.Store(n.server)
	n.server.Refresh() // of what was applied in the meantime
	n.conn, err = bus.Connect(n.closing, bus.Options{Server: n.server, Name: n.name(), FailureTimeout: n.timers.Failure, Log: n.o.Log, Errors: n.guard.malformed})
	return err
}

// timeout returns the failure timeout; 0 means the default of one second.
func timeout(c Config) time.Duration {
	if c.FailureTimeout == 0 {
		return time.Second
	}
	return c.FailureTimeout
}

// Server returns the embedded NATS server, for workers in this process; nil with Options.Bus.
func (n *Node) Server() *bus.Server { return n.server }

// URL returns where workers connect, nats://host:port; "" when no embedded server listens.
func (n *Node) URL() string {
	if n.server == nil {
		return ""
	}
	return n.server.URL()
}

// Run leads until the own run is over or paused (see Options.Stay) and no other works, or ctx ends, which leaves the
// runs as they are: the next life goes on. Settings that differ from the committed ones are an *IdentityError, other data a *DataError.
func (n *Node) Run(ctx context.Context) (Outcome, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(n.leaving, func() { stop(errLeft) })()
	for {
		term, lost, over, err := n.follow(ctx)
		if errors.Is(context.Cause(ctx), errLeft) {
			err = nil
			over = true
		}
		if over || err != nil {
			o := n.outcome()
			o.Others = over
			return o, err
		}
		if err := n.machine.broken(); err != nil {
			return Outcome{}, fmt.Errorf("read the log in %s: %w", n.o.Dir, err)
		}
		l := newLeader(n, term)
		done, err := l.run(ctx, lost)
		if errors.Is(err, errLeft) {
			continue
		}
		if done {
			n.settle(ctx)
		}
		if done || err != nil && !errors.Is(err, consensus.ErrNotLeader) {
			return n.outcome(), err // a log that takes no entries, a full disk for example, ends this life
		}
		n.o.Log.Warn("leadership lost", "term", term, "error", err)
	}
}

// recall reads the events of earlier lives, the own run's and those of submitted ones.
func (n *Node) recall() {
	paths, _ := filepath.Glob(filepath.Join(n.o.Dir, "runs", "*", "events.jsonl"))
	if err := n.history.load(append(paths, filepath.Join(n.o.Dir, "events.jsonl"))...); err != nil {
		n.o.Log.Warn("events of earlier lives not read; the API will lack them", "error", err)
	}
}

// publishEvent keeps an event and tells the other coordinators and whoever follows the run.
func (n *Node) publishEvent(e *Event, json []byte) {
	told := wire.RunEvent{ID: e.ID, Run: e.Run, JSON: json}
	n.history.add(told)
	if err := n.conn.Publish(wire.EventSubject, &told); err != nil && !errors.Is(err, bus.ErrClosed) {
		n.o.Log.Debug("event not published", "error", err)
	}
}

// outcome is how the own run stands.
func (n *Node) outcome() Outcome {
	s := n.machine.State()
	r := s.Run(n.own)
	if r == nil && len(s.Runs) > 0 && n.o.Host == nil {
		r = s.Runs[len(s.Runs)-1]
	}
	if r == nil {
		return Outcome{}
	}
	o := Outcome{State: r.State, Reason: r.Reason, Step: r.Cursor}
	if m := r.Manifest(r.Cursor); m != nil {
		o.Checkpoint, o.Manifest = m.Path, m.Digest
	}
	return o
}

// State returns the committed state, which never changes: the ledger, checkpoints and evaluations of the run.
func (n *Node) State() *fsm.State { return n.machine.State() }

// Stop finishes the round in flight of the own run, writes a checkpoint and pauses it; Run then returns.
func (n *Node) Stop(reason string) { n.control(fsm.Stopping, reason) }

// Resume lets the own run go on that is paused or has failed.
func (n *Node) Resume() { n.control(fsm.Running, "") }

// Cancel ends the own run for good.
func (n *Node) Cancel(reason string) { n.control(fsm.Cancelled, reason) }

func (n *Node) control(state fsm.Lifecycle, reason string) {
	order := func(l *leader) {
		run, err := l.which(l.own)
		if err == nil {
			err = l.steer(run, state, reason)
		}
		if err != nil {
			n.o.Log.Warn("not done", "state", state, "error", err)
		}
	}
	select {
	case n.orders <- order:
	case <-n.closing.Done():
	}
}

// post hands something to the leader's loop, unless the node closes.
func (n *Node) post(f func(*leader)) {
	select {
	case n.inbox <- f:
	case <-n.closing.Done():
	}
}

// disconnected is told of every connection that ends.
func (n *Node) disconnected(name, reason string) {
	n.post(func(l *leader) { l.connectionLost(name, reason) })
}

// Close ends everything that Open began. It is called once, after Run has returned.
func (n *Node) Close() error {
	n.close()
	if n.conn != nil {
		n.conn.Close()
	}
	if n.server != nil {
		n.server.Close()
	}
	n.background.Wait()
	n.closeHosts()
	var errs []error
	if n.raft != nil {
		errs = append(errs, n.raft.Close())
	}
	return errors.Join(errs...)
}

// runID returns the id of a new run: readable, and part of subjects.
func runID(name, identity string) string {
	clean := strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			return c
		}
		return '-'
	}, name)
	return fmt.Sprintf("%.40s-%.8s", clean, identity)
}
