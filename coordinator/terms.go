package coordinator

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/pack"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// led is one run in a leader's term.
type led struct {
	id      string
	host    *host  // nil while its data are not open
	stop    func() // of its subjects; nil = they are not served
	watch   observer
	hadFull bool
	over    time.Time // when it was seen to be over first

	published []byte // newest Round without its revision and embeddings
	round     *wire.Round
}

// of returns the run's part of the term.
func (l *leader) of(id string) *led {
	r := l.runs[id]
	if r == nil {
		r = &led{id: id, watch: observer{log: l.o.Log, next: &l.events, copied: l.copied}}
		l.runs[id] = r
	}
	return r
}

// look does what every run needs before the plan is asked: its data, what the plan will want to know, and when the last
// that held its parameters was lost.
func (l *leader) look(s *fsm.State, now time.Time) error {
	l.openRuns()
	for _, run := range s.Runs {
		if run.State.Over() && l.runs[run.ID] == nil {
			continue
		}
		r := l.of(run.ID)
		if run.State.Over() {
			l.retire(r, now)
			continue
		}
		v := l.seen.Run(run.ID)
		v.Turn(run.Round)
		if v.Wait.IsZero() {
			v.Wait = l.grace
		}
		if full := len(s.Full(run.ID)) > 0; full || r.hadFull {
			if r.hadFull && !full {
				v.Wait = now.Add(l.timers.Failure)
			}
			r.hadFull = full
		}
		if err := l.attend(r, run); err != nil {
			return err
		}
		if r.host != nil {
			v.Ready, v.Kernels = true, r.host.Kernels
			l.prepare(r, run)
		}
	}
	return nil
}

// attend begins to serve a run whose data are open.
func (l *leader) attend(r *led, run *fsm.Run) error {
	if r.host != nil {
		return nil
	}
	h, _, _ := l.hosts.get(run.ID)
	if h == nil {
		return nil
	}
	stop, err := l.serveRun(run.ID, h)
	if err != nil {
		return err
	}
	r.host, r.stop = h, stop
	r.watch.begin(l.journalOf(h, run.ID))
	return nil
}

// retire closes a run that is over, when its workers had time to see that.
func (l *leader) retire(r *led, now time.Time) {
	if r.over.IsZero() {
		r.over = now
	}
	if r.host == nil || r.id == l.own || now.Sub(r.over) < 2*l.timers.Failure {
		return
	}
	r.end(l)
	if h := l.hosts.take(r.id); h != nil {
		l.background.Go(func() { h.close(l.o.Log) })
	}
	delete(l.seen.Runs, r.id)
}

// end stops serving the run.
func (r *led) end(l *leader) {
	if r.stop != nil {
		r.stop()
	}
	if err := r.watch.end(); err != nil {
		l.o.Log.Warn("events not written", "run", r.id, "error", err)
	}
	r.stop, r.host = nil, nil
}

// prepare starts what the plan will want to know and nobody has read yet.
func (l *leader) prepare(r *led, run *fsm.Run) {
	v := l.seen.Run(run.ID)
	works := []plan.Work{}
	if r := run.Round; r != nil {
		works = append(works, plan.Work{Kind: r.Kind, Step: r.Step, Suite: r.Suite})
	}
	for _, f := range []func(*fsm.Run) (plan.Work, bool){plan.Next, plan.After} {
		if w, ok := f(run); ok {
			works = append(works, w)
		}
	}
	for w := range v.Shapes {
		if w.Step < run.Cursor-1 || w.Step > run.Cursor+2 {
			delete(v.Shapes, w)
		}
	}
	h := r.host
	for _, w := range works {
		if _, known := v.Shapes[w]; !known {
			l.once(fmt.Sprint("shape ", run.ID, w), func() func(*leader) {
				shape := h.batches.shape(w)
				return func(l *leader) { l.seen.Run(run.ID).Shapes[w] = shape }
			})
		}
	}
	if m := plan.Candidate(run); m != nil && len(l.machine.State().Full(run.ID)) == 0 {
		// Nobody has the parameters though they were said to be good here: what was good may have been damaged since.
		if wrong, known := v.Verified[m.Path]; !known || wrong == "" && time.Now().After(l.verified[m.Path]) {
			l.once("verify "+m.Path, func() func(*leader) {
				began, wrong := time.Now(), ""
				if err := h.Store.Verify(m.Path, m.Digest); err != nil {
					wrong = err.Error()
				}
				return func(l *leader) {
					l.seen.Run(run.ID).Verified[m.Path] = wrong
					l.verified[m.Path] = time.Now().Add(2*l.timers.Failure + 4*time.Since(began))
				}
			})
		}
	}
}

// publishAll sends the newest Round of every run that has changed. A run without members has nobody to tell.
func (l *leader) publishAll(tick bool) {
	s := l.machine.State()
	has := map[string]bool{}
	for i := range s.Members {
		has[s.Members[i].Run] = true
	}
	for _, run := range s.Runs {
		if r := l.runs[run.ID]; r != nil && has[run.ID] {
			l.publish(s, run, r, tick)
		}
	}
}

// publish sends the run's newest Round if something in it changed. Embeddings alone change it only when the last has
// come, or at a tick: the rows themselves have gone to everybody already.
func (l *leader) publish(s *fsm.State, run *fsm.Run, r *led, tick bool) {
	m := roundOf(s, run, l.seen)
	embedded := m.Embedded
	if whole := len(embedded) == 1 && embedded[0] == (wire.Range{Lo: 0, Hi: m.Shards}); !whole && !tick {
		m.Embedded = nil
	}
	key := pack.Marshal(m)
	if bytes.Equal(key, r.published) {
		return
	}
	r.published = key
	l.changes++
	m.Embedded = embedded
	m.Revision = int64(l.term)<<32 | l.changes
	r.round = m
	if err := l.conn.Publish(wire.RoundSubject(m.Run), m); err != nil && !errors.Is(err, bus.ErrClosed) {
		l.o.Log.Warn("round not published; workers learn of it by their heartbeats", "error", err)
	}
}

// everybodyKnows reports whether all members of a run have seen its newest Round, or are gone.
func (l *leader) everybodyKnows(id string) bool {
	r := l.runs[id]
	for _, m := range l.machine.State().Of(id) {
		w := l.seen.Workers[m.Worker]
		if w == nil && !l.o.Alone { // this leader is new, and has not heard of it yet
			return false
		}
		if w != nil && w.Lost.IsZero() && (r == nil || r.round == nil || l.heard[m.Worker] < r.round.Revision) {
			return false
		}
	}
	return true
}
