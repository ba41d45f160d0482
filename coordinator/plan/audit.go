package plan

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// Check is a worker's digest of a shard's gradient, computed to compare it.
type Check struct{ Worker, Name, Digest string }

// Audit asks a worker for a second computation of a shard's gradient.
type Audit struct {
	Shard  int
	Worker string
}

// Audited lists the shards of a training round whose gradients are computed a second time before the closing: a share of
// them, chosen by a hash of run, step and shard, so that every attempt and every leader chooses the same.
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
		v := poll(s, r, known, int(shard))
		if auditor := v.next(s, r, seen); auditor != "" {
			out = append(out, Audit{int(shard), auditor})
		}
	}
	return out
}

// Check takes a worker's digest of a shard that it was asked to compute again, and reports whether it is of the round
// and attempt in flight.
func (v *RunSeen) Check(s *fsm.State, run *fsm.Run, round int64, attempt int32, shard int, worker, digest string) bool {
	m := s.Member(worker)
	if m == nil || m.Run != run.ID || run.Round == nil || run.Round.Number != round || v.Round != round || run.Round.Attempt != attempt || v.Attempt != attempt || m.Behind || digest == "" {
		return false
	}
	if v.Checks == nil {
		v.Checks = map[int][]Check{}
	}
	if !slices.ContainsFunc(v.Checks[shard], func(c Check) bool { return c.Worker == worker }) {
		v.Checks[shard] = append(v.Checks[shard], Check{worker, m.Name, digest})
	}
	return true
}

// votes are the digests of one shard: of the worker in whose sum it is, and of those who computed it again.
type votes struct {
	shard  int
	report *Report
	all    []Check
}

// poll collects what is known of a shard. Without a report that counts, or one without a digest (of a worker that does
// not know audits), there is nothing to compare.
func poll(s *fsm.State, r *fsm.Run, seen *RunSeen, shard int) votes {
	v := votes{shard: shard}
	rep := seen.backward(r.Round, shard)
	if rep == nil || rep.Digest == "" {
		return v
	}
	m := s.Member(rep.Worker)
	if m == nil || m.Behind || m.Run != r.ID {
		return v
	}
	v.report = rep
	v.all = append(v.all, Check{rep.Worker, m.Name, rep.Digest})
	for _, c := range seen.Checks[shard] {
		// A worker that is gone still has its say, unless it was sent away for what it said.
		if c.Worker != rep.Worker && !slices.Contains(s.Quarantined, c.Name) {
			v.all = append(v.all, c)
		}
	}
	return v
}

// agreed returns the digest that more than half of at least two say; "" if there is none (yet).
func (v votes) agreed() string {
	for _, c := range v.all {
		n := 0
		for _, o := range v.all {
			if o.Digest == c.Digest {
				n++
			}
		}
		if n >= 2 && 2*n > len(v.all) {
			return c.Digest
		}
	}
	return ""
}

// next returns who is to compute the shard again; "" if nobody is needed, or nobody is left.
func (v votes) next(s *fsm.State, r *fsm.Run, seen *Seen) string {
	if v.report == nil || v.agreed() != "" {
		return ""
	}
	var free []string
	for _, w := range s.Full(r.ID) {
		m, known := s.Member(w), seen.Workers[w]
		if slices.ContainsFunc(v.all, func(c Check) bool { return c.Worker == w }) || known == nil || known.Leaving != "" || !known.Lost.IsZero() {
			continue
		}
		if m.Numerics == s.Member(v.report.Worker).Numerics { // with mixed numerics only equal ones have equal bits
			free = append(free, w)
		}
	}
	if len(free) == 0 {
		return ""
	}
	return free[int(drawn(r.ID, r.Round.Step, v.shard)*float64(1<<32))%len(free)]
}

// audit reports whether the closing has to wait, for a second computation or because one has found something. Nobody has
// applied the step, so the round is given up and made again without the worker that was wrong, its embeddings included.
func (p *planner) audit() bool {
	r := p.run()
	wait := false
	for _, shard := range Audited(r) {
		v := poll(p.s, r, p.v, int(shard))
		if v.report == nil {
			continue
		}
		right := v.agreed()
		if right == "" {
			if v.next(p.s, r, p.seen) != "" {
				wait = true
			} else if len(v.all) > 1 {
				p.settle(fsm.Paused, "step %d, shard %d: workers computed different gradients, and there is no further worker to tell which is right: %s; resume executes it again from the newest checkpoint",
					r.Round.Step+1, shard, v)
				return true
			}
			continue
		}
		found := false
		for _, c := range v.all {
			if c.Digest != right && p.s.Member(c.Worker) != nil {
				found = true
				p.do(&fsm.Expire{Worker: c.Worker, Quarantine: true, Reason: fmt.Sprintf("its gradient of shard %d of step %d is not that of the others (audit): %s", shard, r.Round.Step+1, v)})
			}
		}
		if found {
			p.do(&fsm.Abandon{Run: r.ID, Round: r.Round.Number})
			return true
		}
	}
	return wait
}

// String lists who said what.
func (v votes) String() string {
	var parts []string
	for _, c := range v.all {
		parts = append(parts, c.Worker+": "+short(c.Digest))
	}
	return strings.Join(parts, ", ")
}
