package ledger

import (
	"fmt"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/data"
)

// rows counts the samples: each row once in each epoch of its source.
type rows struct {
	batches Batches
	epochs  map[key]*epoch // not complete
	done    map[key]bool
	newest  map[int32]int64 // epoch, by source
}

type key struct {
	source int32
	epoch  int64
}

// epoch is a set of rows.
type epoch struct {
	bits []uint64
	n    int64
}

func newRows(b Batches) *rows {
	return &rows{batches: b, epochs: map[key]*epoch{}, done: map[key]bool{}, newest: map[int32]int64{}}
}

// add counts a row, and reports whether this is the first time in its epoch.
func (r *rows) add(d data.Draw) bool {
	k := key{d.Source, d.Epoch}
	if r.done[k] {
		return false
	}
	all, used := r.batches.Used(int(d.Source))
	e := r.epochs[k]
	if e == nil {
		e = &epoch{bits: make([]uint64, (all+63)/64)}
		r.epochs[k] = e
	}
	if d.Row < 0 || d.Row >= all || e.bits[d.Row/64]>>(d.Row%64)&1 != 0 {
		return false
	}
	e.bits[d.Row/64] |= 1 << (d.Row % 64)
	r.newest[d.Source] = max(r.newest[d.Source], d.Epoch)
	if e.n++; e.n == used {
		delete(r.epochs, k)
		r.done[k] = true
	}
	return true
}

// count takes a committed step's samples in: every text of its batch lies in exactly one of the shards, and every row
// is drawn once in its epoch.
func (p *Prover) count(s int64, rec fsm.Record, entry uint64) error {
	b, err := p.batches.Batch(s)
	if err != nil {
		return p.violation(entry, step(s), -1, "its batch cannot be computed again: %v", err)
	}
	if len(b.Header.Tokens) != rec.Shards {
		return p.violation(entry, step(s), -1, "%d shards were committed, the batch has %d", rec.Shards, len(b.Header.Tokens))
	}
	if rec.Batch != "" {
		if got := b.Digest(); got != rec.Batch {
			return p.violation(entry, step(s), -1, "batch %s was served, the data give %s", rec.Batch, got)
		}
		p.proof.Served++
	}
	slots := make([]bool, b.Header.Slots)
	tokens := int64(0)
	for shard := range b.Header.Tokens {
		for _, m := range b.Members(shard) {
			if m.Slot < 0 || int(m.Slot) >= len(slots) || slots[m.Slot] {
				return &Violation{Run: p.run, Step: step(s), Shard: shard, Row: p.batches.Where(m.Source, m.Row), Entry: entry, What: fmt.Sprintf("text %d of the batch lies in two shards", m.Slot)}
			}
			slots[m.Slot] = true
			tokens += int64(m.Tokens)
		}
	}
	for slot, ok := range slots {
		if !ok {
			return p.violation(entry, step(s), -1, "text %d of the batch lies in no shard", slot)
		}
	}
	if tokens != rec.Tokens {
		return p.violation(entry, step(s), -1, "%d tokens were committed, the batch has %d", rec.Tokens, tokens)
	}
	for _, d := range p.batches.Draws(s) {
		if !p.rows.add(d) {
			return &Violation{Run: p.run, Step: step(s), Shard: -1, Row: p.batches.Where(d.Source, d.Row), Entry: entry, What: fmt.Sprintf("the sample is counted a second time in epoch %d of its source", d.Epoch)}
		}
		p.proof.Samples++
	}
	p.proof.Texts += int64(b.Header.Slots)
	p.proof.Tokens += tokens
	p.proof.Shards += int64(rec.Shards)
	return nil
}

// finish returns the sources, after a look for samples that an epoch has left out.
func (r *rows) finish(p *Prover) ([]Source, error) {
	var out []Source
	for i, name := range r.batches.Sources() {
		s := Source{Name: name}
		s.Rows, s.Used = r.batches.Used(i)
		for e := int64(0); e <= r.newest[int32(i)]; e++ {
			k := key{int32(i), e}
			if r.done[k] {
				s.Epochs++
				continue
			}
			left := r.epochs[k]
			switch {
			case left == nil:
			case e < r.newest[int32(i)]: // a step is counted whole, so only the newest may be begun
				return out, p.violation(0, 0, -1, "epoch %d of source %s has %d of its %d samples, and epoch %d has begun", e, name, left.n, s.Used, r.newest[int32(i)])
			default:
				s.Partial += left.n
			}
		}
		out = append(out, s)
	}
	return out, nil
}
