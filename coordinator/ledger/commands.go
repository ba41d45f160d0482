package ledger

import (
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// command checks one applied command.
func (p *Prover) command(c fsm.Command, before, after *fsm.State, entry uint64) error {
	if id, ok := fsm.Submitted(c); ok && id == p.run {
		return p.begin(find(after, p.run), entry)
	}
	switch c := c.(type) {
	case *fsm.Open:
		if c.Run == p.run && c.Kind == fsm.Train {
			return p.open(c, entry)
		}
		if c.Run == p.run {
			p.round, p.last = nil, c.Number
		}
	case *fsm.Grant:
		if c.Run == p.run && p.round != nil && p.round.number == c.Round {
			p.proof.Releases += p.lease(c.Leases)
			if p.round.closing > 0 && !p.round.withdrawn {
				p.proof.Withdrawn++
			}
			p.round.withdrawn = true
		}
	case *fsm.Retry:
		if c.Run == p.run {
			return p.retry(c, entry)
		}
	case *fsm.Close:
		if c.Run == p.run {
			return p.close(c, entry)
		}
	case *fsm.Commit:
		if c.Run == p.run {
			return p.commit(c, after, entry)
		}
	case *fsm.Abandon:
		if c.Run == p.run {
			p.round = nil
		}
	case *fsm.SetState:
		if c.Run == p.run && !c.State.Working() {
			p.round = nil
		}
	case *fsm.Rewind:
		if c.Run == p.run {
			return p.rewind(c, after, entry)
		}
	case *fsm.Restart:
		if c.Run == p.run {
			p.round = nil
			p.proof.Restarts++
		}
	}
	return nil
}

// open checks that a round is about the batch that the data give.
func (p *Prover) open(c *fsm.Open, entry uint64) error {
	if c.Number <= p.last {
		return p.violation(entry, step(c.Step), -1, "round %d was opened after round %d", c.Number, p.last)
	}
	if p.round != nil {
		return p.violation(entry, step(c.Step), -1, "round %d was opened while round %d was in flight", c.Number, p.round.number)
	}
	p.last = c.Number
	p.round = &round{number: c.Number, step: c.Step, shards: c.Shards, batch: c.Batch}
	next := 0
	for _, l := range c.Leases {
		if l.Lo != next || l.Hi <= l.Lo || l.Hi > c.Shards {
			return p.violation(entry, step(c.Step), l.Lo, "the leases of round %d do not hold each of %d shards once: [%d, %d) follows shard %d", c.Number, c.Shards, l.Lo, l.Hi, next-1)
		}
		next = l.Hi
	}
	if next != c.Shards {
		return p.violation(entry, step(c.Step), next, "nobody holds a lease of it in round %d", c.Number)
	}
	if err := p.compare(p.round, entry); err != nil {
		return err
	}
	p.lease(c.Leases)
	return nil
}

// compare compares a round's shards with the recomputed batch's.
func (p *Prover) compare(r *round, entry uint64) error {
	b, err := p.batches.Batch(r.step)
	if err != nil {
		return p.violation(entry, step(r.step), -1, "its batch cannot be computed again: %v", err)
	}
	if len(b.Header.Tokens) != r.shards {
		return p.violation(entry, step(r.step), -1, "round %d has %d shards, the batch has %d", r.number, r.shards, len(b.Header.Tokens))
	}
	if r.batch != "" && r.batch != b.Digest() {
		return p.violation(entry, step(r.step), -1, "round %d was about batch %s, the data give %s", r.number, r.batch, b.Digest())
	}
	r.tokens = 0
	for _, n := range b.Header.Tokens {
		r.tokens += int64(n)
	}
	return nil
}

// lease lays leases over those of the round and returns how many shards changed hands.
func (p *Prover) lease(leases []fsm.Lease) (moved int64) {
	r := p.round
	if r.held == nil {
		r.held, r.holder = make([]map[string]bool, r.shards), make([]string, r.shards)
	}
	for _, l := range leases {
		for shard := l.Lo; shard < min(l.Hi, r.shards); shard++ {
			if r.held[shard] == nil {
				r.held[shard] = map[string]bool{}
			}
			if r.holder[shard] != l.Worker {
				moved++
			}
			r.held[shard][l.Worker], r.holder[shard] = true, l.Worker
		}
	}
	return moved
}

// rewind takes the samples of steps back that are to be counted anew.
func (p *Prover) rewind(c *fsm.Rewind, after *fsm.State, entry uint64) error {
	n := int64(len(p.record))
	if c.Step < 0 || c.Step > n {
		return p.violation(entry, c.Step, -1, "steps after it were taken back, of %d committed", n)
	}
	p.round = nil
	p.proof.Rewound += n - c.Step
	p.note("steps %d to %d were taken back and executed anew: %s", c.Step+1, n, c.Reason)
	kept, logged := p.record[:c.Step], p.proof.Logged
	p.record, p.rows = nil, newRows(p.batches)
	p.proof.Samples, p.proof.Texts, p.proof.Tokens, p.proof.Shards, p.proof.Served = 0, 0, 0, 0, 0
	for s, rec := range kept {
		if err := p.count(int64(s), rec, entry); err != nil {
			return err
		}
		p.record = append(p.record, rec)
	}
	p.proof.Logged = min(logged, max(0, logged-(n-c.Step)))
	return nil
}

func (p *Prover) retry(c *fsm.Retry, entry uint64) error {
	r := p.round
	if r == nil || r.number != c.Round || c.Attempt != r.attempt+1 || r.closing > 0 {
		return p.violation(entry, 0, -1, "attempt %d of round %d does not follow what was in flight", c.Attempt, c.Round)
	}
	r.attempt, r.whole = c.Attempt, false
	p.proof.Retries++
	return nil
}

// close checks that a closing names each shard once, and for each a worker that held its lease.
func (p *Prover) close(c *fsm.Close, entry uint64) error {
	r, k := p.round, &c.Closing
	if r == nil || r.number != c.Round {
		return p.violation(entry, 0, -1, "closing %d of round %d, which is not in flight", k.Number, c.Round)
	}
	at := step(r.step)
	if k.Number != r.closing+1 {
		return p.violation(entry, at, -1, "closing %d follows closing %d", k.Number, r.closing)
	}
	r.closing, r.withdrawn = k.Number, false
	if k.Complete {
		if !r.whole {
			return p.violation(entry, at, -1, "closing %d says that the whole total is known, and no closing before it named every shard", k.Number)
		}
		if len(k.Cover) > 0 {
			return p.violation(entry, at, -1, "closing %d is complete and names shards all the same", k.Number)
		}
		return nil
	}
	named := make([]string, r.shards)
	for _, cover := range k.Cover {
		for _, span := range cover.Shards {
			for shard := span.Lo; shard < span.Hi; shard++ {
				switch {
				case shard < 0 || shard >= r.shards:
					return p.row(entry, r.step, shard, "closing %d names it, the batch has %d shards", k.Number, r.shards)
				case named[shard] != "":
					return p.row(entry, r.step, shard, "closing %d counts it twice: in the sums of %s and of %s", k.Number, named[shard], cover.Worker)
				case !r.held[shard][cover.Worker]:
					return p.row(entry, r.step, shard, "closing %d takes it from %s, which never held its lease in round %d", k.Number, cover.Worker, r.number)
				}
				named[shard] = cover.Worker
			}
		}
	}
	for shard, worker := range named {
		if worker == "" {
			return p.row(entry, r.step, shard, "closing %d leaves it out", k.Number)
		}
	}
	if k.Tokens != r.tokens {
		return p.violation(entry, at, -1, "closing %d is over %d tokens, the batch has %d", k.Number, k.Tokens, r.tokens)
	}
	r.whole = true
	p.proof.Closings++
	return nil
}

// row is a violation of a shard, with its first sample.
func (p *Prover) row(entry uint64, at int64, shard int, format string, a ...any) error {
	err := p.violation(entry, step(at), shard, format, a...).(*Violation)
	if b, e := p.batches.Batch(at); e == nil && shard >= 0 && shard < len(b.Header.Tokens) {
		if m := b.Members(shard); len(m) > 0 {
			err.Row = p.batches.Where(m[0].Source, m[0].Row)
		}
	}
	return err
}

// commit checks that a step follows the one before, or is one of those before with the same digests.
func (p *Prover) commit(c *fsm.Commit, after *fsm.State, entry uint64) error {
	r := p.round
	at := step(c.Step)
	switch {
	case r == nil || r.number != c.Round || r.step != c.Step:
		return p.violation(entry, at, -1, "its commit is of round %d, which is not in flight", c.Round)
	case r.closing == 0 || !r.whole:
		return p.violation(entry, at, -1, "it was committed in round %d without a closing that names every shard", c.Round)
	case c.Attempt != r.attempt:
		return p.violation(entry, at, -1, "it was committed with attempt %d, attempt %d was in flight", c.Attempt, r.attempt)
	}
	p.round = nil
	if c.Step < int64(len(p.record)) {
		old := p.record[c.Step]
		if old.Gradient != c.Gradient || old.Parameters != c.Parameters {
			return p.violation(entry, at, -1, "executed again, it gave gradient %.16s and parameters %.16s; committed were %.16s and %.16s", c.Gradient, c.Parameters, old.Gradient, old.Parameters)
		}
		p.proof.Replays++
		return nil
	}
	if c.Step != int64(len(p.record)) {
		return p.violation(entry, at, -1, "it was committed after step %d", len(p.record))
	}
	run := find(after, p.run)
	if run == nil || run.Committed() <= c.Step {
		return p.violation(entry, at, -1, "the commit left no record in the state")
	}
	rec := run.Ledger.At(c.Step)
	if rec.Gradient != c.Gradient || rec.Parameters != c.Parameters || rec.Round != c.Round || rec.Attempt != c.Attempt {
		return p.violation(entry, at, -1, "the state's record is %+v, the commit was %+v", rec, *c)
	}
	if err := p.count(c.Step, rec, entry); err != nil {
		return err
	}
	p.record = append(p.record, rec)
	p.proof.Logged++
	return nil
}
