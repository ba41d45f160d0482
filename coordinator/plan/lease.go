package plan

import (
	"slices"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// tokens returns the lengths of the shards of the round in flight; all 1 when they are not known (yet).
func (p *planner) tokens(w Work, shards int) []int32 {
	if t := p.v.Shapes[w].Tokens; len(t) == shards {
		return t
	}
	return slices.Repeat([]int32{1}, shards)
}

func (p *planner) roundTokens() []int32 {
	r := p.run().Round
	return p.tokens(Work{r.Kind, r.Step, r.Suite}, r.Shards)
}

// speeds returns the measured tokens a second of each worker; the mean of the others for one that is not measured.
func (p *planner) speeds(workers []string) []float64 {
	sum, n := 0.0, 0
	speeds := make([]float64, len(workers))
	for i, name := range workers {
		if w := p.seen.Workers[name]; w != nil && w.Speed > 0 {
			speeds[i] = w.Speed
			sum += w.Speed
			n++
		}
	}
	for i := range speeds {
		if speeds[i] == 0 {
			if speeds[i] = 1; n > 0 {
				speeds[i] = sum / float64(n)
			}
		}
	}
	return speeds
}

// share deals shards, ascending, to workers in runs whose tokens are in proportion to the workers' speeds. A shard
// goes to the worker in whose part of the line its middle lies.
func (p *planner) share(shards []int, tokens []int32, workers []string) []fsm.Lease {
	speeds := p.speeds(workers)
	power, total := 0.0, 0.0
	for _, s := range speeds {
		power += s
	}
	for _, shard := range shards {
		total += float64(tokens[shard])
	}
	var leases []fsm.Lease
	before, at, edge := 0.0, 0, total*speeds[0]/power
	for _, shard := range shards {
		middle := before + float64(tokens[shard])/2
		for at < len(workers)-1 && middle > edge {
			at++
			edge += total * speeds[at] / power
		}
		before += float64(tokens[shard])
		if n := len(leases); n > 0 && leases[n-1].Worker == workers[at] && leases[n-1].Hi == shard {
			leases[n-1].Hi = shard + 1
		} else {
			leases = append(leases, fsm.Lease{Lo: shard, Hi: shard + 1, Worker: workers[at]})
		}
	}
	return leases
}

// adopt leases the shards of lost workers again, and those that a draining one has not reported yet. needed says which
// shards still matter.
func (p *planner) adopt(needed func(shard int) bool) {
	r, workers := p.run(), p.assignable()
	var orphans []int
	for _, l := range r.Round.Leases {
		lost, drains := !p.full(l.Worker), p.leaving(l.Worker) && !slices.Contains(workers, l.Worker)
		for shard := l.Lo; shard < l.Hi; shard++ {
			if (lost || drains && !p.reported(shard)) && needed(shard) {
				orphans = append(orphans, shard)
			}
		}
	}
	if len(orphans) > 0 {
		p.do(&fsm.Grant{Run: r.ID, Round: r.Round.Number, Leases: p.share(orphans, p.roundTokens(), workers)})
	}
}

// reported reports whether a shard needs nothing more from its holder.
func (p *planner) reported(shard int) bool {
	if p.run().Round.Kind == fsm.Evaluate {
		return p.v.embedded(p.run().Round, shard) != nil
	}
	return p.counted(shard) != nil
}

// steal moves work from the worker that would be the last to one that has none left. It is the same path as recovery:
// a lease under a newer epoch.
func (p *planner) steal() {
	r, tokens := p.run(), p.roundTokens()
	pending := p.pending()
	workers := p.assignable()
	left := map[string][]int{}
	for shard := range r.Round.Shards {
		if h, ok := r.Round.Holder(shard); ok && pending(shard) {
			left[h.Worker] = append(left[h.Worker], shard)
		}
	}
	idle, victim, longest := "", "", time.Duration(0)
	speeds := p.speeds(workers)
	for i, w := range workers {
		if len(left[w]) == 0 {
			if idle == "" {
				idle = w
			}
			continue
		}
		sum := 0.0
		for _, shard := range left[w] {
			sum += float64(tokens[shard])
		}
		if d := time.Duration(sum / speeds[i] * float64(time.Second)); victim == "" || d > longest {
			victim, longest = w, d
		}
	}
	if idle == "" || victim == "" {
		return
	}
	mine, since := left[victim], r.Round.Opened
	newcomer := !slices.ContainsFunc(r.Round.Leases, func(l fsm.Lease) bool { return l.Worker == idle })
	h, _ := r.Round.Holder(mine[0])
	for _, t := range []time.Time{r.Round.Retried, h.At} {
		if t.After(since) {
			since = t
		}
	}
	measured := false
	if w := p.seen.Workers[victim]; w != nil {
		if measured = w.Speed > 0; w.Active.After(since) {
			since = w.Active
		}
	}
	late := p.now.Sub(since)
	switch {
	case len(mine) > 1 && (measured && longest >= p.seen.Timers.Steal || !measured && newcomer):
		mine = mine[(len(mine)+1)/2:]
	case late >= p.seen.Timers.Late+3*longest/time.Duration(len(mine)) && measured, late >= 5*p.seen.Timers.Late && !measured:
		// Nothing came from it for too long: all that it holds.
	default:
		return
	}
	var grants []fsm.Lease
	for _, span := range ranges(r.Round.Shards, func(i int) bool { return slices.Contains(mine, i) }) {
		grants = append(grants, fsm.Lease{Lo: span.Lo, Hi: span.Hi, Worker: idle})
	}
	p.do(&fsm.Grant{Run: r.ID, Round: r.Round.Number, Leases: grants})
}

// pending returns what the phase in flight still lacks: embeddings until all are there, then gradients.
func (p *planner) pending() func(shard int) bool {
	r := p.run().Round
	noEmbedding := func(shard int) bool { return p.v.embedded(r, shard) == nil }
	if r.Gather && (r.Kind == fsm.Evaluate || len(ranges(r.Shards, noEmbedding)) > 0) {
		return noEmbedding
	}
	return func(shard int) bool { return p.counted(shard) == nil }
}
