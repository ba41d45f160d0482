// Package consensus replicates entries of a log with Raft and applies them to a machine. It is the only importer of
// hashicorp/raft, and does not know what an entry means. DESIGN.md says how a group begins, changes and fails.
package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/counterpoint-ml/counterpoint/coordinator/consensus/disk"
)

// Errors that callers decide on.
var (
	// ErrNotLeader says that an entry was certainly not accepted here.
	ErrNotLeader = errors.New("not the leader")
	// ErrUncertain says that an entry may or may not have been committed: ask again with the same key.
	ErrUncertain = errors.New("outcome of the entry is not known")
	// ErrNobody says that no other member can lead.
	ErrNobody = errors.New("no other coordinator can lead")
)

// Server is a member of a group as the configuration names it.
type Server struct {
	Name    string
	Address string // host:port where the others reach its Raft
}

// Options configure a node.
type Options struct {
	Dir            string // log, snapshots and the owner's file
	Name           string // this member's, unique in the group
	FailureTimeout time.Duration
	Version        string // of the binary, for the owner's file and the others
	Log            *slog.Logger

	// Servers is the group as configured, the same at all its members: 1, 3 or 5, this one among them. None is this one
	// alone, over no network.
	Servers []Server
	Listen  string // host:port to accept at; "" = the address that Servers has for this one
	TLS     TLS
	// Listener accepts instead of Listen, Dial connects instead of net.Dialer, Transport carries messages instead of TCP.
	// All may be nil.
	Listener  net.Listener
	Dial      func(ctx context.Context, address string) (net.Conn, error)
	Transport Transport
	// Store is disk.WAL ("" too) or disk.Bolt; Disk replaces the folder as the place of log, votes and snapshots.
	Store string
	Disk  disk.Disk
}

// Node is a member of the group.
type Node struct {
	o         Options
	timers    Timers
	log       *slog.Logger
	hc        hclog.Logger
	lock      *Lock
	stores    *disk.Stores
	checked   *checked // nil: this one alone
	watched   *watched
	votes     *votes
	transport Transport // nil: this one alone
	adapter   *adapter
	address   string

	raft    *raft.Raft // nil until started is closed
	id      string     // in Raft's configuration: the name, or name#something after the folder was lost
	started chan struct{}

	mu       sync.Mutex
	news     chan struct{} // closed and made anew when what follows changes
	leads    bool
	reign    int // counts the times that this node became leader
	muted    string
	unfit    string
	err      error // why the node stopped
	failed   chan struct{}
	members  map[string]*heard // reports to this node while it leads, by id
	hint     string            // the leader's address, as others said; of run only
	gone     map[string]bool   // members that were said to be gone; of run only
	silent   atomic.Bool       // muted, for the transport
	probing  atomic.Bool       // a lost leader is being looked for
	done     chan struct{}
	routines sync.WaitGroup
}

// Open opens or makes the folder, takes its lock and starts the node. A folder that another process has is an
// *OwnedError. The machine is restored from the newest snapshot; entries after it are applied once a leader is known.
// The very first start of a group waits, in the background, until all its members have answered; so does a member
// whose folder was lost, to join anew.
func Open(o Options, m Machine) (*Node, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	timers, err := NewTimers(o.FailureTimeout)
	if err != nil {
		return nil, err
	}
	n := &Node{
		o: o, timers: timers, log: o.Log, hc: newLogger(o.Log), started: make(chan struct{}), news: make(chan struct{}),
		failed: make(chan struct{}), members: map[string]*heard{}, gone: map[string]bool{}, done: make(chan struct{}),
	}
	n.adapter = &adapter{m: m, halt: n.fail}
	if o.Disk == nil {
		if err := os.MkdirAll(o.Dir, 0o755); err != nil {
			return nil, fmt.Errorf("coordinator folder: %w", err)
		}
		if n.lock, err = Acquire(o.Dir, o.Version); err != nil {
			return nil, err
		}
		n.o.Disk = disk.Folder{Dir: o.Dir, Store: o.Store}
	}
	if err := n.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("raft in %s: %w", o.Dir, err), n.Close())
	}
	return n, nil
}

// open opens the disk and the transport, and starts Raft or what waits to start it.
func (n *Node) open() (err error) {
	if n.stores, err = n.o.Disk.Open(n.hc); err != nil {
		return err
	}
	if len(n.o.Servers) == 0 {
		return n.startAlone()
	}
	me := -1
	for i, s := range n.o.Servers {
		if s.Name == n.o.Name {
			me = i
		}
	}
	if me < 0 {
		return fmt.Errorf("%q is not among the coordinators of the configuration: %v", n.o.Name, names(n.o.Servers))
	}
	n.address = n.o.Servers[me].Address
	n.checked = newChecked(n.stores.Log, func(err error) { n.fail(fmt.Errorf("the log of %s is damaged: %w", n.o.Name, err)) })
	if n.transport = n.o.Transport; n.transport == nil {
		if n.transport, err = n.listen(); err != nil {
			return err
		}
	}
	n.transport.Answer(n.answer)
	return n.startGroup()
}

func names(servers []Server) (out []string) {
	for _, s := range servers {
		out = append(out, s.Name)
	}
	return out
}

// Timers returns the node's timers.
func (n *Node) Timers() Timers { return n.timers }

// Failed is closed when the node stopped by itself; Err says why.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// Err returns why the node stopped by itself; nil = it did not.
func (n *Node) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// fail stops the node: the transport is closed at once, so that others notice.
func (n *Node) fail(err error) {
	n.mu.Lock()
	first := n.err == nil
	if first {
		n.err = err
		close(n.failed)
		n.changed()
	}
	n.mu.Unlock()
	if !first {
		return
	}
	n.log.Error("this coordinator stops", "name", n.o.Name, "error", err)
	n.silent.Store(true)
	if n.transport != nil {
		_ = n.transport.Close() // what it says changes nothing now
	}
}

// changed wakes whoever waits for news. The lock is held.
func (n *Node) changed() {
	close(n.news)
	n.news = make(chan struct{})
}

// up reports whether Raft runs.
func (n *Node) up() bool {
	select {
	case <-n.started:
		return true
	default:
		return false
	}
}

// Close stops Raft, closes the log and gives the folder back. Transfer first, for a planned end.
func (n *Node) Close() error {
	n.mu.Lock()
	select {
	case <-n.done:
		n.mu.Unlock()
		return nil
	default:
		close(n.done)
	}
	n.mu.Unlock()
	var errs []error
	if n.transport != nil {
		errs = append(errs, n.transport.Close())
	}
	n.routines.Wait()
	if n.up() {
		errs = append(errs, n.raft.Shutdown().Error())
	}
	if n.checked != nil {
		n.checked.close()
	}
	if n.stores != nil {
		errs = append(errs, n.stores.Close())
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Release())
	}
	return errors.Join(errs...)
}
