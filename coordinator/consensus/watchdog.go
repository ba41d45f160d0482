package consensus

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// watch is the disk watchdog. Raft's heartbeats do not pass through the log, so a leader whose disk is stuck would stay
// leader and commit nothing. Here it falls silent after Timers.Disk: the others elect, and when the disk comes back this
// node finds a newer term and follows. A node whose disk stays stuck for Timers.Stuck stops.
func (n *Node) watch() {
	tick := time.NewTicker(max(n.timers.Disk/8, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-n.done:
			return
		case <-n.failed:
			return
		}
		busy, leads := n.watched.busy(), n.raft.State() == raft.Leader
		n.mu.Lock()
		muted := n.muted != ""
		n.mu.Unlock()
		switch {
		case busy > n.timers.Stuck && n.others():
			n.fail(fmt.Errorf("the disk of %s has not completed a write of the log for %v", n.o.Name, busy.Round(time.Millisecond)))
		case !muted && leads && busy > n.timers.Disk && n.others():
			n.mute(fmt.Sprintf("a write of the log takes longer than %v", n.timers.Disk))
		case muted && !leads && busy == 0:
			n.mute("")
		}
	}
}

// others reports whether somebody else can lead.
func (n *Node) others() bool {
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter && string(s.ID) != n.id {
			return true
		}
	}
	return false
}

func (n *Node) mute(why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.muted = why
	n.silent.Store(why != "")
	n.changed()
	if why != "" {
		n.log.Error("this coordinator stops leading", "name", n.o.Name, "reason", why)
	} else {
		n.log.Info("the disk of this coordinator is back", "name", n.o.Name)
	}
}
