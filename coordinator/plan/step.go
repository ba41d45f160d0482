package plan

import (
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// step moves a training round on. What it can be in, from the end backwards: everybody has applied the step; a closing
// is in flight or broken; all shards are done; shards are being computed.
func (p *planner) step() {
	r := p.run()
	if p.nonFinite() || p.agree() {
		return
	}
	finished := p.finished()
	k := r.Round.Closing
	switch {
	case k == nil:
	case !k.Withdrawn && p.whole(k):
		if p.now.Sub(k.At) >= p.seen.Timers.Stall {
			p.close(finished)
		}
		return
	case len(finished) > 0: // they hold every range: the others need nothing else
		p.close(finished)
		return
	case !k.Withdrawn && p.covered(k): // only owners were lost: the same sums go to others
		p.close(nil)
		return
	}
	p.adopt(func(shard int) bool { return true })
	p.withdraw()
	if p.done() {
		if p.audit() || p.overflow() {
			return
		}
		p.close(nil)
		return
	}
	p.steal()
}

// withdraw takes a broken closing back: the shards whose sums are not known to be anywhere are leased again, to who has
// their leases already. Workers repeat no report under a closing, so a leader that has none would wait for ever.
func (p *planner) withdraw() {
	r := p.run()
	if k := r.Round.Closing; k == nil || k.Withdrawn || p.done() {
		return
	}
	var again []fsm.Lease
	for _, l := range r.Round.Leases {
		for _, span := range ranges(r.Round.Shards, func(i int) bool { return i >= l.Lo && i < l.Hi && p.counted(i) == nil }) {
			again = append(again, fsm.Lease{Lo: span.Lo, Hi: span.Hi, Worker: l.Worker})
		}
	}
	p.do(&fsm.Grant{Run: r.ID, Round: r.Round.Number, Leases: again})
}

// covered reports whether everybody whose sum a closing names is there.
func (p *planner) covered(k *fsm.Closing) bool {
	return !k.Complete && !slices.ContainsFunc(k.Cover, func(c fsm.Cover) bool { return !p.full(c.Worker) })
}

// whole reports whether everybody that a closing needs is there.
func (p *planner) whole(k *fsm.Closing) bool {
	if !k.Complete && !p.covered(k) {
		return false
	}
	for _, o := range k.Owners {
		if !p.full(o.Worker) {
			return false
		}
	}
	return true
}

// finished returns the full members that have applied the step: each holds the whole total.
func (p *planner) finished() []string {
	var out []string
	for _, w := range p.s.Full(p.at) {
		if _, ok := p.v.applied(p.run().Round, w); ok {
			out = append(out, w)
		}
	}
	return out
}

// nonFinite fails the run at the first shard with a NaN or an infinity.
func (p *planner) nonFinite() bool {
	r := p.run()
	for shard := range r.Round.Shards {
		for _, rep := range []*Report{p.v.embedded(r.Round, shard), p.v.backward(r.Round, shard)} {
			if rep == nil || !rep.NonFinite {
				continue
			}
			rows := rep.Rows
			if rows != "" {
				rows = " (" + rows + ")"
			}
			if r.Round.Kind == fsm.Evaluate {
				p.settle(fsm.Failed, "evaluation of %s after %d steps: shard %d of %d%s gives an embedding that is not finite",
					r.Settings.Suites[r.Round.Suite], r.Round.Step, shard, r.Round.Shards, rows)
				return true
			}
			p.settle(fsm.Failed, "step %d: shard %d of %d%s gives a loss or a gradient that is not finite; nothing of the step was committed",
				r.Round.Step+1, shard, r.Round.Shards, rows) // as progress counts: the step that would have been committed
			return true
		}
	}
	return false
}

// agree commits the step when all full members have applied it with the same digests, and names the doubt when they
// differ. It reports whether the round is over, or waits for nothing but that.
func (p *planner) agree() bool {
	r, full := p.run(), p.s.Full(p.at)
	groups, order := map[[2]string][]string{}, [][2]string{}
	for _, w := range full {
		a, ok := p.v.applied(r.Round, w)
		if !ok {
			return false
		}
		key := [2]string{a.Gradient, a.Parameters}
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], w)
	}
	best := order[0]
	for _, key := range order {
		if len(groups[key]) > len(groups[best]) {
			best = key
		}
	}
	again := false
	if len(order) > 1 {
		if len(full) < 3 || 2*len(groups[best]) <= len(full) {
			p.settle(fsm.Paused, "step %d: workers disagree about the parameters: %s; resume executes it again from the newest checkpoint", r.Round.Step+1, describe(groups, order))
			return true
		}
		for _, key := range order {
			for _, w := range groups[key] {
				if key != best {
					again = true
					p.do(&fsm.Expire{Worker: w, Quarantine: true, Reason: "odd one out at step " + itoa(r.Round.Step+1) + ": " + describe(groups, order)})
				}
			}
		}
	}
	if again {
		p.repeat()
		return true
	}
	p.commit(groups[best])
	return true
}

// repeat gives a step up that everybody has applied, and in which one who was wrong had a part: its embeddings and its sum
// are in what the others hold too. Nobody has the parameters of before any more, so the fleet takes them from the newest
// checkpoint, and executes what was committed since again.
func (p *planner) repeat() {
	for _, w := range p.s.Full(p.at) {
		p.do(&fsm.Demote{Worker: w})
	}
	p.do(&fsm.Abandon{Run: p.run().ID, Round: p.run().Round.Number})
}

// commit commits the step as the workers have it, who agree. The loss over all embeddings is known to those that
// executed the step, and 0 with one that took the total as a follower.
func (p *planner) commit(workers []string) {
	r := p.run()
	a, _ := p.v.applied(r.Round, workers[0])
	for _, w := range workers {
		if a.Loss == 0 {
			a, _ = p.v.applied(r.Round, w)
		}
	}
	step := r.Round.Step
	if step < r.Committed() {
		if old := r.Ledger.At(step); old.Gradient != a.Gradient || old.Parameters != a.Parameters {
			p.settle(fsm.Paused, "step %d was executed again with another result: gradient %s and parameters %s, committed were %s and %s",
				step+1, a.Gradient, a.Parameters, old.Gradient, old.Parameters)
			return
		}
	}
	loss := a.Loss
	if k := r.Round.Closing; k != nil && k.Loss != 0 {
		loss = k.Loss
	}
	if loss-loss != 0 { // NaN or infinite, although every gradient was finite
		p.settle(fsm.Failed, "step %d: the loss is %v; nothing of the step was committed", step+1, loss)
		return
	}
	p.do(&fsm.Commit{
		Run: r.ID, Round: r.Round.Number, Step: step, Attempt: r.Round.Attempt, Gradient: a.Gradient, Parameters: a.Parameters,
		Loss: loss, Norm: a.Norm, Rate: a.Rate,
	})
}

func describe(groups map[[2]string][]string, order [][2]string) string {
	var parts []string
	for _, key := range order {
		parts = append(parts, strings.Join(groups[key], ", ")+": gradient "+short(key[0])+", parameters "+short(key[1]))
	}
	return strings.Join(parts, "; ")
}

func short(digest string) string { return digest[:min(16, len(digest))] }
