// Package consensus replicates entries of a log with Raft and applies them to a machine. It is the only importer of
// hashicorp/raft, and does not know what an entry means.
//
// Today a group has one voter, reached over an in-memory transport: the log, the snapshots and the life of a leader
// are the real ones. Options.transport is the seam where TCP with TLS and more voters go.
package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
)

// Errors that callers decide on.
var (
	// ErrNotLeader says that an entry was certainly not accepted here.
	ErrNotLeader = errors.New("not the leader")
	// ErrUncertain says that an entry may or may not have been committed: ask again with the same key.
	ErrUncertain = errors.New("outcome of the entry is not known")
)

// Machine is what entries are applied to. Apply and Restore are called from one goroutine. Snapshot returns a
// capture at once; it is written while Apply goes on.
type Machine interface {
	Apply(entry []byte) error
	Snapshot() io.WriterTo
	Restore(r io.Reader) error
}

// Options configure a node.
type Options struct {
	Dir            string // log, snapshots and the owner's file
	ID             string
	FailureTimeout time.Duration
	Version        string // of the binary, for the owner's file
	Log            *slog.Logger
}

// Node is a member of the group: here, its only one.
type Node struct {
	raft    *raft.Raft
	wal     *raftwal.WAL
	lock    *Lock
	timeout time.Duration
	leading chan bool // newest leadership change, drained always: Raft blocks on it
	done    chan struct{}
}

// Open opens or makes the folder, takes its lock and starts Raft. A folder that another process has is an
// *OwnedError. The machine is restored from the newest snapshot; entries after it are applied once a leader is known.
func Open(o Options, m Machine) (*Node, error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("coordinator folder: %w", err)
	}
	lock, err := Acquire(o.Dir, o.Version)
	if err != nil {
		return nil, err
	}
	n := &Node{lock: lock, timeout: 10 * max(o.FailureTimeout, time.Second), leading: make(chan bool, 1), done: make(chan struct{})}
	if err := n.start(o, m); err != nil {
		if n.wal != nil {
			err = errors.Join(err, n.wal.Close())
		}
		return nil, errors.Join(fmt.Errorf("raft in %s: %w", o.Dir, err), lock.Release())
	}
	return n, nil
}

func (n *Node) start(o Options, m Machine) error {
	dir := filepath.Join(o.Dir, "log")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	logger := newLogger(o.Log)
	var err error
	// A segment is allocated whole: 8 MiB holds about 20,000 steps.
	if n.wal, err = raftwal.Open(dir, raftwal.WithLogger(logger), raftwal.WithSegmentSize(8<<20)); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(o.Dir, 2, logger)
	if err != nil {
		return fmt.Errorf("open snapshots: %w", err)
	}
	notify := make(chan bool, 8)
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(o.ID)
	conf.Logger = logger
	conf.NotifyCh = notify
	// A single voter waits for nobody: it elects itself after the shortest timeout. A group's timers will be
	// failure_timeout/4 (measured: a new leader commits within 0.6 s at 250 ms).
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = 20*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond
	conf.CommitTimeout = 5 * time.Millisecond
	conf.SnapshotThreshold, conf.TrailingLogs = 4096, 1024

	address, transport := raft.NewInmemTransport(raft.ServerAddress(o.ID))
	has, err := raft.HasExistingState(n.wal, n.wal, snapshots)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if !has {
		group := raft.Configuration{Servers: []raft.Server{{ID: conf.LocalID, Address: address}}}
		if err := raft.BootstrapCluster(conf, n.wal, n.wal, snapshots, transport, group); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	if n.raft, err = raft.NewRaft(conf, &adapter{m}, n.wal, n.wal, snapshots, transport); err != nil {
		return err
	}
	go n.drain(notify)
	return nil
}

// drain keeps only the newest leadership change.
func (n *Node) drain(notify <-chan bool) {
	for {
		select {
		case leads := <-notify:
			select {
			case <-n.leading:
			default:
			}
			n.leading <- leads
		case <-n.done:
			return
		}
	}
}

// Lead waits until this node leads and has applied everything that earlier terms committed: one barrier a term. It
// returns the term, and a channel that is closed when the leadership is lost.
func (n *Node) Lead(ctx context.Context) (term uint64, lost <-chan struct{}, err error) {
	look := time.NewTicker(50 * time.Millisecond) // the news may have gone to an earlier Lead that gave up without a loss
	defer look.Stop()
	for {
		select {
		case <-n.leading:
		case <-look.C:
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		}
		if n.raft.State() != raft.Leader {
			continue
		}
		term = n.raft.CurrentTerm()
		if err := n.raft.Barrier(n.timeout).Error(); errors.Is(err, raft.ErrLeadershipLost) || errors.Is(err, raft.ErrNotLeader) {
			continue
		} else if err != nil {
			return 0, nil, fmt.Errorf("barrier of term %d: %w", term, err)
		}
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			for {
				select {
				case leads := <-n.leading:
					if !leads {
						return
					}
				case <-n.done:
					return
				case <-ctx.Done():
					return
				}
			}
		}()
		return term, gone, nil
	}
}

// Propose commits an entry, applies it, and returns what the machine said. Without an answer in time the error wraps
// ErrUncertain.
func (n *Node) Propose(entry []byte) error {
	f := n.raft.Apply(entry, n.timeout)
	switch err := f.Error(); {
	case err == nil:
	case errors.Is(err, raft.ErrLeadershipLost): // the next leader's state tells
		return fmt.Errorf("propose: %w: %w: %w", ErrNotLeader, ErrUncertain, err)
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrRaftShutdown):
		return fmt.Errorf("propose: %w: %w", ErrNotLeader, err)
	default:
		return fmt.Errorf("propose: %w: %w", ErrUncertain, err)
	}
	if err, ok := f.Response().(error); ok {
		return err
	}
	return nil
}

// Snapshot writes a snapshot now, and lets the log before it go.
func (n *Node) Snapshot() error {
	if err := n.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// Close stops Raft, closes the log and gives the folder back.
func (n *Node) Close() error {
	err := n.raft.Shutdown().Error()
	close(n.done)
	return errors.Join(err, n.wal.Close(), n.lock.Release())
}

// adapter makes a Machine a raft.FSM.
type adapter struct{ m Machine }

func (a *adapter) Apply(l *raft.Log) any { return a.m.Apply(l.Data) }

func (a *adapter) Snapshot() (raft.FSMSnapshot, error) { return snapshot{a.m.Snapshot()}, nil }

func (a *adapter) Restore(r io.ReadCloser) error {
	defer r.Close()
	return a.m.Restore(r)
}

type snapshot struct{ from io.WriterTo }

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := s.from.WriteTo(sink); err != nil {
		return errors.Join(fmt.Errorf("write snapshot %s: %w", sink.ID(), err), sink.Cancel())
	}
	return sink.Close()
}

func (s snapshot) Release() {}
