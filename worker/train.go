package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/worker/collective"
)

// step executes the round's training step with the others.
func (s *session) step(ctx context.Context, r *wire.Round) (bool, error) {
	j := s.job
	j.say("training", 0)
	defer j.say("", 0)
	rctx, cancel := s.round(ctx, r.Number)
	defer cancel()
	j.group.Release(r.Number, false)
	j.board.release(r.Number)
	j.shelf.release(r.Kind, r.Step, r.Suite)
	header, err := j.shelf.header(rctx, wire.HeaderRequest{Run: r.Run, Round: r.Number, Kind: r.Kind, Step: r.Step})
	if err != nil {
		return s.abandoned(ctx, rctx, err)
	}
	f := newFleet(s, j, r, header)
	defer f.start(rctx)()
	out, err := safely(s.log, r.Step, func() (trainer.Outcome, error) { return j.trainer.Step(rctx, header, r.Step, f) })
	if errors.Is(err, trainer.ErrNonFinite) {
		s.log.Error("step stopped", "err", err)
		f.confess(rctx, err) // the leader fails the run
		return s.left(ctx, rctx, err)
	}
	if err != nil {
		return s.abandoned(ctx, rctx, err)
	}
	s.applied(r, f.closing(), out)
	return true, nil
}

// abandoned tells a step that was given up, because its round no longer needs this worker, from one that failed.
func (s *session) abandoned(ctx, rctx context.Context, err error) (bool, error) {
	again, err := s.left(ctx, rctx, err)
	if again {
		s.log.Info("step abandoned: the run goes on without this worker's part")
	}
	return again, err
}

// left is abandoned for an evaluation, whose end is no news: it ends when somebody has scored.
func (s *session) left(ctx, rctx context.Context, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if rctx.Err() != nil {
		return true, nil
	}
	return false, err
}

// applied records what the update made, and confirm tells it.
func (s *session) applied(r *wire.Round, closing int32, out trainer.Outcome) {
	s.job.done = &wire.Applied{
		Run: r.Run, Round: r.Number, Step: r.Step, Closing: closing, Attempt: out.Attempt,
		Gradient: out.Gradient, Parameters: out.Parameters, Loss: out.Loss, Norm: out.Norm, Rate: out.Rate,
	}
	s.confirmed = confirmed{revision: -1}
	s.job.now(out.Step, out.Parameters)
	if want := s.view.digest(out.Step); want != "" && want != out.Parameters {
		s.log.Error("parameters differ from the committed ones", "step", out.Step, "digest", out.Parameters, "committed", want)
	}
}

// following returns a context that ends when this worker is no longer a member that is behind, the run is over, the
// worker drains, or ok is false of the newest round.
func (s *session) following(ctx context.Context, ok func(*wire.Round) bool) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	s.busy.Go(func() {
		for {
			r, changed := s.view.now()
			me := member(r, s.id)
			if me == nil || !me.Behind || ended(r) || !ok(r) {
				cancel()
			}
			select {
			case <-changed:
			case <-s.drain:
				cancel()
			case <-ctx.Done():
			}
			if ctx.Err() != nil {
				return
			}
		}
	})
	return ctx, cancel
}

// takeTotal applies the total of a round that does not need this worker's sum: a follower's step.
func (s *session) takeTotal(ctx context.Context, r *wire.Round) (bool, error) {
	j := s.job
	j.say("following", 0)
	defer j.say("", 0)
	rctx, cancel := s.following(ctx, func(now *wire.Round) bool { // a newer closing, or a round long gone, is another question
		return s.view.closing(r.Step) == r && now.Number <= r.Number+remembered
	})
	defer cancel()
	total, err := j.group.Follow(rctx, collective.Step{
		Self: s.id, Round: r.Number, Attempt: r.Attempt, Size: int64(j.trainer.Size()), Closing: r.Closing,
		Others: others(r, s.id), Share: true,
	})
	cancel()
	now, _ := s.view.now()
	if errors.Is(err, collective.ErrGone) || err != nil && ctx.Err() == nil && now.Number > r.Number+remembered {
		s.log.Info("total is no longer kept; the state is copied again", "step", r.Step)
		j.now(-1, "")
		return true, nil
	}
	if err != nil {
		if ctx.Err() == nil && rctx.Err() != nil {
			return true, nil
		}
		return false, err
	}
	header, err := j.shelf.header(ctx, wire.HeaderRequest{Run: r.Run, Round: r.Number, Kind: r.Kind, Step: r.Step})
	if err != nil {
		return false, err
	}
	j.settle()
	out, err := safely(s.log, r.Step, func() (trainer.Outcome, error) {
		return j.trainer.Apply(header, r.Step, total, r.Closing.Loss, r.Closing.Maxima, r.Attempt)
	})
	if err != nil {
		return false, err
	}
	s.applied(r, r.Closing.Number, out)
	j.hurry()
	return true, nil
}

// follow brings a member that is behind to the committed state: its own if the digest is right, totals of the steps
// that it lacks, a copy of a peer's state, or the checkpoint that everybody starts from.
func (s *session) follow(ctx context.Context, r *wire.Round, me *wire.Member) (bool, error) {
	j := s.job
	want := s.view.digest(j.steps)
	right := j.steps >= 0 && (want == "" || want == j.digest)
	if right && (me.Peer != "" || !r.Load || j.steps == r.Step) {
		if c := s.view.closing(j.steps); c != nil && me.Peer != "" { // without a full member the step is executed again
			return s.takeTotal(ctx, c)
		}
		if j.steps == r.Step || j.steps == r.Step+1 {
			return false, nil
		}
	}
	if me.Peer == "" {
		if !r.Load {
			return false, nil
		}
		return s.load(ctx, r)
	}
	cctx, cancel := s.following(ctx, func(r *wire.Round) bool {
		now := member(r, s.id)
		return now != nil && now.Peer == me.Peer
	})
	state, err := s.copyState(cctx, me.Peer)
	cancel()
	if err == nil {
		err = j.restore(state, s.view.digest(state.Step))
	}
	if err != nil {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		s.log.Warn("state is copied again", "peer", me.Peer, "err", err)
		return true, sleep(ctx, s.timeout/4)
	}
	s.log.Info("state copied", "peer", me.Peer, "step", state.Step)
	return true, nil
}

// loads is how often in a row a checkpoint is loaded in vain before the worker gives up. The leader has verified it, so
// what is wrong is here, and trying on would keep the run waiting without a word.
const loads = 5

// load restores the checkpoint that the round starts from, or the initial parameters.
func (s *session) load(ctx context.Context, r *wire.Round) (bool, error) {
	j := s.job
	j.done = nil
	if r.Resume == "" {
		if r.Step != 0 {
			s.log.Warn("no peer and no checkpoint to take the state from; waiting", "step", r.Step)
			return false, nil
		}
		j.trainer = nil // built again with the initial parameters
		return true, j.build(ctx)
	}
	if j.agent.Load == nil {
		return false, fmt.Errorf("load checkpoint %s: this worker has no loader", r.Resume)
	}
	j.say("loading checkpoint", 0)
	defer j.say("", 0)
	state, err := j.agent.Load(ctx, j.run, r.Resume)
	if err == nil && state.Step != r.Step {
		err = fmt.Errorf("it is of step %d, want %d", state.Step, r.Step)
	}
	if err == nil {
		err = j.restore(state, r.Parameters)
	}
	if err != nil {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if s.unloaded++; s.unloaded >= loads {
			return false, fmt.Errorf("load checkpoint %s, try %d: %w", r.Resume, s.unloaded, err)
		}
		s.log.Error("checkpoint not loaded; trying again", "path", r.Resume, "err", err)
		return true, sleep(ctx, s.timeout)
	}
	s.unloaded = 0
	s.log.Info("checkpoint loaded", "path", r.Resume, "step", state.Step)
	return true, nil
}

// safely turns a panic of the trainer into an error that names the step; where it happened is in the log.
func safely(log *slog.Logger, step int64, f func() (trainer.Outcome, error)) (out trainer.Outcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("the trainer broke an invariant", "step", step, "what", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("step %d: the trainer broke an invariant, which is a mistake in it (the log has the place): %v", step, p)
		}
	}()
	return f()
}
