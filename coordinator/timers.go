package coordinator

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/consensus"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// timers are all that derive from the one knob.
type timers struct {
	plan plan.Timers
	raft consensus.Timers
	bus  bus.Timers
}

// newTimers derives them and checks that they nest, within each part and between the parts.
func newTimers(failure time.Duration) (t timers, err error) {
	if t.plan, err = plan.NewTimers(failure); err != nil {
		return t, err
	}
	if t.raft, err = consensus.NewTimers(failure); err != nil {
		return t, err
	}
	t.bus = bus.NewTimers(failure)
	for _, p := range []struct {
		inner string
		a     time.Duration
		outer string
		b     time.Duration
		why   string
	}{
		{"worker beat", t.plan.Beat, "raft heartbeat", t.raft.Heartbeat, "a new leader must hear workers before it judges them"},
		{"raft election, all of it", 2*t.raft.Heartbeat + 2*t.raft.Election, "grace for holders", t.plan.Grace, "workers outlive an election"},
		{"failure_timeout", failure, "bus write", t.bus.Write, "a worker that reads slowly is lost by its silence, not by its socket"},
		{"leader's log write", t.raft.Disk, "worker silence", t.plan.Silence, "a stuck disk must not look like lost workers"},
	} {
		if p.a > p.b {
			return t, fmt.Errorf("failure_timeout %v: %s %v does not fit into %s %v: %s", failure, p.inner, p.a, p.outer, p.b, p.why)
		}
	}
	return t, nil
}

// ExplainTimers writes every timer that derives from failure_timeout, each below the one that it must fit into. An
// impossible one is the error that start-up gives.
func ExplainTimers(w io.Writer, failure time.Duration) error {
	t, err := newTimers(failure)
	if err != nil {
		return err
	}
	var out strings.Builder
	line := func(depth int, name string, d time.Duration, doc string) {
		fmt.Fprintf(&out, "  %-36s %8v  %s\n", strings.Repeat("  ", depth)+name, d, doc)
	}
	line(0, "failure_timeout", failure, "a hung worker or a lost leader is replaced by then")
	line(1, "worker silence", t.plan.Silence, "a worker that is not heard for this long is lost")
	line(2, "worker beat", t.plan.Beat, "between its heartbeats: three may be lost")
	line(2, "connection blip", t.plan.Blip, "a connection that is gone may come back within this")
	line(3, "leader's tick", t.plan.Tick, "between looks at the clock")
	line(1, "late shard", t.plan.Late, "past three times what it should take, a shard is taken from a straggler")
	line(2, "steal", t.plan.Steal, "work that takes less is not worth moving")
	line(1, "raft election, all of it", 2*t.raft.Heartbeat+2*t.raft.Election, "a leader that is silent is replaced; one whose process died, within milliseconds")
	line(2, "raft election", t.raft.Election, "a candidate tries again after one to two of it")
	line(3, "raft heartbeat timeout", t.raft.Heartbeat, "a follower that hears nothing for one to two of it stands")
	line(4, "raft lease", t.raft.Lease, "a leader that reaches no majority for this long steps down")
	line(4, "raft heartbeat", t.raft.Heartbeat/10, "between a leader's heartbeats, one to two of it")
	line(4, "raft commit", t.raft.Commit, "followers learn what was committed, one to two of it")
	line(3, "coordinator report", t.raft.Report, "between a coordinator's reports to the leader")
	line(1, "leader's log write", t.raft.Disk, "a leader whose disk takes longer falls silent; another leads")
	line(1, "bus ping", t.bus.Ping, "between pings of a NATS connection; closed after three without an answer")
	fmt.Fprintln(&out, "  beyond it")
	line(1, "raft message", t.raft.RPC, "given up without an answer")
	line(1, "bus retry", t.bus.Retry, "longest wait before connecting again")
	line(1, "grace for holders", t.plan.Grace, "holders of the newest parameters are waited for")
	line(1, "newcomer stable", t.raft.Stable, "a coordinator that joined gets its vote")
	line(1, "proposal", t.raft.Propose, "the outcome of an entry is unknown after it")
	line(1, "log write stuck", t.raft.Stuck, "a coordinator whose disk takes longer ends, if others can go on")
	line(1, "bus write", t.bus.Write, "a connection that takes no bytes is closed")
	line(1, "stalled closing", t.plan.Stall, "repeated under a higher number")
	line(1, "coordinator dead", t.raft.Dead, "one that is silent for this long is removed, while three voters stay and are a majority")
	_, err = io.WriteString(w, out.String())
	return err
}
