package consensus

import (
	"encoding/json"
	"time"

	"github.com/hashicorp/raft"
)

// report is what a member tells the leader every Timers.Report, and what a new one asks others with.
type report struct {
	Name    string        `json:"name"`
	ID      string        `json:"id,omitempty"` // "" = it has no log yet
	Address string        `json:"address"`
	Version string        `json:"version,omitempty"`
	Last    uint64        `json:"last"`    // newest entry of its log
	Applied uint64        `json:"applied"` // newest entry applied
	Term    uint64        `json:"term"`
	Slowest time.Duration `json:"slowest"` // append of late
	Unfit   string        `json:"unfit,omitempty"`
	Known   string        `json:"known,omitempty"` // the leader's address, as it believes
}

// answer is what others say to a report.
type answer struct {
	Leader string   `json:"leader,omitempty"` // the leader's address
	Last   uint64   `json:"last"`
	Term   uint64   `json:"term"`
	Group  []string `json:"group"` // as configured
}

// heard is what the leader knows of a member by its reports.
type heard struct {
	report
	at   time.Time // of the newest report
	well time.Time // since when reports come without a gap
}

// Member is a member of the group as the leader sees it; others know only who is in it, who leads, and themselves.
type Member struct {
	Name, ID, Address string
	Version           string
	Leader, Voter     bool
	Silent            time.Duration // since it was last heard
	Last, Applied     uint64        // newest entry of its log, and newest applied
	Slowest           time.Duration // its log's longest write of late
	Unfit             string        // why it cannot lead
}

// Stats are a node's own figures.
type Stats struct {
	State                        string // of Raft: Follower, Candidate, Leader, Shutdown
	Term, Last, Commit, Applied  uint64
	Slowest                      time.Duration // its log's longest write of late
	Verified                     uint64        // ranges of the log that were compared with the leader's checksum
	Refused                      uint64        // connections refused before anything was read of them
	Muted                        string        // why a leader fell silent
	FirstSnapshot, FirstLogEntry uint64
}

func (n *Node) report() report {
	r := report{Name: n.o.Name, Address: n.address, Version: n.o.Version}
	n.mu.Lock()
	r.Unfit = n.unfit
	n.mu.Unlock()
	if n.up() {
		_, leader := n.leader()
		r.ID, r.Last, r.Applied, r.Term, r.Slowest, r.Known = n.id, n.raft.LastIndex(), n.raft.AppliedIndex(), n.raft.CurrentTerm(), n.watched.slowest(), leader
	}
	return r
}

// leader returns the name and address of the leader as this node knows it; "" = none.
func (n *Node) leader() (name, address string) {
	if !n.up() {
		return "", ""
	}
	a, id := n.raft.LeaderWithID()
	return nameOf(string(id)), string(a)
}

// Leader returns the name of the leader; "" while there is none or none is known.
func (n *Node) Leader() string {
	name, _ := n.leader()
	return name
}

// Name returns this member's name.
func (n *Node) Name() string { return n.o.Name }

// answer answers a report of another member, and keeps it while this node leads.
func (n *Node) answer(q []byte) []byte {
	var r report
	if json.Unmarshal(q, &r) != nil {
		return nil
	}
	a := answer{Group: n.group()}
	if n.up() {
		_, a.Leader = n.leader()
		a.Last, a.Term = n.raft.LastIndex(), n.raft.CurrentTerm()
	}
	if r.ID != "" {
		n.mu.Lock()
		if n.leads {
			now := time.Now()
			h := n.members[r.ID]
			if h == nil {
				h = &heard{well: now}
				n.members[r.ID] = h
			} else if now.Sub(h.at) > n.timers.Failure {
				h.well = now
			}
			h.report, h.at = r, now
		}
		n.mu.Unlock()
	}
	b, err := json.Marshal(a)
	if err != nil {
		return nil
	}
	return b
}

// run reports to the leader, governs the group while this node leads, and watches the disk.
func (n *Node) run() {
	n.routines.Go(n.watch)
	tick := time.NewTicker(n.timers.Report)
	defer tick.Stop()
	next := 0 // whom to ask for the leader
	var began time.Time
	for {
		select {
		case <-tick.C:
		case <-n.done:
			return
		case <-n.failed:
			return
		}
		if n.raft.State() == raft.Leader {
			if began.IsZero() {
				began = time.Now()
			}
			n.govern(began)
			continue
		}
		began = time.Time{}
		_, to := n.leader()
		if to == "" {
			to = n.hint
		}
		if to == "" || to == n.address {
			to = n.o.Servers[next%len(n.o.Servers)].Address
			next++
			if to == n.address {
				continue
			}
		}
		a, err := n.ask(to, n.report())
		n.hint = ""
		if err == nil && a.Leader != to {
			n.hint = a.Leader
		}
	}
}

// govern decides on the group and does it.
func (n *Node) govern(began time.Time) {
	v := n.view(began)
	n.tell(v)
	act := decide(v, time.Now(), n.timers)
	if act.refused != "" {
		n.log.Warn("a coordinator is not admitted", "name", act.seat.Name, "id", act.seat.ID, "reason", act.refused)
	}
	if act.kind == nothing {
		return
	}
	id, address, wait := raft.ServerID(act.seat.ID), raft.ServerAddress(act.seat.Address), n.timers.Failure
	var err error
	switch act.kind {
	case admit:
		err = n.raft.AddNonvoter(id, address, 0, wait).Error()
	case promote:
		err = n.raft.AddVoter(id, address, 0, wait).Error()
	case remove:
		err = n.raft.RemoveServer(id, 0, wait).Error()
	}
	if err != nil {
		n.log.Warn("change of the group", "change", act.kind, "id", act.seat.ID, "error", err)
		return
	}
	n.log.Info("the group changed", "change", act.kind, "id", act.seat.ID, "address", act.seat.Address, "reason", act.why)
}

// tell says who is gone and who is back.
func (n *Node) tell(v view) {
	now := time.Now()
	for _, s := range v.seats {
		gone := v.silent(s.ID, now) > n.timers.Failure
		if gone == n.gone[s.ID] {
			continue
		}
		n.gone[s.ID] = gone
		if gone {
			n.log.Warn("a coordinator is not heard any more", "coordinator", s.Name, "address", s.Address)
		} else {
			n.log.Info("a coordinator is back", "coordinator", s.Name)
		}
	}
}

// view is the group as this leader sees it.
func (n *Node) view(began time.Time) view {
	v := view{self: n.id, began: began, commit: n.raft.CommitIndex(), configured: len(n.o.Servers), heard: map[string]heard{}}
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		v.seats = append(v.seats, seat{ID: string(s.ID), Name: nameOf(string(s.ID)), Address: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, h := range n.members {
		v.heard[id] = *h
	}
	return v
}

// Members returns the group: all of it at the leader, at others what they know.
func (n *Node) Members() (out []Member) {
	if !n.up() {
		for _, s := range n.o.Servers {
			out = append(out, Member{Name: s.Name, Address: s.Address})
		}
		return out
	}
	own, leader, now := n.report(), n.Leader(), time.Now()
	v := n.view(now)
	for _, s := range v.seats {
		m := Member{Name: s.Name, ID: s.ID, Address: s.Address, Voter: s.Voter, Leader: s.Name == leader, Silent: -1}
		h, ok := v.heard[s.ID]
		switch {
		case s.ID == n.id:
			m.Version, m.Last, m.Applied, m.Slowest, m.Unfit, m.Silent = own.Version, own.Last, own.Applied, own.Slowest, own.Unfit, 0
		case ok:
			m.Version, m.Last, m.Applied, m.Slowest, m.Unfit, m.Silent = h.Version, h.Last, h.Applied, h.Slowest, h.Unfit, now.Sub(h.at)
		case m.Leader:
			m.Silent = now.Sub(n.raft.LastContact())
		}
		out = append(out, m)
	}
	return out
}

// Stats returns this node's own figures.
func (n *Node) Stats() Stats {
	if !n.up() {
		return Stats{State: "Waiting"}
	}
	s := Stats{
		State: n.raft.State().String(), Term: n.raft.CurrentTerm(), Last: n.raft.LastIndex(), Commit: n.raft.CommitIndex(),
		Applied: n.raft.AppliedIndex(), Slowest: n.watched.slowest(),
	}
	if n.checked != nil {
		s.Verified = n.checked.ranges.Load()
	}
	if t, ok := n.transport.(*TCP); ok {
		s.Refused = t.Refused()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s.Muted = n.muted
	return s
}

// Remove removes a member by name, for good: it is for one that will not come back, before its time (Timers.Dead).
func (n *Node) Remove(name string) error {
	if !n.up() || n.raft.State() != raft.Leader {
		return ErrNotLeader
	}
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		if nameOf(string(s.ID)) == name {
			return named(n.raft.RemoveServer(s.ID, 0, n.timers.Propose).Error())
		}
	}
	return nil
}
