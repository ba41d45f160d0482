package plan

import (
	"strconv"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

func itoa(i int64) string { return strconv.FormatInt(i, 10) }

// counted returns the backward report of a shard if its sum is still there: its worker is a full member.
func (p *planner) counted(shard int) *Report {
	if rep := p.v.backward(p.run().Round, shard); rep != nil && p.full(rep.Worker) {
		return rep
	}
	return nil
}

// done reports whether every shard's gradient is in some live worker's sum.
func (p *planner) done() bool {
	for shard := range p.run().Round.Shards {
		if p.counted(shard) == nil {
			return false
		}
	}
	return true
}

// maxima returns the largest |g| of every tensor over all shards, and whether some value exceeds its bound.
func (p *planner) maxima() (maxima []float32, overflow bool) {
	for shard := range p.run().Round.Shards {
		rep := p.counted(shard)
		overflow = overflow || rep.Overflow
		for len(maxima) < len(rep.Maxima) {
			maxima = append(maxima, 0)
		}
		for i, m := range rep.Maxima {
			maxima[i] = max(maxima[i], m)
		}
	}
	return maxima, overflow
}

// overflow starts the next attempt if some value exceeded its bound. It is asked when all shards are done and not
// before: the next attempt's exponents come from the maxima of all shards, whoever was first. An attempt that had a
// closing fits and stays, for somebody may have applied it: only workers of mixed numerics can say otherwise.
func (p *planner) overflow() bool {
	r := p.run()
	maxima, overflow := p.maxima()
	if !overflow || r.Round.Closing != nil {
		return false
	}
	return p.do(&fsm.Retry{Run: r.ID, Round: r.Round.Number, Attempt: r.Round.Attempt + 1, Maxima: maxima})
}

// close commits the next closing. Finished members own everything and need no sums; without any, every full member
// owns a part and contributes the shards that were accepted from it.
func (p *planner) close(finished []string) {
	r := p.run()
	k := fsm.Closing{Number: 1, Complete: len(finished) > 0}
	if old := r.Round.Closing; old != nil {
		k.Number = old.Number + 1
		k.Maxima, k.Loss, k.Tokens = old.Maxima, old.Loss, old.Tokens
		if !k.Complete && !old.Withdrawn && p.covered(old) {
			k.Cover = old.Cover // repeated, because it stalls or an owner was lost
		}
	}
	if !k.Complete && k.Cover == nil {
		k.Maxima, _ = p.maxima()
		k.Loss, k.Tokens = 0, 0
		for shard := range r.Round.Shards {
			rep := p.counted(shard)
			k.Loss += rep.Loss
			k.Tokens += int64(rep.Tokens)
		}
		for _, w := range p.s.Full(p.at) {
			mine := ranges(r.Round.Shards, func(shard int) bool { return p.counted(shard).Worker == w })
			if len(mine) > 0 {
				k.Cover = append(k.Cover, fsm.Cover{Worker: w, Shards: mine})
			}
		}
	}
	owners := finished
	if len(owners) == 0 {
		owners = p.s.Full(p.at)
	}
	for i, w := range owners {
		n := int64(len(owners))
		k.Owners = append(k.Owners, fsm.Owner{Worker: w, Lo: r.Size * int64(i) / n, Hi: r.Size * int64(i+1) / n})
	}
	p.do(&fsm.Close{Run: r.ID, Round: r.Round.Number, Closing: k})
}
