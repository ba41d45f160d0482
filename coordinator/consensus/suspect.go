package consensus

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// suspect is told that a member's connection ended. The sockets of a process that dies end at once, long before its
// silence tells: if it was the leader, and nobody is at its address any more, this node stands for election without
// waiting for the timers. One that answers, or whose packets vanish, is left to them.
//
// Standing at once skips the pre-vote, as after a hand-over, so it must be certain: the leader's machine itself says that
// nobody listens there (connection refused). Nothing else is taken for that, least of all a network that is down here.
func (n *Node) suspect(address string) {
	if !n.up() {
		return
	}
	if _, leader := n.leader(); leader != address || n.raft.State() != raft.Follower {
		return
	}
	if !n.probing.CompareAndSwap(false, true) { // each of the leader's connections ends
		return
	}
	defer n.probing.Store(false)
	rank, votes := n.rank(address)
	if !votes {
		return
	}
	gone := false
	for range 2 { // the first may be a connection that died with the process
		_, err := n.ask(address, n.report())
		if err == nil {
			return
		}
		gone = gone || errors.Is(err, syscall.ECONNREFUSED)
	}
	if !gone {
		return
	}
	// One after another, so that the votes are not split; one whose log is behind is refused and the next stands.
	select {
	case <-time.After(time.Duration(rank) * n.timers.Heartbeat / 5):
	case <-n.done:
		return
	}
	if _, leader := n.leader(); leader != address || n.raft.State() != raft.Follower {
		return // another was faster
	}
	n.log.Info("the leader's process is gone: standing for election", "leader", address)
	own := raft.ServerAddress(n.address)
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.id), Addr: n.transport.EncodePeer(raft.ServerID(n.id), own)}
	if err := n.transport.TimeoutNow(raft.ServerID(n.id), own, &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{}); err != nil {
		n.log.Debug("election at once", "error", err) // the timers do it
	}
}

// rank is how many of the voters, but for the leader, stand before this one.
func (n *Node) rank(leader string) (rank int, votes bool) {
	var ids []string
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter && string(s.Address) != leader {
			ids = append(ids, string(s.ID))
		}
	}
	slices.SortFunc(ids, strings.Compare)
	rank = slices.Index(ids, n.id)
	return rank, rank >= 0
}
