package plan

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// Check is what a worker found when it computed a shard again: the digest of its gradient and, of a step with embeddings,
// that of its rows.
type Check struct{ Worker, Name, Digest, Rows string }

// Audit asks a worker for a second computation of a shard.
type Audit struct {
	Shard  int
	Worker string
}

// Audited lists the shards of a training round that are computed a second time before the closing: a share of them, chosen
// by a hash of run, step and shard, so that every attempt and every leader chooses the same.
func Audited(r *fsm.Run) []int32 {
	var out []int32
	if share := r.Settings.Audit; share > 0 && r.Round != nil && r.Round.Kind == fsm.Train {
		for shard := range r.Round.Shards {
			if drawn(r.ID, r.Round.Step, shard) < share {
				out = append(out, int32(shard))
			}
		}
	}
	return out
}

// drawn returns a number in [0, 1) for a shard of a step.
func drawn(run string, step int64, shard int) float64 {
	b := binary.LittleEndian.AppendUint64([]byte(run+"\x00"), uint64(step))
	sum := sha256.Sum256(binary.LittleEndian.AppendUint64(b, uint64(shard)))
	return float64(binary.LittleEndian.Uint64(sum[:])>>11) / (1 << 53)
}

// Audits lists the second computations that the round in flight waits for.
func Audits(s *fsm.State, r *fsm.Run, seen *Seen) []Audit {
	known := seen.of(r.ID)
	var out []Audit
	for _, shard := range Audited(r) {
		for _, b := range ballots(s, r, known, int(shard)) {
			if auditor := b.next(s, r, seen); auditor != "" {
				out = append(out, Audit{int(shard), auditor})
				break // it answers for both
			}
		}
	}
	return out
}

// Check takes what a worker found about a shard that it was asked to compute again, and reports whether it is of the round
// and attempt in flight.
func (v *RunSeen) Check(s *fsm.State, run *fsm.Run, round int64, attempt int32, shard int, c Check) bool {
	m := s.Member(c.Worker)
	if m == nil || m.Run != run.ID || run.Round == nil || run.Round.Number != round || v.Round != round || run.Round.Attempt != attempt || v.Attempt != attempt || m.Behind || c.Digest == "" {
		return false
	}
	if v.Checks == nil {
		v.Checks = map[int][]Check{}
	}
	if !slices.ContainsFunc(v.Checks[shard], func(o Check) bool { return o.Worker == c.Worker }) {
		c.Name = m.Name
		v.Checks[shard] = append(v.Checks[shard], c)
	}
	return true
}

// ballot is what several workers say that one thing is: the first is the one whose word everybody used.
type ballot struct {
	what     string
	shard    int
	numerics string // of those whose bits can be compared with it
	votes    []vote
}

type vote struct{ worker, name, digest string }

// ballots collects what is known of a shard: its gradient and, once somebody has embedded it again, its embeddings. Without
// a report that counts, or one without a digest (of a worker that does not know audits), there is nothing to compare.
func ballots(s *fsm.State, r *fsm.Run, seen *RunSeen, shard int) []ballot {
	rep := seen.backward(r.Round, shard)
	if rep == nil || rep.Digest == "" {
		return nil
	}
	m := s.Member(rep.Worker)
	if m == nil || m.Behind || m.Run != r.ID {
		return nil
	}
	gradient := ballot{"gradient", shard, m.Numerics, []vote{{rep.Worker, m.Name, rep.Digest}}}
	rows := ballot{what: "embeddings", shard: shard, numerics: m.Numerics}
	if e := seen.embedded(r.Round, shard); e != nil && e.Digest != "" {
		// Whoever embedded it may be gone; with mixed numerics its bits may rightly be others then.
		if by := s.Member(e.Worker); by != nil && by.Numerics == m.Numerics {
			rows.votes = append(rows.votes, vote{e.Worker, by.Name, e.Digest})
		} else if by == nil && !r.Settings.Mixed {
			rows.votes = append(rows.votes, vote{worker: e.Worker, digest: e.Digest})
		}
	}
	for _, c := range seen.Checks[shard] {
		// A worker that is gone still has its say, unless it was sent away for what it said.
		if slices.Contains(s.Quarantined, c.Name) {
			continue
		}
		if c.Worker != rep.Worker {
			gradient.votes = append(gradient.votes, vote{c.Worker, c.Name, c.Digest})
		}
		if c.Rows != "" && len(rows.votes) > 0 && c.Worker != rows.votes[0].worker {
			rows.votes = append(rows.votes, vote{c.Worker, c.Name, c.Rows})
		}
	}
	out := []ballot{gradient}
	if len(rows.votes) > 1 {
		out = append(out, rows)
	}
	return out
}

// agreed returns the digest that more than half of at least two say; "" if there is none (yet).
func (b ballot) agreed() string {
	for _, v := range b.votes {
		n := 0
		for _, o := range b.votes {
			if o.digest == v.digest {
				n++
			}
		}
		if n >= 2 && 2*n > len(b.votes) {
			return v.digest
		}
	}
	return ""
}

// next returns who is to compute the shard again; "" if nobody is needed, or nobody is left.
func (b ballot) next(s *fsm.State, r *fsm.Run, seen *Seen) string {
	if b.agreed() != "" {
		return ""
	}
	known := seen.of(r.ID)
	var free []string
	for _, w := range s.Full(r.ID) {
		m, v := s.Member(w), seen.Workers[w]
		if v == nil || v.Leaving != "" || !v.Lost.IsZero() || m.Numerics != b.numerics {
			continue
		}
		said := slices.ContainsFunc(b.votes, func(o vote) bool { return o.worker == w }) ||
			slices.ContainsFunc(known.Checks[b.shard], func(c Check) bool { return c.Worker == w })
		if !said {
			free = append(free, w)
		}
	}
	if len(free) == 0 {
		return ""
	}
	return free[int(drawn(r.ID, r.Round.Step, b.shard)*float64(1<<32))%len(free)]
}

// audit reports whether the closing has to wait, for a second computation or because one has found something. Nobody has
// applied the step, so the round is given up and made again without the worker that was wrong, its embeddings included.
func (p *planner) audit() bool {
	r := p.run()
	wait := false
	for _, shard := range Audited(r) {
		for _, b := range ballots(p.s, r, p.v, int(shard)) {
			right := b.agreed()
			if right == "" {
				if b.next(p.s, r, p.seen) != "" {
					wait = true
				} else if len(b.votes) > 1 {
					p.settle(fsm.Paused, "step %d, shard %d: workers computed different %ss, and there is no further worker to tell which is right: %s; resume executes it again from the newest checkpoint",
						r.Round.Step+1, shard, strings.TrimSuffix(b.what, "s"), b)
					return true
				}
				continue
			}
			found := false
			for _, v := range b.votes {
				if v.digest == right {
					continue
				}
				if found = true; p.s.Member(v.worker) != nil {
					p.do(&fsm.Expire{Worker: v.worker, Quarantine: true, Reason: fmt.Sprintf("its %s of shard %d of step %d is not what others compute (audit): %s", b.what, shard, r.Round.Step+1, b)})
				}
			}
			if found {
				p.do(&fsm.Abandon{Run: r.ID, Round: r.Round.Number})
				return true
			}
		}
	}
	return wait
}

// String lists who said what.
func (b ballot) String() string {
	var parts []string
	for _, v := range b.votes {
		parts = append(parts, v.worker+": "+short(v.digest))
	}
	return strings.Join(parts, ", ")
}
