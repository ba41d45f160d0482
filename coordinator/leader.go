package coordinator

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/consensus"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/pack"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// leader is one term of a node. Everything that it knows belongs to one goroutine, its loop: messages come in as
// functions, are taken as they come, and after each handful the plan is asked what follows.
type leader struct {
	*Node
	term     uint64
	sequence uint64
	seen     *plan.Seen
	looked   time.Time // when the loop last looked at the clock
	hadFull  bool

	pending  map[string]bool      // what is being prepared in the background
	verified map[string]time.Time // by checkpoint path: when to read it again, though it was good

	published []byte // newest Round without its revision and embeddings
	round     *wire.Round
	changes   int64                 // revisions of this term
	heard     map[string]int64      // newest revision that each worker has seen
	exchange  map[string]*wire.Beat // how each takes values, as it told last
	lastError string

	watch observer
}

func newLeader(n *Node, term uint64) *leader {
	now := time.Now()
	l := &leader{
		Node: n, term: term, looked: now, pending: map[string]bool{}, verified: map[string]time.Time{}, heard: map[string]int64{}, exchange: map[string]*wire.Beat{},
		seen: &plan.Seen{
			Timers: n.timers, Since: now, Alone: n.o.Alone, Workers: map[string]*plan.Worker{},
			Shapes: map[plan.Work]plan.Shape{}, Verified: map[string]string{},
		},
		watch: observer{journal: n.journal, log: n.o.Log, next: int64(term)<<32 | 1},
	}
	if l.seen.Wait = now; !n.o.Alone {
		l.seen.Wait = now.Add(n.timers.Grace)
	}
	l.watch.copied = func(worker string) float64 {
		if b := l.exchange[worker]; b != nil {
			return b.Copied
		}
		return 0
	}
	return l
}

// run leads. done says that the run is over or paused and that the workers had time to see it.
func (l *leader) run(ctx context.Context, lost <-chan struct{}) (done bool, err error) {
	if done, err := l.establish(); done || err != nil {
		return done, err
	}
	stop, err := l.serve()
	if err != nil {
		return false, err
	}
	defer stop()
	tick := time.NewTicker(l.timers.Tick)
	defer tick.Stop()
	var linger time.Time // until when workers may still look at the last Round
	for {
		if err := l.advance(); err != nil {
			return false, err
		}
		if run := l.newest(); !run.State.Working() && (!l.o.Stay || run.State.Over()) {
			if linger.IsZero() {
				linger = time.Now().Add(l.timers.Failure)
			}
			if l.everybodyKnows() || time.Now().After(linger) {
				return true, nil
			}
		} else {
			linger = time.Time{}
		}
		select {
		case f := <-l.inbox:
			f(l)
			for more := true; more; { // what waits is taken together: one plan, one entry of the log
				select {
				case f := <-l.inbox:
					f(l)
				default:
					more = false
				}
			}
		case <-tick.C:
			l.publish(true)
		case <-lost:
			return false, consensus.ErrNotLeader
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// establish submits the run, or checks that the committed one is the one meant, with the same data.
func (l *leader) establish() (done bool, err error) {
	o, s := &l.o.Run, l.machine.State()
	if len(s.Runs) == 0 {
		return false, l.propose(&fsm.Submit{
			ID: runID(o.Name, o.Identity), Name: o.Name, Identity: o.Identity, Identify: o.Identify, Spec: o.Spec,
			Store: o.Folder, Data: l.o.Feed.Digest(), Steps: o.Steps, Settings: o.Settings,
		})
	}
	run := s.Runs[len(s.Runs)-1]
	if run.Identity != o.Identity {
		return false, &IdentityError{run.ID, string(run.State), differences(run.Identify, o.Identify)}
	}
	if found := l.o.Feed.Digest(); run.Data != found {
		return false, &DataError{run.ID, run.Data, found}
	}
	if run.State.Over() {
		return true, nil
	}
	if !bytes.Equal(pack.Marshal(run.Settings), pack.Marshal(o.Settings)) || run.Store != o.Folder {
		if err := l.propose(&fsm.Configure{Run: run.ID, Store: o.Folder, Settings: o.Settings}); err != nil {
			return false, err
		}
	}
	switch {
	case run.State.Working():
		if run.State == fsm.Stopping && l.o.Resume {
			return false, l.setState(run.ID, fsm.Running, "")
		}
	case l.o.Resume:
		return false, l.setState(run.ID, fsm.Running, "")
	case !l.o.Stay:
		return true, nil
	}
	return false, nil
}

func (l *leader) newest() *fsm.Run {
	runs := l.machine.State().Runs
	return runs[len(runs)-1]
}

// setState moves the run along its lifecycle; id "" is the active one.
func (l *leader) setState(id string, state fsm.Lifecycle, reason string) error {
	run := l.machine.State().Active()
	if run == nil || id != "" && run.ID != id {
		return errors.New("no such run is active")
	}
	if run.State == state {
		return nil
	}
	return l.propose(&fsm.SetState{Run: run.ID, State: state, Reason: reason})
}

// propose commits commands as one entry and tells of what they did.
func (l *leader) propose(commands ...fsm.Command) error {
	before := l.machine.State()
	for _, c := range commands {
		if c, ok := c.(*fsm.Submit); ok && c.Secret == nil {
			c.Secret = make([]byte, 32)
			rand.Read(c.Secret) // never fails
		}
	}
	l.sequence++
	entry := fsm.NewEntry(l.term, l.sequence, time.Now(), commands).Marshal()
	done := func(error) {}
	if l.o.Tap != nil {
		done = l.o.Tap.Propose(entry)
	}
	err := l.raft.Propose(entry)
	if done(err); err != nil {
		return err
	}
	after := l.machine.State()
	if run := after.Active(); run != nil {
		l.seen.Turn(run.Round)
	}
	l.applied(before, after, commands)
	return nil
}

// applied looks after the effects outside the state.
func (l *leader) applied(before, after *fsm.State, commands []fsm.Command) {
	heard := map[string]time.Time{}
	for _, c := range commands {
		switch c := c.(type) {
		case *fsm.Expire:
			if w := l.seen.Workers[c.Worker]; w != nil {
				heard[c.Worker] = w.Heard
			}
			delete(l.seen.Workers, c.Worker)
			delete(l.seen.Applied, c.Worker)
			delete(l.heard, c.Worker)
			delete(l.exchange, c.Worker)
		case *fsm.Saved:
			l.seen.Saved = nil
			l.seen.Verified[c.Path] = "" // just written, it needs no reading
			l.verified[c.Path] = time.Now()
		case *fsm.SaveLost:
			l.seen.Saved = nil
		case *fsm.Rewind:
			if run := before.Active(); run != nil {
				for _, m := range run.Manifests {
					if m.Step > c.Step {
						l.remove(m.Path)
					}
				}
			}
		case *fsm.Drop:
			if run := before.Active(); run != nil && run.Manifest(c.Step) != nil {
				l.remove(run.Manifest(c.Step).Path)
			}
		}
	}
	l.watch.observe(before, after, commands, heard)
}

// advance lets the plan decide until it has nothing more to say, then publishes.
func (l *leader) advance() error {
	now := time.Now()
	l.excuse(now)
	for range 64 {
		s := l.machine.State()
		run := s.Active()
		if run == nil {
			break
		}
		l.seen.Turn(run.Round)
		l.prepare(run)
		full := len(s.Full()) > 0
		if l.hadFull && !full {
			l.seen.Wait = now.Add(l.timers.Failure)
		}
		l.hadFull = full
		commands, err := plan.Plan(s, l.seen, now)
		if err != nil && err.Error() != l.lastError {
			l.lastError = err.Error()
			l.o.Log.Error("a planned command was rejected; this is a mistake in the coordinator", "error", err)
		}
		if len(commands) == 0 {
			break
		}
		if err := l.propose(commands...); err != nil {
			if errors.Is(err, fsm.ErrRejected) {
				l.o.Log.Error("a planned entry was rejected; this is a mistake in the coordinator", "error", err)
				break
			}
			return err
		}
	}
	l.publish(false)
	return nil
}

// excuse forgives workers the time in which this process itself stood still: their heartbeats may wait in its inbox.
func (l *leader) excuse(now time.Time) {
	if gap := now.Sub(l.looked) - 2*l.timers.Tick; gap > 0 {
		for _, w := range l.seen.Workers {
			w.Heard = w.Heard.Add(gap)
		}
	}
	l.looked = now
}

// publish sends the newest Round if something in it changed. Embeddings alone change it only when the last has come,
// or at a tick: the rows themselves have gone to everybody already.
func (l *leader) publish(tick bool) {
	s := l.machine.State()
	if len(s.Runs) == 0 {
		return
	}
	r := roundOf(s, s.Runs[len(s.Runs)-1], l.seen)
	embedded := r.Embedded
	if whole := len(embedded) == 1 && embedded[0] == (wire.Range{Lo: 0, Hi: r.Shards}); !whole && !tick {
		r.Embedded = nil
	}
	key := pack.Marshal(r)
	if bytes.Equal(key, l.published) {
		return
	}
	l.published = key
	l.changes++
	r.Embedded = embedded
	r.Revision = int64(l.term)<<32 | l.changes
	l.round = r
	if err := l.conn.Publish(wire.RoundSubject(r.Run), r); err != nil && !errors.Is(err, bus.ErrClosed) {
		l.o.Log.Warn("round not published; workers learn of it by their heartbeats", "error", err)
	}
}

// everybodyKnows reports whether all members have seen the newest Round, or are gone.
func (l *leader) everybodyKnows() bool {
	for _, m := range l.machine.State().Members {
		w := l.seen.Workers[m.Worker]
		if w == nil && !l.o.Alone { // this leader is new, and has not heard of it yet
			return false
		}
		if w != nil && w.Lost.IsZero() && (l.round == nil || l.heard[m.Worker] < l.round.Revision) {
			return false
		}
	}
	return true
}

// prepare starts what the plan will want to know and nobody has read yet.
func (l *leader) prepare(run *fsm.Run) {
	works := []plan.Work{}
	if r := run.Round; r != nil {
		works = append(works, plan.Work{Kind: r.Kind, Step: r.Step, Suite: r.Suite})
	}
	for _, f := range []func(*fsm.Run) (plan.Work, bool){plan.Next, plan.After} {
		if w, ok := f(run); ok {
			works = append(works, w)
		}
	}
	for w := range l.seen.Shapes {
		if w.Step < run.Cursor-1 || w.Step > run.Cursor+2 {
			delete(l.seen.Shapes, w)
		}
	}
	for _, w := range works {
		if _, known := l.seen.Shapes[w]; !known {
			l.once(fmt.Sprint("shape ", w), func() func(*leader) {
				shape := l.batches.shape(w)
				return func(l *leader) { l.seen.Shapes[w] = shape }
			})
		}
	}
	if m := plan.Candidate(run); m != nil && len(l.machine.State().Full()) == 0 {
		// Nobody has the parameters though they were said to be good here: what was good may have been damaged since.
		if wrong, known := l.seen.Verified[m.Path]; !known || wrong == "" && time.Now().After(l.verified[m.Path]) {
			l.once("verify "+m.Path, func() func(*leader) {
				began, wrong := time.Now(), ""
				if err := l.o.Store.Verify(m.Path, m.Digest); err != nil {
					wrong = err.Error()
				}
				return func(l *leader) {
					l.seen.Verified[m.Path] = wrong
					l.verified[m.Path] = time.Now().Add(2*l.timers.Failure + 4*time.Since(began))
				}
			})
		}
	}
}

// once runs f in the background unless it runs already, and hands its result to the loop.
func (l *leader) once(what string, f func() func(*leader)) {
	if l.pending[what] {
		return
	}
	l.pending[what] = true
	l.background.Go(func() {
		result := f()
		l.post(func(now *leader) {
			delete(now.pending, what)
			if now.term == l.term {
				result(now)
			}
		})
	})
}

// remove removes the files of a dropped checkpoint.
func (l *leader) remove(path string) {
	l.background.Go(func() {
		if err := l.o.Store.Remove(path); err != nil {
			l.o.Log.Warn("checkpoint not removed", "path", path, "error", err)
		}
	})
}
