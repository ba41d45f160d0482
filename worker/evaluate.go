package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer"
)

// evaluate embeds the shards of a suite that this worker holds, and scores all of them if it is the one named. It
// stays with the round until that is over: a lost worker's shards may still come to this one.
func (s *session) evaluate(ctx context.Context, r *wire.Round) (bool, error) {
	j := s.job
	j.say("evaluating", 0)
	defer j.say("", 0)
	rctx, cancel := s.round(ctx, r.Number)
	defer cancel()
	j.board.release(r.Number)
	j.shelf.release(r.Kind, r.Step, r.Suite)
	header, err := j.shelf.header(rctx, wire.HeaderRequest{Run: r.Run, Round: r.Number, Kind: r.Kind, Step: r.Step, Suite: r.Suite})
	if err != nil {
		return s.left(ctx, rctx, err)
	}
	f := newFleet(s, j, r, header)
	defer f.start(rctx)()
	for {
		for shard, err := range f.Leased(rctx, trainer.Embed) {
			if err != nil {
				return s.left(ctx, rctx, err)
			}
			began := time.Now()
			rows, err := j.trainer.Embed(shard)
			if errors.Is(err, trainer.ErrNonFinite) {
				s.log.Error("evaluation stopped", "suite", r.Suite, "err", err)
				f.confess(rctx, err) // the leader fails the run
				return s.left(ctx, rctx, err)
			}
			if err != nil {
				return false, fmt.Errorf("evaluate suite %d: embed shard %d: %w", r.Suite, shard.Index, err)
			}
			j.say("evaluating", float64(shard.Tokens())/max(time.Since(began).Seconds(), 1e-6))
			if err := f.Share(rctx, shard, rows); err != nil {
				return s.left(ctx, rctx, err)
			}
		}
		rows := j.board.changed()
		now, changed, err := f.now(rctx)
		if err != nil {
			return s.left(ctx, rctx, err)
		}
		if now.Scorer == s.id && j.board.complete(r.Number, r.Shards) {
			if err := s.score(rctx, f, now); err != nil {
				return s.left(ctx, rctx, err)
			}
			s.evaluated = r.Number
			return true, nil
		}
		if now.Scorer != "" && now.Scorer != s.id {
			rows = nil // only the scorer needs them
		}
		select {
		case <-changed:
		case <-rows:
		case <-rctx.Done():
		}
	}
}

// score computes a suite's metrics and tells the leader.
func (s *session) score(ctx context.Context, f *fleet, r *wire.Round) error {
	j := s.job
	rows, err := f.Gather(ctx)
	if err != nil {
		return err
	}
	if s.Score == nil {
		return fmt.Errorf("score suite %d: this worker has no scorer", r.Suite)
	}
	metrics, err := s.Score(ctx, j.run, r.Suite, f.header, rows, j.trainer.Width())
	if err != nil {
		return fmt.Errorf("score suite %d: %w", r.Suite, err)
	}
	slots := make([]int32, f.header.Slots)
	for i := range slots {
		slots[i] = int32(i)
	}
	m := &wire.Scored{
		Run: r.Run, Round: r.Number, Step: r.Step, Suite: r.Suite, Worker: s.id, Metrics: metrics,
		Digest: wire.DigestRows(slots, rows),
	}
	for term := int64(-1); ; {
		now, changed, err := f.now(ctx)
		if err != nil {
			return nil //nolint:nilerror // the round is over: the result was heard
		}
		if now.Term() != term {
			sctx, cancel := s.view.patience(ctx, s.timeout)
			v, err := s.Link.Scored(sctx, m)
			cancel()
			if err == nil && !v.Retry {
				term = now.Term()
				continue
			}
		}
		t := time.NewTimer(s.timeout / 4)
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}
