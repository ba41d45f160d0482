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
)

// leader is one term of a node. Everything that it knows belongs to one goroutine, its loop: messages come in as
// functions, are taken as they come, and after each handful the plan is asked what follows.
type leader struct {
	*Node
	term     uint64
	sequence uint64
	seen     *plan.Seen
	looked   time.Time // when the loop last looked at the clock
	grace    time.Time // until when holders of parameters of the term before may turn up
	compared uint64    // entries that the replicas were last compared after

	runs      map[string]*led
	pending   map[string]bool       // what is being prepared in the background
	verified  map[string]time.Time  // by checkpoint path: when to read it again, though it was good
	later     []func()              // answers that wait for what the plan makes of their question
	asked     map[string]*asked     // submissions, by key
	changes   int64                 // revisions of this term
	heard     map[string]int64      // newest revision of its run that each worker has seen
	events    int64                 // id of the next event
	exchange  map[string]*wire.Beat // how each takes values, as it told last
	lastError string
}

func newLeader(n *Node, term uint64) *leader {
	now := time.Now()
	l := &leader{
		Node: n, term: term, looked: now, grace: now, pending: map[string]bool{}, verified: map[string]time.Time{}, heard: map[string]int64{}, exchange: map[string]*wire.Beat{},
		events: int64(term)<<32 | 1, runs: map[string]*led{}, asked: map[string]*asked{},
		seen: &plan.Seen{Timers: n.timers, Since: now, Alone: n.o.Alone, Workers: map[string]*plan.Worker{}},
	}
	if !n.o.Alone {
		l.grace = now.Add(n.timers.Grace)
	}
	l.compared = n.machine.State().Entries
	return l
}

// copied returns how long a worker's copy of a peer's state took, in seconds; 0 = it made none.
func (l *leader) copied(worker string) float64 {
	if b := l.exchange[worker]; b != nil {
		return b.Copied
	}
	return 0
}

// run leads. done says that the node's own run is over or paused and that the workers had time to see it.
func (l *leader) run(ctx context.Context, lost <-chan struct{}) (done bool, err error) {
	if done, err := l.establish(); done || err != nil {
		return done, err
	}
	stop, err := l.serve()
	if err != nil {
		return false, err
	}
	defer stop()
	defer func() {
		for _, r := range l.runs {
			r.end(l)
		}
	}()
	tick := time.NewTicker(l.timers.Tick)
	defer tick.Stop()
	var linger time.Time // until when workers may still look at the last Round
	for {
		if err := l.advance(); err != nil {
			return false, err
		}
		if l.ends() {
			if linger.IsZero() {
				linger = time.Now().Add(l.timers.Failure)
			}
			if l.everybodyKnows(l.own) || time.Now().After(linger) {
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
		case f := <-l.orders:
			f(l)
		case <-tick.C:
			l.publishAll(true)
			l.patience(time.Now())
		case <-lost:
			return false, consensus.ErrNotLeader
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// ends reports whether Run has done what it was called for: the node's own run is over or paused, and no other works.
func (l *leader) ends() bool {
	s := l.machine.State()
	own := s.Run(l.own)
	if own == nil || own.State.Working() || l.o.Stay && (l.o.Host != nil || !own.State.Over()) {
		return false
	}
	for _, r := range s.Runs {
		if r.ID != l.own && r.State.Working() {
			return false
		}
	}
	return true
}

// establish submits the node's own run, or checks that the committed one is the one meant, with the same data.
func (l *leader) establish() (done bool, err error) {
	if l.first == nil {
		return false, nil
	}
	o, s := &l.first.Submission, l.machine.State()
	run := l.committed(s)
	if run == nil {
		l.own = l.freshID(o.Name, o.Identity)
		l.hosts.put(l.own, l.first)
		return false, l.propose(&fsm.Submit{
			ID: l.own, Name: o.Name, Identity: o.Identity, Identify: o.Identify, Spec: o.Spec,
			Store: o.Folder, Data: l.first.Feed.Digest(), Steps: o.Steps, Settings: o.Settings, File: l.first.File,
		})
	}
	if err := l.first.check(run); err != nil {
		return false, err
	}
	l.own = run.ID
	l.hosts.put(l.own, l.first)
	if run.State.Over() {
		return !l.o.Stay || l.o.Host == nil, nil
	}
	if !bytes.Equal(pack.Marshal(run.Settings), pack.Marshal(o.Settings)) || run.Store != o.Folder || l.first.File != nil && !bytes.Equal(run.File, l.first.File) {
		if err := l.propose(&fsm.Configure{Run: run.ID, Store: o.Folder, Settings: o.Settings, File: l.first.File}); err != nil {
			return false, err
		}
	}
	switch {
	case run.State.Working():
		if run.State == fsm.Stopping && l.o.Resume {
			return false, l.setState(run, fsm.Running, "")
		}
	case l.o.Resume:
		return false, l.setState(run, fsm.Running, "")
	case !l.o.Stay:
		return true, nil
	}
	return false, nil
}

// committed returns the log's run that the node's own is: the newest, or, where runs are submitted too, the newest of
// that name, unless it is over and another one is meant.
func (l *leader) committed(s *fsm.State) *fsm.Run {
	for i := len(s.Runs) - 1; i >= 0; i-- {
		switch r := s.Runs[i]; {
		case l.o.Host == nil:
			return r
		case r.Name != l.first.Name:
		case r.Identity == l.first.Identity || !r.State.Over():
			return r
		}
	}
	return nil
}

// freshID returns an id for a run that no run has.
func (l *leader) freshID(name, identity string) string {
	id := runID(name, identity)
	for i := 2; l.machine.State().Run(id) != nil; i++ {
		id = fmt.Sprintf("%s-%d", runID(name, identity), i)
	}
	return id
}

// setState moves a run along its lifecycle.
func (l *leader) setState(run *fsm.Run, state fsm.Lifecycle, reason string) error {
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
	for id := range l.runs {
		if run := after.Run(id); run != nil && !run.State.Over() {
			l.seen.Run(id).Turn(run.Round)
		}
	}
	l.applied(before, after, commands)
	return nil
}

// applied looks after the effects outside the state.
func (l *leader) applied(before, after *fsm.State, commands []fsm.Command) {
	for _, c := range commands {
		id := about(before, after, c)
		heard := time.Time{}
		switch c := c.(type) {
		case *fsm.Expire:
			if w := l.seen.Workers[c.Worker]; w != nil {
				heard = w.Heard
			}
			delete(l.seen.Workers, c.Worker)
			delete(l.heard, c.Worker)
			delete(l.exchange, c.Worker)
			if v := l.seen.Runs[id]; v != nil {
				delete(v.Applied, c.Worker)
			}
		case *fsm.Assign:
			if w := l.seen.Workers[c.Worker]; w != nil && w.Run != c.Run {
				w.Run, w.State, w.Parameters, w.Size, w.Speed, w.Active = "", -1, "", 0, 0, time.Time{}
			}
			delete(l.heard, c.Worker)
			l.left(before, after, c)
		case *fsm.Saved:
			l.seen.Run(id).Saved = nil
			l.seen.Run(id).Verified[c.Path] = "" // just written, it needs no reading
			l.verified[c.Path] = time.Now()
		case *fsm.SaveLost:
			l.seen.Run(id).Saved = nil
		case *fsm.Rewind:
			if run := before.Run(id); run != nil {
				for _, m := range run.Manifests {
					if m.Step > c.Step {
						l.remove(l.of(id).host, m.Path)
					}
				}
			}
		case *fsm.Drop:
			if run := before.Run(id); run != nil && run.Manifest(c.Step) != nil {
				l.remove(l.of(id).host, run.Manifest(c.Step).Path)
			}
		}
		if id != "" {
			l.of(id).watch.observe(before, after, id, c, heard)
		}
	}
}

// left tells the run that a member leaves for another one.
func (l *leader) left(before, after *fsm.State, c *fsm.Assign) {
	m := before.Member(c.Worker)
	if m == nil || m.Run == "" {
		return
	}
	if v := l.seen.Runs[m.Run]; v != nil {
		delete(v.Applied, c.Worker)
	}
	if before.Idle(m) {
		return
	}
	reason := "idle"
	if run := after.Run(c.Run); run != nil {
		reason = "works on run " + run.Name
	}
	l.of(m.Run).watch.left(after, m.Run, c.Worker, reason)
}

// advance lets the plan decide until it has nothing more to say, then publishes.
func (l *leader) advance() error {
	now := time.Now()
	l.excuse(now)
	for range 64 {
		s := l.machine.State()
		if err := l.look(s, now); err != nil {
			return err
		}
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
	if err := l.verify(); err != nil {
		return err
	}
	l.publishAll(false)
	later := l.later
	l.later = nil
	for _, f := range later {
		f()
	}
	return nil
}

// verify lets the replicas compare what they made of the log, every so many entries.
func (l *leader) verify() error {
	s := l.machine.State()
	if s.Entries-l.compared < fsm.VerifyEvery {
		return nil
	}
	l.compared = s.Entries
	if err := l.propose(fsm.NewVerify(s)); !errors.Is(err, fsm.ErrRejected) {
		return err
	}
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
func (l *leader) remove(h *host, path string) {
	if h == nil {
		return
	}
	l.background.Go(func() {
		if err := h.Store.Remove(path); err != nil {
			l.o.Log.Warn("checkpoint not removed", "path", path, "error", err)
		}
	})
}
