// Package plan decides what the fleet does next. It is pure: the same state, knowledge and time give the same
// commands, so every race of the protocol can be replayed in one goroutine. DESIGN.md has the argument.
package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// Plan returns the commands that should be applied now, in order, as one entry of the log. It looks ahead by applying
// each to a copy of the state, so a later command may build on an earlier one. An error is a broken invariant: a
// command that the state rejects.
func Plan(s *fsm.State, seen *Seen, now time.Time) ([]fsm.Command, error) {
	p := &planner{s: s, seen: seen, now: now}
	for _, r := range s.Runs {
		if p.at, p.v = r.ID, seen.of(r.ID); !r.State.Over() {
			p.frozen()
		}
	}
	p.members()
	p.assign()
	for _, r := range s.Runs {
		if r.State.Over() {
			continue
		}
		p.at, p.v, p.led = r.ID, seen.of(r.ID), len(s.Full(r.ID)) > 0
		p.retain()
		p.saving()
		if r := p.run(); r.State.Working() && p.v.Ready {
			p.work()
		}
	}
	return p.commands, p.err
}

type planner struct {
	s        *fsm.State
	seen     *Seen
	now      time.Time
	wanted   map[string]string // members that are to leave their run's round, and for which run; "" = none
	commands []fsm.Command
	err      error

	// Of the run that is looked at.
	at  string
	v   *RunSeen
	led bool // there was a full member when this look began
}

// do adds a command and moves the look-ahead past it.
func (p *planner) do(c fsm.Command) bool {
	next, err := p.s.Apply(p.now, c)
	if err != nil {
		if p.err == nil {
			p.err = fmt.Errorf("plan %T: %w", c, err)
		}
		return false
	}
	p.s = next
	p.commands = append(p.commands, c)
	return true
}

func (p *planner) run() *fsm.Run { return p.s.Run(p.at) }

func (p *planner) work() {
	p.promote()
	if len(p.s.Full(p.at)) == 0 {
		if p.led {
			return // the last was lost just now: the leader sets Wait
		}
		p.recover()
		if r := p.run(); r.State == fsm.Stopping && !p.now.Before(p.v.Wait) {
			// Nobody could write a checkpoint: the newest one stays where the run goes on.
			p.do(&fsm.SetState{Run: r.ID, State: fsm.Paused, Reason: r.Reason})
		}
		return
	}
	p.follow()
	switch r := p.run(); {
	case r.Round == nil:
	case r.Round.Kind == fsm.Train:
		p.step()
	case r.State == fsm.Stopping || p.everybodyWanted(): // it may take minutes, and is made again when the run goes on
		p.do(&fsm.Abandon{Run: r.ID, Round: r.Round.Number})
	default:
		p.evaluation()
	}
	if r := p.run(); r.Round == nil && r.State.Working() && len(p.s.Full(p.at)) > 0 {
		p.promote() // a follower that applied the step just committed
		p.between()
	}
}

// settle ends the work on a run whose parameters are in doubt or were not committed: they are taken from a checkpoint
// again when it is resumed.
func (p *planner) settle(state fsm.Lifecycle, format string, a ...any) {
	for _, w := range p.s.Full(p.at) {
		p.do(&fsm.Demote{Worker: w})
	}
	p.do(&fsm.SetState{Run: p.run().ID, State: state, Reason: fmt.Sprintf(format, a...)})
}

// assignable returns the full members that take shards: all that do not drain, or all if all do.
func (p *planner) assignable() []string {
	full := p.s.Full(p.at)
	stay := slices.DeleteFunc(slices.Clone(full), func(w string) bool { return p.leaving(w) })
	if len(stay) == 0 {
		return full
	}
	return stay
}

// leaving reports whether a member drains, or is wanted elsewhere: both end in the same way.
func (p *planner) leaving(worker string) bool {
	if _, wanted := p.wanted[worker]; wanted {
		return true
	}
	w := p.seen.Workers[worker]
	return w != nil && w.Leaving != ""
}

// everybodyLeaves reports whether all who hold the parameters drain.
func (p *planner) everybodyLeaves() bool {
	return !slices.ContainsFunc(p.s.Full(p.at), func(w string) bool { return !p.leaving(w) })
}

// everybodyWanted reports whether other runs want all who hold the parameters.
func (p *planner) everybodyWanted() bool {
	return !slices.ContainsFunc(p.s.Full(p.at), func(w string) bool { _, wanted := p.wanted[w]; return !wanted })
}

func (p *planner) full(worker string) bool {
	m := p.s.Member(worker)
	return m != nil && m.Run == p.at && !m.Behind
}
