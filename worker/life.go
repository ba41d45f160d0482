package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// life is that of one worker id, from a welcome until the coordinator expires it. It beats, and works on the run that it
// is assigned to, if any.
type life struct {
	*Agent
	id      string
	timeout time.Duration // the coordinator's failure_timeout
	log     *slog.Logger

	mu       sync.Mutex
	assigned *wire.RunInfo // nil = idle
	turned   chan struct{} // closed when that changes
	now      *session      // at work; nil = none

	news chan struct{} // wakes the beats: there is another session
}

func newLife(a *Agent, id string, w *wire.Welcome) *life {
	l := &life{Agent: a, id: id, timeout: w.FailureTimeout, log: a.Log.With("worker", id), assigned: w.Run, turned: make(chan struct{}), news: make(chan struct{}, 1)}
	if l.timeout <= 0 {
		l.timeout = time.Second
	}
	return l
}

// run beats and works until the life ends; the error says how.
func (l *life) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.beat(ctx) })
	group.Go(func() error { return l.leave(ctx) })
	group.Go(func() error { return l.work(ctx) })
	return group.Wait()
}

// work attends to one run after another, as they are assigned.
func (l *life) work(ctx context.Context) error {
	for {
		info, turned := l.assignment()
		if info == nil {
			select {
			case <-turned:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		err := l.engage(ctx, *info)
		if !errors.Is(err, errNewRun) {
			return err
		}
	}
}

// engage works on a run until another one is assigned, or none.
func (l *life) engage(ctx context.Context, info wire.RunInfo) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := newSession(l, l.take(info, l.timeout))
	l.mu.Lock()
	l.now = s
	l.mu.Unlock()
	select {
	case l.news <- struct{}{}: // the coordinator waits to hear what is here of this run
	default:
	}
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			now, turned := l.assignment()
			if now == nil || now.ID != info.ID || now.Identity != info.Identity {
				cancel(errNewRun)
				return
			}
			select {
			case <-turned:
			case <-ctx.Done():
				return
			}
		}
	})
	err := s.work(ctx)
	cancel(nil)
	watch.Wait()
	l.mu.Lock()
	l.now = nil
	l.mu.Unlock()
	if cause := context.Cause(ctx); errors.Is(cause, errNewRun) && (errors.Is(err, errNewRun) || errors.Is(err, context.Canceled)) {
		l.log.Info("leaving the run", "run", info.Name)
		s.job.park()
		return errNewRun
	}
	return err
}

// assignment returns the run that the coordinator has for this worker (nil = none), and what is closed when that changes.
func (l *life) assignment() (*wire.RunInfo, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.assigned, l.turned
}

// assign takes an assignment; nil = none.
func (l *life) assign(info *wire.RunInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if info == l.assigned || info != nil && l.assigned != nil && info.ID == l.assigned.ID && info.Identity == l.assigned.Identity {
		return
	}
	l.assigned = info
	close(l.turned)
	l.turned = make(chan struct{})
}

// session returns the one at work; nil = none.
func (l *life) session() *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// beat sends heartbeats until the coordinator no longer knows this worker. A coordinator that does not answer is
// lost for a while: the work goes on.
func (l *life) beat(ctx context.Context) error {
	ticker := time.NewTicker(max(l.timeout/5, time.Millisecond))
	defer ticker.Stop()
	lost := false
	for {
		m := &wire.Beat{Worker: l.id, State: -1}
		s := l.session()
		if s != nil {
			if r, _ := s.view.now(); r != nil {
				m.Revision = r.Revision
			}
			m.Run = s.job.run.ID
			s.job.describe(m)
		}
		// An answer that takes longer is given up, so that the next beat is not late: two may be lost before the
		// coordinator takes this worker for dead.
		bctx, cancel := context.WithTimeout(ctx, l.timeout*2/5)
		pulse, err := l.Link.Beat(bctx, m)
		cancel()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			if !lost {
				l.tellLost(s, err)
			}
			lost = true
		case !pulse.Known:
			return errExpired
		default:
			if lost {
				l.log.Info("coordinator answers again")
			}
			lost = false
			l.heed(s, pulse)
		}
		var moved chan struct{}
		if s := l.session(); s != nil {
			moved = s.job.moved
		}
		select {
		case <-ticker.C:
		case <-moved:
		case <-l.news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (l *life) tellLost(s *session, err error) {
	if s != nil {
		if r, _ := s.view.now(); r != nil && ended(r) {
			l.log.Info("the coordinator has left; waiting for the next one")
			return
		}
	}
	l.log.Warn("no coordinator answers; the work goes on", "err", err)
}

// heed does what the answer to a beat about s asks for.
func (l *life) heed(s *session, pulse *wire.Pulse) {
	switch {
	case pulse.Idle:
		l.assign(nil)
	case pulse.Run != nil:
		l.assign(pulse.Run)
	case s != nil: // it is still this one
		l.assign(&s.job.run.RunInfo)
	}
	if s = l.session(); s != nil && pulse.Round != nil && pulse.Round.Run == s.job.run.ID {
		s.view.offer(pulse.Round)
	}
}

// leave tells the coordinator when the agent is to drain.
func (l *life) leave(ctx context.Context) error {
	select {
	case <-l.drain:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	l.log.Info("draining", "reason", l.why)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, l.timeout) {
		lctx, cancel := context.WithTimeout(ctx, l.timeout)
		err := l.Link.Leave(lctx, &wire.Leave{Worker: l.id, Reason: l.why})
		cancel()
		if err == nil {
			break
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	s := l.session()
	if s == nil {
		return errDrained
	}
	s.job.kick()
	<-ctx.Done() // the driver returns when nothing is held any more
	return context.Cause(ctx)
}
