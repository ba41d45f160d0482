package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// drain takes Raft's news of leadership, on which Raft waits.
func (n *Node) drain(notify <-chan bool) {
	for {
		select {
		case leads := <-notify:
			n.mu.Lock()
			n.leads = leads
			if leads {
				n.reign++
			}
			n.changed()
			n.mu.Unlock()
		case <-n.done:
			return
		}
	}
}

// reigning returns the number of the present leadership, 0 = none, and what is closed when that may have changed.
func (n *Node) reigning() (reign int, news <-chan struct{}, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.leads && n.muted == "" && n.err == nil {
		reign = n.reign
	}
	return reign, n.news, n.err
}

// Lead waits until this node leads and has applied everything that earlier terms committed: one barrier a term. It
// returns the term, and a channel that is closed when the leadership is lost. A node that stopped is an error.
func (n *Node) Lead(ctx context.Context) (term uint64, lost <-chan struct{}, err error) {
	for {
		reign, news, err := n.reigning()
		if err != nil {
			return 0, nil, err
		}
		if reign == 0 || n.raft.State() != raft.Leader {
			if reign != 0 { // Raft's news is late
				news = soon(n.timers.Heartbeat / 10)
			}
			select {
			case <-news:
				continue
			case <-ctx.Done():
				return 0, nil, ctx.Err()
			}
		}
		term = n.raft.CurrentTerm()
		if err := n.barrier(news); errors.Is(err, ErrNotLeader) {
			select {
			case <-soon(n.timers.Heartbeat / 10):
			case <-ctx.Done():
				return 0, nil, ctx.Err()
			}
			continue
		} else if err != nil {
			return 0, nil, fmt.Errorf("barrier of term %d: %w", term, err)
		}
		if now, _, _ := n.reigning(); now != reign || n.raft.CurrentTerm() != term {
			continue
		}
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			for {
				now, news, _ := n.reigning()
				if now != reign {
					return
				}
				select {
				case <-news:
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

// soon returns a channel that is closed after a while.
func soon(d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	time.AfterFunc(d, func() { close(c) })
	return c
}

// barrier waits until everything that earlier terms committed is applied.
func (n *Node) barrier(news <-chan struct{}) error {
	return n.await(news, func() error { return n.raft.Barrier(n.timers.Propose).Error() })
}

// await runs f, which waits for Raft, and returns its error as one of ours. A node that falls silent or stops does not
// wait for what its disk holds up.
func (n *Node) await(news <-chan struct{}, f func() error) error {
	result := make(chan error, 1)
	go func() { result <- f() }()
	for {
		select {
		case err := <-result:
			return named(err)
		case <-news:
		}
		var reign int
		var err error
		if reign, news, err = n.reigning(); err != nil {
			return fmt.Errorf("%w: %w", ErrUncertain, err)
		} else if reign == 0 {
			select {
			case err := <-result: // Raft says more, if it says so soon
				return named(err)
			case <-soon(n.timers.Heartbeat):
				return fmt.Errorf("%w: %w: %w", ErrNotLeader, ErrUncertain, errMuted)
			}
		}
	}
}

func named(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown), errors.Is(err, raft.ErrAbortedByRestore):
		return fmt.Errorf("%w: %w: %w", ErrNotLeader, ErrUncertain, err) // the next leader's state tells
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return fmt.Errorf("%w: %w", ErrUncertain, err)
}

// Propose commits an entry, applies it, and returns what the machine said. Without an answer in time the error wraps
// ErrUncertain.
func (n *Node) Propose(entry []byte) error {
	reign, news, err := n.reigning()
	if err != nil {
		return fmt.Errorf("propose: %w: %w", ErrNotLeader, err)
	}
	if reign == 0 {
		return fmt.Errorf("propose: %w", ErrNotLeader)
	}
	var said error
	if err := n.await(news, func() error {
		f := n.raft.Apply(entry, n.timers.Propose)
		if err := f.Error(); err != nil {
			return err
		}
		said, _ = f.Response().(error)
		return nil
	}); err != nil {
		return fmt.Errorf("propose: %w", err)
	}
	return said
}

// Snapshot writes a snapshot now, and lets the log before it go.
func (n *Node) Snapshot() error {
	if !n.up() {
		return nil
	}
	if err := n.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// Transfer hands leadership to the best other member: one that votes, was heard lately, can lead (Unfit), and has the
// most of the log. It returns when this node leads no more; a node that does not lead has nothing to do. Nobody to
// hand it to is ErrNobody.
func (n *Node) Transfer(ctx context.Context) error {
	if !n.up() || n.raft.State() != raft.Leader {
		return nil
	}
	var heirs, unheard []Member
	for _, m := range n.Members() {
		switch {
		case !m.Voter || m.Leader || m.Unfit != "" || m.Silent >= 2*n.timers.Failure:
		case m.Silent < 0: // this leader is new: the member's first report is on its way
			unheard = append(unheard, m)
		default:
			heirs = append(heirs, m)
		}
	}
	slices.SortStableFunc(heirs, func(a, b Member) int {
		if slow := a.Slowest >= n.timers.Disk; slow != (b.Slowest >= n.timers.Disk) { // of late: it may do if it must
			if slow {
				return 1
			}
			return -1
		}
		return int(int64(b.Last) - int64(a.Last))
	})
	err := ErrNobody
	for _, m := range append(heirs, unheard...) {
		result := make(chan error, 1)
		go func() {
			result <- n.raft.LeadershipTransferToServer(raft.ServerID(m.ID), raft.ServerAddress(m.Address)).Error()
		}()
		select {
		case err = <-result:
			if err == nil || n.raft.State() != raft.Leader {
				return nil
			}
			err = fmt.Errorf("hand leadership to %s: %w", m.Name, err)
		case <-ctx.Done():
			return fmt.Errorf("hand leadership to %s: %w", m.Name, ctx.Err())
		}
	}
	return err
}

// Unfit tells the others why this node cannot lead, for example because it cannot open the data: leadership is not
// handed to it. "" = it can.
func (n *Node) Unfit(why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unfit = why
}

// Recall waits until the machine has everything that this node's log had when it was opened: until then it knows less than it
// did in its life before. A node alone recalls when it leads, and one that hears of no leader cannot: it waits until ctx ends.
func (n *Node) Recall(ctx context.Context) error {
	if n.transport == nil || !n.up() {
		return nil
	}
	for goal := n.raft.LastIndex(); n.raft.AppliedIndex() < goal; {
		select {
		case <-soon(n.timers.Report / 4):
		case <-n.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("entry %d of %d is applied: %w", n.raft.AppliedIndex(), goal, ctx.Err())
		}
	}
	return nil
}

// Settle waits until every member that was heard lately has applied what this leader has, or ctx ends: before the end of
// a run, so that the others know of it when nobody is left to tell them.
func (n *Node) Settle(ctx context.Context) error {
	if !n.up() {
		return nil
	}
	goal := n.raft.AppliedIndex()
	for {
		behind := ""
		for _, m := range n.Members() {
			if !m.Leader && m.Silent >= 0 && m.Silent < n.timers.Failure && m.Applied < goal {
				behind = m.Name
			}
		}
		if behind == "" || n.raft.State() != raft.Leader {
			return nil
		}
		select {
		case <-soon(n.timers.Report / 4):
		case <-n.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%s is behind entry %d: %w", behind, goal, ctx.Err())
		}
	}
}
