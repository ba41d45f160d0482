package consensus

import (
	"fmt"
	"time"
)

// Timers all derive from the one knob, failure_timeout.
type Timers struct {
	Failure   time.Duration // the knob
	Heartbeat time.Duration // a follower that hears nothing for once to twice this long stands for election
	Election  time.Duration // a candidate tries again after once to twice this long
	Lease     time.Duration // a leader that reaches no majority for this long steps down
	Commit    time.Duration // followers learn what was committed within once to twice this long
	Report    time.Duration // between a member's reports to the leader
	RPC       time.Duration // a message without an answer is given up after this long
	Disk      time.Duration // a leader whose log takes longer for one write falls silent, so that another leads
	Stuck     time.Duration // a node whose log takes longer for one write ends, if others can go on
	Stable    time.Duration // a newcomer votes when it was well and caught up for this long
	Dead      time.Duration // a member not heard for this long is removed while quorum allows
	Propose   time.Duration // the outcome of an entry is unknown after this long
}

// NewTimers derives the timers and checks that they nest.
//
// A killed leader's successor commits within 2 Heartbeat (all have noticed) + 2 Heartbeat (a pre-vote that came before
// the others had noticed is repeated), and on average within half of that.
func NewTimers(failure time.Duration) (Timers, error) {
	t := Timers{
		Failure:   failure,
		Heartbeat: failure / 4,
		Election:  failure / 4,
		Lease:     failure / 4,
		Commit:    max(failure/20, time.Millisecond),
		Report:    failure / 4,
		RPC:       failure,
		Disk:      failure / 2,
		Stuck:     10 * max(failure, time.Second),
		Stable:    5 * failure,
		Dead:      60 * failure,
		Propose:   10 * max(failure, time.Second),
	}
	return t, t.Nest()
}

// Nest checks that each timer fits into the next: the error names the pair that does not.
func (t Timers) Nest() error {
	ms := time.Millisecond
	for _, p := range []struct {
		inner string
		a     time.Duration
		outer string
		b     time.Duration
		why   string
	}{
		{"5ms", 5 * ms, "raft heartbeat", t.Heartbeat, "Raft takes no shorter one"},
		{"raft lease", t.Lease, "raft heartbeat", t.Heartbeat, "a leader must step down before others stand"},
		{"raft heartbeat", t.Heartbeat, "raft election", t.Election, "Raft asks for it"},
		{"2 x raft commit", 2 * t.Commit, "raft heartbeat", t.Heartbeat, "followers must learn of commits while they follow"},
		{"2 x raft heartbeat + 2 x raft election", 2*t.Heartbeat + 2*t.Election, "failure_timeout", t.Failure, "a lost leader is replaced by then"},
		{"raft report", t.Report, "newcomer stable", t.Stable / 4, "a newcomer is judged by several reports"},
		{"log write of a leader", t.Disk, "failure_timeout", t.Failure, "a stuck disk is noticed by then"},
		{"failure_timeout", t.Failure, "log write stuck", t.Stuck, "another leads before the node ends"},
		{"newcomer stable", t.Stable, "member dead", t.Dead, "a member that restarts must not be removed meanwhile"},
		{"failure_timeout", t.Failure, "proposal", t.Propose, "an entry outlives an election"},
	} {
		if p.a > p.b {
			return fmt.Errorf("failure_timeout %v: %s %v does not fit into %s %v: %s", t.Failure, p.inner, p.a, p.outer, p.b, p.why)
		}
	}
	return nil
}
