package worker

import (
	"context"
	"time"
)

// guard is what is known of a job's frozen weights, for the beats.
type guard struct {
	keeper  Keeper
	digest  string // as loaded
	checked int64  // up to which step they are known to be as they were
	fresh   bool   // loaded, and no step was computed with them yet
	spoiled string
}

// watch takes the trainer's frozen weights under guard: they were loaded just now.
func (j *job) watch() {
	k, ok := j.trainer.(Keeper)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.guard = guard{checked: -1}
	if ok && k.FrozenDigest() != "" {
		j.guard = guard{keeper: k, digest: k.FrozenDigest(), fresh: true}
	}
}

// guarded notes that the trainer has the parameters after some steps, by a restore: what it computed from there on is its
// own, and a check that was beyond them says nothing about what comes again.
func (j *job) guarded(step int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.guard.fresh {
		j.guard.checked, j.guard.fresh = step, false
	}
	j.guard.checked = min(j.guard.checked, step)
}

// guard hashes the frozen weights again whenever a checkpoint is asked for of whomever, beside the steps, and tells the
// coordinator of a difference at once.
func (s *session) guard(ctx context.Context) {
	j := s.job
	for {
		r, changed := s.view.now()
		j.mu.Lock()
		g := j.guard
		j.mu.Unlock()
		if r != nil && g.keeper != nil && g.spoiled == "" && member(r, s.id) != nil && r.Check > g.checked && r.Step >= r.Check {
			began := time.Now()
			err := g.keeper.CheckFrozen(ctx)
			if ctx.Err() != nil {
				return
			}
			j.mu.Lock()
			if same := j.guard.keeper == g.keeper && j.guard.checked == g.checked; same && err == nil {
				j.guard.checked = r.Check
			} else if same {
				j.guard.spoiled = err.Error()
			}
			j.mu.Unlock()
			if err != nil {
				s.log.Error("frozen weights changed in this machine's memory; the coordinator will send this worker away", "err", err)
			} else {
				s.log.Debug("frozen weights are as they were loaded", "step", r.Check, "seconds", time.Since(began).Seconds())
			}
			j.hurry()
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		case <-time.After(s.timeout): // the trainer may have been built since
		}
	}
}
