package worker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer"
)

// leader is a small coordinator and the network in one process: it grants leases, closes and commits steps as package
// wire's DESIGN.md says, and loses, repeats and delays messages at random.
type leader struct {
	t     testing.TB
	steps int64
	save  int64 // a checkpoint every so many steps; 0 = never
	eval  int64 // an evaluation every so many steps; 0 = never
	fault float64
	drop  map[string]bool // messages never delivered, by kind

	mu       sync.Mutex
	rng      *rand.Rand
	round    wire.Round // newest
	members  []*mem
	links    map[string]*memLink // by worker id
	lease    []string            // by shard
	epochs   []int64
	epoch    int64
	embedded []string // by shard: who reported it
	accepted []string
	maxima   []float32
	over     bool
	losses   []float64
	closings int32
	closed   []float32 // maxima of the newest closing
	applied  map[string]wire.Applied
	commits  []wire.Applied // by step
	scores   map[int64]float64
	evalDone int64
	states   map[string]trainer.State // checkpoints by path
	saved    int64                    // newest committed checkpoint, -1 = none
	last     []float32                // committed maxima
	events   []string
	done     chan struct{}
}

type mem struct {
	id      string
	behind  bool
	peer    string
	leaving bool
	state   int64
	digest  string
	size    int64
}

func newLeader(t testing.TB, steps int64, seed uint64, fault float64) *leader {
	return &leader{
		t: t, steps: steps, fault: fault, rng: rand.New(rand.NewPCG(seed, 9)), links: map[string]*memLink{},
		states: map[string]trainer.State{}, saved: -1, scores: map[int64]float64{}, evalDone: -1, drop: map[string]bool{},
		round: wire.Round{Run: "r", State: wire.Running, Revision: 1 << 32}, done: make(chan struct{}),
	}
}

func (l *leader) note(format string, v ...any) {
	l.events = append(l.events, fmt.Sprintf(format, v...))
}

// full returns the full members that stay.
func (l *leader) full() (out []*mem) {
	for _, m := range l.members {
		if !m.behind {
			out = append(out, m)
		}
	}
	return out
}

func (l *leader) find(id string) *mem {
	for _, m := range l.members {
		if m.id == id {
			return m
		}
	}
	return nil
}

// publish makes a new revision and sends it to everybody.
func (l *leader) publish() {
	r := &l.round
	r.Revision++
	r.Members, r.Leases, r.Embedded = nil, nil, nil
	full := l.full()
	for _, m := range l.members {
		if m.behind && m.peer == "" && len(full) > 0 {
			m.peer = full[0].id
		}
		r.Members = append(r.Members, wire.Member{Worker: m.id, Behind: m.behind, Peer: m.peer})
	}
	for s, w := range l.lease {
		r.Leases = append(r.Leases, wire.Lease{Range: wire.Range{Lo: s, Hi: s + 1}, Worker: w, Epoch: l.epochs[s]})
	}
	for s, w := range l.embedded {
		if w != "" {
			r.Embedded = append(r.Embedded, wire.Range{Lo: s, Hi: s + 1})
		}
	}
	if r.Step > 0 {
		r.Parameters = l.commits[r.Step-1].Parameters
	} else {
		r.Parameters = ""
	}
	copied := *r
	for _, k := range l.links {
		k.deliver(&copied)
	}
}

// between decides what comes next when no round is in flight.
func (l *leader) between() {
	r := &l.round
	r.Kind, r.Closing, r.Scorer = 0, nil, ""
	l.lease, l.embedded, l.accepted = nil, nil, nil
	l.members = slices.DeleteFunc(l.members, func(m *mem) bool { return m.leaving })
	for _, m := range l.members {
		if m.behind && m.state == r.Step && (m.digest == r.Parameters || r.Step == 0 && m.state == 0) {
			m.behind, m.peer = false, ""
			l.note("promote %s at step %d", m.id, r.Step)
		}
	}
	full := l.full()
	r.Load = len(full) == 0
	switch {
	case r.Step == l.steps && (l.eval == 0 || l.evalDone == r.Step) && r.Save == nil:
		if r.State != wire.Finished {
			r.State = wire.Finished
			close(l.done)
		}
	case len(full) == 0:
	case l.save > 0 && r.Save == nil && r.Step%l.save == 0 && r.Step > 0 && l.saved < r.Step:
		r.Save = &wire.Save{Step: r.Step, Worker: full[l.rng.IntN(len(full))].id, Standby: full[l.rng.IntN(len(full))].id}
		fallthrough
	default:
		if r.Step == l.steps && (l.eval == 0 || l.evalDone == r.Step) {
			break
		}
		r.Number++
		r.Attempt, r.Maxima, l.closings = 0, l.last, 0
		r.Kind = wire.Train
		if l.eval > 0 && r.Step%l.eval == 0 && l.evalDone < r.Step {
			r.Kind = wire.Evaluate
		}
		h, _ := batch(r.Step)
		r.Shards = len(h.Tokens)
		l.lease, l.epochs = make([]string, r.Shards), make([]int64, r.Shards)
		l.embedded, l.applied = make([]string, r.Shards), map[string]wire.Applied{}
		l.begin()
		l.epoch++
		for s := range l.lease {
			l.lease[s], l.epochs[s] = full[l.rng.IntN(len(full))].id, l.epoch
		}
	}
	l.publish()
}

// begin clears phase C.
func (l *leader) begin() {
	l.accepted, l.losses = make([]string, l.round.Shards), make([]float64, l.round.Shards)
	l.maxima, l.over = nil, false
}

// expire removes a worker and gives its shards to others.
func (l *leader) expire(id string) {
	if l.find(id) == nil {
		return
	}
	l.note("expire %s in round %d", id, l.round.Number)
	r := &l.round
	l.members = slices.DeleteFunc(l.members, func(m *mem) bool { return m.id == id })
	full := l.full()
	for _, m := range l.members {
		if m.peer == id {
			m.peer = ""
		}
	}
	if r.Save != nil && r.Save.Worker == id {
		if r.Save.Standby != id && l.find(r.Save.Standby) != nil {
			save := *r.Save
			save.Worker = save.Standby
			r.Save = &save
		} else {
			r.Save = nil
		}
	}
	delete(l.applied, id)
	switch {
	case r.Kind == 0:
	case len(full) == 0:
		l.note("total loss at step %d, back to %d", r.Step, max(l.saved, 0))
		r.Save, r.Step, r.Resume, l.last = nil, 0, "", nil
		if l.saved >= 0 {
			r.Step, r.Resume = l.saved, fmt.Sprint("checkpoint-", l.saved)
			l.last = l.states[r.Resume].Maxima
		}
		l.between()
		return
	case len(l.applied) > 0:
		for w := range l.applied {
			l.complete(w)
			break
		}
	default:
		l.epoch++
		if r.Closing != nil && !slices.ContainsFunc(r.Closing.Cover, func(c wire.Cover) bool { return c.Worker == id }) &&
			!slices.ContainsFunc(r.Closing.Owners, func(o wire.Owner) bool { return o.Worker == id }) {
			break // it is not named
		}
		if r.Closing != nil {
			l.note("closing %d withdrawn", r.Closing.Number)
			r.Closing = nil
		}
		for s := range l.lease {
			if l.lease[s] == id || l.accepted[s] == id {
				l.lease[s], l.epochs[s], l.accepted[s] = full[l.rng.IntN(len(full))].id, l.epoch, ""
			}
		}
		if r.Scorer == id {
			r.Scorer = full[0].id
		}
		l.close()
	}
	l.commit()
	l.publish()
}

// complete makes the closing that a finished worker alone serves.
func (l *leader) complete(w string) {
	l.closings++
	l.round.Closing = &wire.Closing{
		Number: l.closings, Complete: true, Maxima: l.closed,
		Owners: []wire.Owner{{Worker: w, Lo: 0, Hi: l.find(w).size}},
	}
	l.note("complete closing %d by %s", l.closings, w)
}

// close closes the step when every shard is accepted.
func (l *leader) close() {
	r := &l.round
	if r.Kind != wire.Train || r.Closing != nil || slices.Contains(l.accepted, "") {
		return
	}
	if l.over {
		r.Attempt++
		r.Maxima = l.maxima
		l.note("attempt %d of step %d", r.Attempt, r.Step)
		l.begin()
		l.publish()
		return
	}
	l.closings++
	l.closed = l.maxima
	r.Closing = &wire.Closing{Number: l.closings, Maxima: l.maxima}
	full := l.full()
	for i, m := range full {
		c := wire.Cover{Worker: m.id}
		for s, w := range l.accepted {
			if w == m.id {
				c.Shards = append(c.Shards, wire.Range{Lo: s, Hi: s + 1})
			}
		}
		r.Closing.Cover = append(r.Closing.Cover, c)
		n := int64(len(full))
		r.Closing.Owners = append(r.Closing.Owners, wire.Owner{Worker: m.id, Lo: m.size * int64(i) / n, Hi: m.size * int64(i+1) / n})
	}
	l.publish()
}

// commit commits the step when all full members have applied it.
func (l *leader) commit() {
	r := &l.round
	if r.Kind != wire.Train || r.Closing == nil || len(l.full()) == 0 {
		return
	}
	var first *wire.Applied
	for _, m := range l.full() {
		a, ok := l.applied[m.id]
		if !ok {
			return
		}
		if first == nil {
			first = &a
		}
		if a.Parameters != first.Parameters || a.Gradient != first.Gradient {
			l.t.Errorf("step %d: %s has parameters %s, %s has %s", r.Step, m.id, a.Parameters, first.Worker, first.Parameters)
		}
	}
	if int(r.Step) < len(l.commits) {
		if l.commits[r.Step].Parameters != first.Parameters {
			l.t.Errorf("step %d executed again: parameters %s, want %s", r.Step, first.Parameters, l.commits[r.Step].Parameters)
		}
	} else {
		l.commits = append(l.commits, *first)
	}
	r.Commit = &wire.Commit{Round: r.Number, Step: r.Step + 1, Parameters: first.Parameters, Gradient: first.Gradient, Maxima: r.Closing.Maxima}
	l.last = r.Closing.Maxima
	l.publish()
	r.Step++
	l.between()
}
