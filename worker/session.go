package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// session is the life of one worker id, from a welcome until the coordinator expires it.
type session struct {
	*Agent
	id      string
	timeout time.Duration // the coordinator's failure_timeout
	view    *view
	log     *slog.Logger

	runs    chan *wire.RunInfo // the first run that the welcome or a beat tells of
	started atomic.Pointer[job]
	busy    sync.WaitGroup // answers in the making

	// Only the driver uses these.
	confirmed confirmed
	evaluated int64         // Evaluate round whose result is accepted
	unloaded  int           // times in a row that a checkpoint was not loaded
	rests     wire.RunState // said last: why there is nothing to do; "" = there is
}

// confirmed says which Applied was sent last, and when.
type confirmed struct {
	revision int64
	at       time.Time
}

func newSession(a *Agent, id string, w *wire.Welcome) *session {
	s := &session{
		Agent: a, id: id, timeout: w.FailureTimeout, view: newView(), runs: make(chan *wire.RunInfo, 1),
		evaluated: -1, log: a.Log.With("worker", id),
	}
	if s.timeout <= 0 {
		s.timeout = time.Second
	}
	if w.Run != nil {
		s.runs <- w.Run
	}
	return s
}

// run beats and works until the session ends; the error says how.
func (s *session) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.beat(ctx) })
	group.Go(func() error { return s.leave(ctx) })
	group.Go(func() error {
		var info *wire.RunInfo
		select {
		case info = <-s.runs:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		return s.work(ctx, *info)
	})
	err := group.Wait()
	s.busy.Wait()
	return err
}

// work attends to a run.
func (s *session) work(ctx context.Context, info wire.RunInfo) error {
	if s.job != nil && (s.job.run.ID != info.ID || s.job.run.Identity != info.Identity) {
		s.job.close()
		s.job = nil
	}
	if s.job == nil {
		s.job = newJob(s.Agent, info, s.timeout)
	}
	j := s.job
	s.started.Store(j)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop, err := s.Link.Attend(info.ID, s.id, Handlers{
		Round: func(r *wire.Round) {
			s.view.offer(r)
			j.board.release(r.Number) // rows of a round may come before its trainer begins
		},
		Rows: func(m *wire.Rows) {
			if m.Worker != s.id {
				j.board.add(m)
			}
		},
		AskRows: func(ctx context.Context, m *wire.RowsRequest) {
			if m.Reply != s.id {
				s.answerRows(ctx, j, m)
			}
		},
		Chunk: func(ctx context.Context, m *wire.ChunkRequest) *wire.Chunk {
			c, _ := j.answer(ctx, m) // the relay does not say when the payload is free again
			return c
		},
	})
	if err != nil {
		return err
	}
	defer stop()
	j.paths.as(s.id, s.view)
	hang, err := j.paths.attend(s.id, j)
	if err != nil {
		return err
	}
	defer hang()
	defer s.Hub.join(info.ID, s.id, j)()
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel()
	defer j.shelf.flying.Wait()
	defer cancel()
	j.shelf.live(ctx)
	beside.Go(func() { s.save(ctx) })
	beside.Go(func() { s.guard(ctx) })
	return s.drive(ctx)
}

// beat sends heartbeats until the coordinator no longer knows this worker. A coordinator that does not answer is
// lost for a while: the work goes on.
func (s *session) beat(ctx context.Context) error {
	ticker := time.NewTicker(max(s.timeout/5, time.Millisecond))
	defer ticker.Stop()
	lost := false
	for {
		m := &wire.Beat{Worker: s.id, State: -1}
		if r, _ := s.view.now(); r != nil {
			m.Revision = r.Revision
		}
		if job := s.started.Load(); job != nil {
			m.Run = job.run.ID
			job.describe(m)
		}
		// An answer that takes longer is given up, so that the next beat is not late: two may be lost before the
		// coordinator takes this worker for dead.
		bctx, cancel := context.WithTimeout(ctx, s.timeout*2/5)
		pulse, err := s.Link.Beat(bctx, m)
		cancel()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			if r, _ := s.view.now(); !lost && r != nil && ended(r) {
				s.log.Info("the coordinator has left; waiting for the next one")
			} else if !lost {
				s.log.Warn("no coordinator answers; the work goes on", "err", err)
			}
			lost = true
		case !pulse.Known:
			return errExpired
		default:
			if lost {
				s.log.Info("coordinator answers again")
			}
			lost = false
			if pulse.Run != nil && m.Run != "" && m.Run != pulse.Run.ID {
				return errNewRun
			}
			if pulse.Run != nil && m.Run == "" {
				select {
				case s.runs <- pulse.Run:
				default: // told before
				}
			}
			if pulse.Round != nil && (m.Run == "" || pulse.Round.Run == m.Run) {
				s.view.offer(pulse.Round)
			}
		}
		var moved chan struct{}
		if job := s.started.Load(); job != nil {
			moved = job.moved
		}
		select {
		case <-ticker.C:
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// leave tells the coordinator when the agent is to drain.
func (s *session) leave(ctx context.Context) error {
	select {
	case <-s.drain:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.log.Info("draining", "reason", s.why)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, s.timeout) {
		lctx, cancel := context.WithTimeout(ctx, s.timeout)
		err := s.Link.Leave(lctx, &wire.Leave{Worker: s.id, Reason: s.why})
		cancel()
		if err == nil {
			break
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	j := s.started.Load()
	if j == nil {
		return errDrained
	}
	j.kick()
	<-ctx.Done() // the driver returns when nothing is held any more
	return context.Cause(ctx)
}

// draining reports whether Drain was called.
func (a *Agent) draining() bool {
	select {
	case <-a.drain:
		return true
	default:
		return false
	}
}

// drive acts on every newer Round, and again after a while in case an answer was lost.
func (s *session) drive(ctx context.Context) error {
	for {
		r, changed := s.view.now()
		again, err := s.act(ctx, r)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		if again {
			continue
		}
		t := time.NewTimer(s.timeout)
		select {
		case <-changed:
		case <-s.job.kicked:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
		t.Stop()
	}
}

// act does the next thing that r asks of this worker and reports whether it did something that changes what is next.
func (s *session) act(ctx context.Context, r *wire.Round) (again bool, err error) {
	j := s.job
	j.copies.refresh(j)
	if j.trainer == nil {
		return true, j.build(ctx)
	}
	if r == nil || r.Run != j.run.ID {
		return false, s.idle(r)
	}
	if ended(r) && s.OneRun && !j.saver.pending(r, s.id) {
		return false, errOver
	}
	if ended(r) || r.State == wire.Paused {
		if s.rests != r.State {
			s.log.Info("the run is "+string(r.State), "step", r.Step, "reason", r.Reason)
		}
		s.rests = r.State
		return false, s.idle(r)
	}
	s.rests = ""
	j.paths.prune(r)
	j.saver.copy(r, s.id, j)
	if err := s.idle(r); err != nil {
		return false, err
	}
	me := member(r, s.id)
	switch {
	case me == nil:
		return false, nil
	case me.Behind: // its beats tell of its parameters; what it applied under another id counts for nothing
		return s.follow(ctx, r, me)
	case j.done != nil && j.done.Round == r.Number && j.steps == j.done.Step+1 && !over(r):
		s.confirm(ctx, r)
		return false, nil
	case over(r):
		return false, nil
	case r.Kind == wire.Train && j.steps == r.Step:
		return s.step(ctx, r)
	case r.Kind == wire.Evaluate && j.steps == r.Step && s.evaluated != r.Number:
		return s.evaluate(ctx, r)
	}
	return false, nil
}

// idle ends a draining session that the round does not need.
func (s *session) idle(r *wire.Round) error {
	saves := r != nil && r.Save != nil && r.Save.Worker == s.id && s.job.saver.holds(r.Save.Step) // asked for, perhaps not begun
	if s.draining() && (r == nil || !holding(r, s.id)) && !saves && !s.job.saver.busy() {
		return errDrained
	}
	return nil
}

// confirm sends the newest Applied, once for every revision of the round and again after a while: its answer may be
// lost, and a new leader has not heard of it.
func (s *session) confirm(ctx context.Context, r *wire.Round) {
	if s.confirmed.revision == r.Revision && time.Since(s.confirmed.at) < s.timeout {
		return
	}
	m := *s.job.done
	m.Worker = s.id
	actx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	v, err := s.Link.Applied(actx, &m)
	if err == nil && !v.Retry {
		s.confirmed = confirmed{r.Revision, time.Now()}
		return
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		s.log.Debug("applied is sent again", "step", m.Step, "err", err)
	}
	if sleep(ctx, 5*time.Millisecond) == nil {
		s.job.kick()
	}
}

// round returns a context that ends when the round no longer needs this worker: it is over, the run has ended, or the
// worker is no longer a member.
func (s *session) round(ctx context.Context, number int64) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	s.busy.Go(func() {
		for {
			r, changed := s.view.now()
			if r.Number != number || r.Kind == 0 || over(r) || member(r, s.id) == nil || ended(r) {
				cancel()
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
	return ctx, cancel
}
