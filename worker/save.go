package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// saver writes checkpoints beside the steps: the driver takes the copy between two steps, the writing never holds it
// up. Only one is written at a time.
type saver struct {
	agent *Agent
	run   Run
	kick  func()
	again time.Duration // after a failure, when the checkpoint is still asked for, it is tried again
	news  chan struct{} // holds one: a copy was taken, or a writing ended

	ctx     context.Context // of writing: it ends when the job is closed
	cancel  context.CancelFunc
	writing sync.WaitGroup

	mu     sync.Mutex
	state  *snap // the newest copy asked for
	active bool
	result *wire.Saved // of the newest writing
	failed time.Time
}

func newSaver(a *Agent, run Run, again time.Duration, kick func()) *saver {
	s := &saver{agent: a, run: run, again: again, kick: kick, news: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// close ends a checkpoint in the writing, and waits for it to end.
func (s *saver) close() {
	s.cancel()
	s.writing.Wait()
}

// busy reports whether a checkpoint is being written.
func (s *saver) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

// pending reports whether the round still waits for a checkpoint of this worker's.
func (s *saver) pending(r *wire.Round, worker string) bool {
	return s.busy() || r.Save != nil && r.Save.Worker == worker && s.holds(r.Save.Step)
}

func (s *saver) holds(step int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state != nil && s.state.step == step
}

// copy takes a copy of the parameters if the round asks this worker for it, to write or to stand by, and they are
// the trainer's now. The driver calls it between two steps, and before an update. A copy that nothing waits for
// any more is dropped.
func (s *saver) copy(r *wire.Round, worker string, j *job) {
	want := r.Save != nil && (r.Save.Worker == worker || r.Save.Standby == worker)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != nil && (!want || s.state.step != r.Save.Step) && !s.active {
		s.state = nil
	}
	if want && j.steps == r.Save.Step && (s.state == nil || s.state.step != r.Save.Step) {
		s.state = j.snapshot()
		s.result, s.failed = nil, time.Time{}
		s.wake()
	}
}

// wake lets the session's save look again.
func (s *saver) wake() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// begin starts to write the copy of step unless that was done, or is being done, or failed a moment ago.
func (s *saver) begin(step int64, worker string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active || s.state == nil || s.state.step != step {
		return
	}
	if s.agent.Write == nil {
		s.result = &wire.Saved{Run: s.run.ID, Step: step, Err: "this worker has no writer of checkpoints"}
		return
	}
	if s.result != nil && s.result.Step == step && (s.result.Err == "" || time.Since(s.failed) < s.again) {
		return
	}
	s.active = true
	copied := s.state
	s.writing.Go(func() {
		began := time.Now()
		<-copied.ready
		path, manifest, err := s.agent.Write(s.ctx, s.run, copied.state, copied.digest)
		m := &wire.Saved{Run: s.run.ID, Step: step, Worker: worker, Path: path, Manifest: manifest, Seconds: time.Since(began).Seconds()}
		if err != nil {
			m.Err = err.Error()
			if !errors.Is(err, context.Canceled) {
				s.agent.Log.Error("checkpoint not written; training goes on", "step", step, "err", err)
			}
		}
		s.mu.Lock()
		s.active, s.result = false, m
		if err != nil {
			s.failed = time.Now()
		}
		s.mu.Unlock()
		s.kick()
		s.wake()
	})
}

// outcome returns the result of the newest writing, if it is of step.
func (s *saver) outcome(step int64) *wire.Saved {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.result == nil || s.result.Step != step || s.active {
		return nil
	}
	m := *s.result
	return &m
}

// save follows the rounds: it starts the checkpoints that this worker is asked for, from the copies that the driver
// took, and tells the leader of each what came of it: again when the leader changes, and when it still asks after a while.
func (s *session) save(ctx context.Context) {
	saver := s.job.saver
	told, at := "", time.Time{} // step, term and outcome that were told last, and when
	tick := time.NewTicker(max(s.timeout/4, 5*time.Millisecond))
	defer tick.Stop()
	for {
		r, changed := s.view.now()
		if r != nil && r.Save != nil && r.Save.Worker == s.id {
			step := r.Save.Step
			saver.begin(step, s.id)
			m := saver.outcome(step)
			if now := s.job.at(); m == nil && now > step && !saver.holds(step) {
				m = &wire.Saved{Run: r.Run, Step: step, Err: fmt.Sprintf("parameters of step %d are gone: this worker is at step %d", step, now)}
			}
			if m != nil {
				m.Worker = s.id
				name := fmt.Sprint(step, r.Term(), m.Err, m.Manifest, saver.failedAt())
				if (name != told || time.Since(at) > 2*s.timeout) && s.tellSaved(ctx, m) {
					told, at = name, time.Now()
				}
			}
		}
		select {
		case <-changed:
		case <-saver.news:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// failedAt tells one failure from the next of the same step.
func (s *saver) failedAt() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed.UnixNano()
}

// tellSaved reports whether the leader has heard of a checkpoint.
func (s *session) tellSaved(ctx context.Context, m *wire.Saved) bool {
	sctx, cancel := s.view.patience(ctx, s.timeout)
	defer cancel()
	v, err := s.Link.Saved(sctx, m)
	return err == nil && !v.Retry
}

// at returns the step of the parameters, as beats tell it.
func (j *job) at() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.beat.State
}
