package worker

import (
	"context"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer"
)

// ledger holds what this worker has reported of a round, so that a new leader, or a newer lease of the same shard, can
// be told again: a shard that is in the sum is never computed twice by the same worker.
type ledger struct {
	s     *session
	run   string
	round int64

	mu      sync.Mutex
	entries map[work]*entry
	added   chan struct{}
}

// entry is a report and what became of it.
type entry struct {
	report   wire.Report
	settled  bool
	accepted bool
	term     int64 // of the leader that settled it
}

func newLedger(s *session, r *wire.Round) *ledger {
	return &ledger{s: s, run: r.Run, round: r.Number, entries: map[work]*entry{}, added: make(chan struct{}, 1)}
}

// forget drops the reports of a phase.
func (l *ledger) forget(phase trainer.Phase) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.entries {
		if w.phase == phase {
			delete(l.entries, w)
		}
	}
}

// add takes a report that nobody waits for; keep sends it.
func (l *ledger) add(m wire.Report) {
	l.put(m)
	select {
	case l.added <- struct{}{}:
	default:
	}
}

func (l *ledger) put(m wire.Report) (work, *entry) {
	m.Run, m.Round, m.Worker = l.run, l.round, l.s.id
	w, e := work{trainer.Phase(m.Phase), m.Shard}, &entry{report: m}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[w] = e
	return w, e
}

// settle sends a report until a leader has answered it. Once accepted it stays accepted for the caller: what a later
// leader decides is in the closing. While it is refused because the shard was leased to this worker again in the
// meantime, it is sent again under the newer lease.
func (l *ledger) settle(ctx context.Context, m wire.Report) (accepted bool, err error) {
	w, e := l.put(m)
	for {
		verdict, term, err := l.send(ctx, e.report)
		if err != nil {
			return false, err
		}
		r, _ := l.s.view.now()
		newer := epoch(r, l.s.id, m.Shard)
		if !verdict.Accepted && r.Number == l.round && r.Attempt == m.Attempt && newer > e.report.Epoch {
			l.mu.Lock()
			e.report.Epoch = newer
			l.mu.Unlock()
			continue
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if verdict.Accepted {
			e.settled, e.accepted, e.term = true, true, term
		} else {
			delete(l.entries, w)
		}
		return verdict.Accepted, nil
	}
}

// send asks until a leader answers.
func (l *ledger) send(ctx context.Context, m wire.Report) (*wire.Verdict, int64, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, l.s.timeout/4) {
		var term int64
		if r, _ := l.s.view.now(); r != nil {
			term = r.Term()
		}
		rctx, cancel := l.s.view.patience(ctx, l.s.timeout)
		verdict, err := l.s.Link.Report(rctx, &m)
		cancel()
		if err == nil && !verdict.Retry {
			return verdict, term, nil
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, 0, err
		}
	}
}

// keep sends reports that nobody waits for, repeats reports to a new leader and under newer leases, and asks for rows
// that were missed, until ctx ends.
func (l *ledger) keep(ctx context.Context, f *fleet) {
	tick := time.NewTicker(max(l.s.timeout/20, 5*time.Millisecond))
	defer tick.Stop()
	asker := asker{f: f}
	for {
		r, changed := l.s.view.now()
		if r.Number == l.round {
			f.adopt(ctx, r)
			for w, m := range l.due(r) {
				verdict, term, err := l.send(ctx, m)
				if err != nil {
					return
				}
				l.mu.Lock()
				if e := l.entries[w]; e != nil {
					e.settled, e.accepted, e.term, e.report.Epoch = true, verdict.Accepted, term, max(e.report.Epoch, m.Epoch)
				}
				l.mu.Unlock()
			}
		}
		select {
		case <-tick.C:
			asker.look(ctx, r)
		case <-changed:
		case <-l.added:
		case <-ctx.Done():
			return
		}
	}
}

// due lists the reports to send: those that no leader of this term has settled, and those of a shard that is leased
// to this worker under a newer epoch. Reports that settle waits for are its own affair until it is done.
func (l *ledger) due(r *wire.Round) map[work]wire.Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[work]wire.Report{}
	for w, e := range l.entries {
		if w.phase == trainer.Backward && (!e.settled || r.Attempt != e.report.Attempt || r.Closing != nil) {
			continue
		}
		newer := epoch(r, l.s.id, w.shard)
		if e.settled && e.term == r.Term() && newer <= e.report.Epoch {
			continue
		}
		m := e.report
		m.Epoch = max(m.Epoch, newer)
		out[w] = m
	}
	return out
}
