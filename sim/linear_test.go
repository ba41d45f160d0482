package sim

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/anishathalye/porcupine"

	"github.com/counterpoint-ml/counterpoint/coordinator/consensus"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/worker"
)

// A history is what leaders proposed and workers saw, each with the time from when it began until its outcome was known.
// It is linearizable if some order that respects those times makes sense of a register of steps and of lease epochs:
// steps are committed one after another, leases are granted under rising epochs, and nobody sees what was not there.

// register is what the history is of.
type register struct {
	cursor, committed int64
	epoch             int64
}

// deed is an operation: an entry that took effect, or what a worker saw.
type deed struct {
	entry *fsm.Entry // nil: an observation
	epoch int64      // the newest lease epoch after it, or seen
	step  int64      // seen: steps committed
}

var model = porcupine.Model{
	Init: func() any { return register{} },
	Step: func(state, input, _ any) (bool, any) {
		r, d := state.(register), input.(deed)
		if d.entry == nil {
			return r.committed >= d.step && r.epoch >= d.epoch, r
		}
		for _, c := range d.entry.Commands {
			switch c := c.(type) {
			case *fsm.Commit:
				if c.Step != r.cursor {
					return false, r
				}
				r.cursor++
				r.committed = max(r.committed, r.cursor)
			case *fsm.Restart:
				r.cursor = c.Step
			case *fsm.Open, *fsm.Grant:
				if d.epoch <= r.epoch {
					return false, r
				}
			}
		}
		r.epoch = max(r.epoch, d.epoch)
		return true, r
	},
}

// linearizable checks the history.
func (t *tap) linearizable() (wrong []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	places := map[string]int{}
	for i, b := range t.log {
		places[string(b)] = i
	}
	operations := t.seen
	whole := fsm.NewMachine()
	effects := make([]*fsm.Entry, len(t.log))
	epochs := make([]int64, len(t.log))
	for i, b := range t.log {
		chosen := len(whole.State().Keys)
		last := ""
		if chosen > 0 {
			last = whole.State().Keys[chosen-1]
		}
		err := whole.Apply(b)
		keys := whole.State().Keys
		if e, perr := fsm.ParseEntry(b); perr == nil && err == nil && len(keys) > 0 && keys[len(keys)-1] == e.Key && e.Key != last {
			effects[i] = e
		}
		epochs[i] = whole.State().Epoch
	}
	for i, c := range t.calls {
		place, there := places[string(c.entry)]
		certain := errors.Is(c.outcome, consensus.ErrNotLeader) && !errors.Is(c.outcome, consensus.ErrUncertain)
		switch {
		case there && !c.unanswered && certain:
			wrong = append(wrong, fmt.Sprintf("%s was told that its proposal %d is certainly not accepted, and it is entry %d", c.by, i, place))
			continue
		case !there && !c.unanswered && c.outcome == nil:
			wrong = append(wrong, fmt.Sprintf("%s was told that its proposal %d is committed, and nobody applied it", c.by, i))
			continue
		case !there || effects[place] == nil:
			continue // without effect
		}
		end := c.end
		if c.unanswered || c.outcome != nil {
			end = math.MaxInt64
		}
		operations = append(operations, porcupine.Operation{Input: deed{entry: effects[place], epoch: epochs[place]}, Call: c.begin, Return: end})
	}
	if !porcupine.CheckOperations(model, operations) {
		wrong = append(wrong, fmt.Sprintf("the history of %d operations is not linearizable", len(operations)))
	}
	return wrong
}

// link is a worker's link whose rounds are noted.
func (t *tap) link(l worker.Link) worker.Link { return &eye{Link: l, tap: t} }

type eye struct {
	worker.Link
	*tap
	last deed // guarded by the tap's lock
}

// Beat implements worker.Link.
func (e *eye) Beat(ctx context.Context, m *wire.Beat) (*wire.Pulse, error) {
	p, err := e.Link.Beat(ctx, m)
	if err == nil && p.Round != nil {
		e.note(p.Round)
	}
	return p, err
}

// Attend implements worker.Link.
func (e *eye) Attend(run, worker string, h worker.Handlers) (func(), error) {
	inner := h.Round
	h.Round = func(r *wire.Round) {
		e.note(r)
		inner(r)
	}
	return e.Link.Attend(run, worker, h)
}

func (e *eye) note(r *wire.Round) {
	d := deed{}
	if r.Commit != nil {
		d.step = r.Commit.Step
	}
	for _, l := range r.Leases {
		d.epoch = max(d.epoch, l.Epoch)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if d == e.last {
		return
	}
	e.last = d
	e.clock++
	e.seen = append(e.seen, porcupine.Operation{Input: d, Call: e.clock, Return: e.clock})
}
