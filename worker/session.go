package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// session is the work on one run under one worker id.
type session struct {
	*Agent
	id      string
	timeout time.Duration // the coordinator's failure_timeout
	view    *view
	log     *slog.Logger
	job     *job
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

func newSession(l *life, j *job) *session {
	return &session{Agent: l.Agent, id: l.id, timeout: l.timeout, view: newView(), evaluated: -1, log: l.log, job: j}
}

// work attends to the run until ctx ends, or nothing is left to do.
func (s *session) work(ctx context.Context) error {
	defer s.busy.Wait()
	j, info := s.job, s.job.run
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
	actx, cancel := s.view.patience(ctx, s.timeout)
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
