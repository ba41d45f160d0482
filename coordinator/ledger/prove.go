package ledger

import (
	"errors"
	"fmt"
	"slices"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// Prover follows a log and checks one run of it. Entry is called for each entry in order, Finish at the end; the first
// violation ends it.
type Prover struct {
	log     Log
	run     string
	batches Batches
	proof   *Proof
	rows    *rows
	round   *round // of the run, in flight
	last    int64  // newest round number seen
	record  []fsm.Record
	begun   bool // the run was there
}

// round is a training round as its commands tell it.
type round struct {
	number, step int64
	shards       int
	tokens       int64
	attempt      int32
	batch        string
	held         []map[string]bool // [shards] workers that had the shard's lease in this round
	holder       []string          // [shards] newest
	closing      int32
	whole        bool // a closing of this attempt named every shard
	withdrawn    bool
	unknown      bool // it began before the log does
}

// New returns a prover of a run. Where the machine's state has the run already, its records are what a snapshot kept of
// the steps so far: what they say is compared, and what they do not is noted.
func New(log Log, run string, batches Batches) (*Prover, error) {
	p := &Prover{log: log, run: run, batches: batches, proof: &Proof{Run: run}, rows: newRows(batches)}
	r := find(log.Machine.State(), run)
	if r == nil {
		return p, nil
	}
	if err := p.begin(r, 0); err != nil {
		return p, err
	}
	return p, p.recorded(r)
}

func find(s *fsm.State, run string) *fsm.Run {
	for _, r := range s.Runs {
		if r.ID == run {
			return r
		}
	}
	return nil
}

func (p *Prover) violation(entry uint64, at int64, shard int, format string, a ...any) error {
	return &Violation{Run: p.run, Step: at, Shard: shard, Entry: entry, What: fmt.Sprintf(format, a...)}
}

// begin takes the run in.
func (p *Prover) begin(r *fsm.Run, entry uint64) error {
	p.begun = true
	if found := p.batches.Digest(); r.Data != found {
		return p.violation(entry, 0, -1, "the data digest is %.16s, that of the data here is %.16s: a file, the tokenizer or the order differs, so no batch can be compared", r.Data, found)
	}
	return nil
}

// recorded checks the records of a snapshot.
func (p *Prover) recorded(r *fsm.Run) error {
	last := int64(0)
	for s := range r.Committed() {
		rec := r.Ledger.At(s)
		if rec.Round <= last && last > 0 {
			return p.violation(0, step(s), -1, "its round is %d, after round %d", rec.Round, last)
		}
		last = rec.Round
		if err := p.count(s, rec, 0); err != nil {
			return err
		}
		p.record = append(p.record, rec)
	}
	p.last = r.Rounds
	if n := r.Committed(); n > 0 {
		p.note("steps 1 to %d are records of a snapshot, since the log before it is gone: their order, shards, tokens%s and the samples of their batches are proven; "+
			"that each of their closings was disjoint and whole was checked by the state machine when it was committed, and cannot be shown again", n, served(p.proof.Served, n))
	}
	if k := r.Round; k != nil && k.Kind == fsm.Train {
		p.round = &round{number: k.Number, step: k.Step, shards: k.Shards, attempt: k.Attempt, batch: k.Batch, unknown: true}
		p.lease(k.Leases)
		if k.Closing != nil {
			p.round.closing, p.round.whole, p.round.withdrawn = k.Closing.Number, true, k.Closing.Withdrawn
		}
		if err := p.compare(p.round, 0); err != nil {
			return err
		}
	}
	return nil
}

func served(n, of int64) string {
	switch n {
	case 0:
		return ""
	case of:
		return ", batch digests"
	}
	return fmt.Sprintf(", the batch digests of %d of them", n)
}

func (p *Prover) note(format string, a ...any) {
	p.proof.Notes = append(p.proof.Notes, fmt.Sprintf(format, a...))
}

// Entry applies the log's entry of an index and checks what it decided about the run.
func (p *Prover) Entry(index uint64, content []byte) error {
	m := p.log.Machine
	before := m.State()
	switch err := m.Apply(content); {
	case errors.Is(err, fsm.ErrRejected):
		return p.mark(index)
	case err != nil:
		return p.violation(index, 0, -1, "the entry cannot be read: %v", err)
	}
	after := m.State()
	e, err := fsm.ParseEntry(content)
	if err != nil {
		return p.violation(index, 0, -1, "the entry cannot be read: %v", err)
	}
	if e.Key != "" && slices.Contains(before.Keys, e.Key) {
		return p.mark(index) // it came twice, and changed nothing the second time
	}
	for _, c := range e.Commands {
		if err := p.command(c, before, after, index); err != nil {
			return err
		}
	}
	if r := find(after, p.run); r != nil {
		if r.Round == nil || p.round != nil && r.Round.Number != p.round.number {
			p.round = nil // committed, abandoned, or gone with a restart or a pause
		}
		if r.Committed() != int64(len(p.record)) {
			return p.violation(index, r.Committed(), -1, "the state has %d committed steps, the commits so far make %d", r.Committed(), len(p.record))
		}
	}
	return p.mark(index)
}

// mark compares the state with a snapshot's of the same index.
func (p *Prover) mark(index uint64) error {
	want, ok := p.log.Marks[index]
	if !ok {
		return nil
	}
	if got := p.log.Machine.State().Digest(); got != want {
		return p.violation(index, 0, -1, "a snapshot of this entry has the state %.16s, the entries before make %.16s: one of them was changed", want, got)
	}
	return nil
}

// Finish checks what can only be said at the end.
func (p *Prover) Finish() (*Proof, error) {
	r := find(p.log.Machine.State(), p.run)
	if r == nil {
		return p.proof, fmt.Errorf("the log has no run %s; it has %v", p.run, Runs(p.log.Machine.State()))
	}
	p.proof.Name, p.proof.State, p.proof.Identity, p.proof.Of, p.proof.Steps = r.Name, string(r.State), r.Identity, r.Steps, r.Committed()
	for s, want := range p.record {
		if got := r.Ledger.At(int64(s)); got != want {
			return p.proof, p.violation(0, step(int64(s)), -1, "the state's record is %+v, the log's commit was %+v", got, want)
		}
	}
	if r.State == fsm.Finished && r.Committed() != r.Steps {
		return p.proof, p.violation(0, r.Committed(), -1, "the run is finished with %d of %d steps committed", r.Committed(), r.Steps)
	}
	sources, err := p.rows.finish(p)
	p.proof.Sources = sources
	if r.Cursor < r.Committed() {
		p.note("the fleet is executing steps again: it is at step %d of %d committed ones", r.Cursor, r.Committed())
	}
	return p.proof, err
}

// Runs lists the ids of a state's runs.
func Runs(s *fsm.State) []string {
	var out []string
	for _, r := range s.Runs {
		out = append(out, r.ID)
	}
	return out
}
