package worker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/worker/collective"
)

// job is what a worker has of a run: the trainer and everything that outlives a session.
type job struct {
	agent *Agent
	run   Run
	log   *slog.Logger

	timeout time.Duration

	// Only the driver uses these.
	trainer Trainer
	steps   int64  // steps applied to the trainer's parameters
	digest  string // of those parameters
	done    *wire.Applied
	copying *snap          // a copy of the parameters in the making
	parked  *trainer.State // the parameters while the worker is with another run and has no trainer for this one

	group  *collective.Group
	paths  *paths
	board  *board
	shelf  *shelf
	copies *copies
	saver  *saver
	kicked chan struct{} // wakes the driver
	moved  chan struct{} // wakes the beats: the parameters are others

	mu      sync.Mutex // guards what beats tell
	beat    wire.Beat
	missing []wire.Range
	guard   guard
}

// newJob prepares for a run; the driver builds the trainer.
func newJob(a *Agent, info wire.RunInfo, timeout time.Duration) *job {
	j := &job{
		agent: a, run: Run{RunInfo: info}, kicked: make(chan struct{}, 1), moved: make(chan struct{}, 1), log: a.Log.With("run", info.ID),
		beat: wire.Beat{State: -1}, steps: -1,
	}
	j.timeout = timeout
	j.run.Files = &Files{link: a.Link, run: info.ID, cache: a.Cache, timeout: timeout}
	j.paths = newPaths(a, info, timeout, j.log)
	j.saver = newSaver(a, j.run, timeout, j.kick)
	j.clear()
	return j
}

// clear begins again with what belongs to single rounds.
func (j *job) clear() {
	a, id, timeout := j.agent, j.run.ID, j.timeout
	j.group = collective.New(id, j.paths, collective.Options{Poll: timeout / 2, Timeout: 2 * timeout, Log: j.log})
	j.board = newBoard(j.log)
	j.shelf = newShelf(a.Link, id, timeout, j.log)
	j.copies = newCopies(timeout)
	j.lack(nil)
}

// park gives back what the run costs while the worker is with another one. Its parameters stay, and go on if they still
// are the committed ones when the worker comes back; the frozen weights are the process's to keep.
func (j *job) park() {
	if j.trainer != nil && j.steps >= 0 {
		state := j.trainer.State()
		j.parked = &state
	}
	j.free()
	j.mu.Lock()
	j.guard = guard{checked: -1}
	j.mu.Unlock()
	if j.clear(); j.parked == nil {
		j.now(-1, "")
	}
}

// free gives the trainer's memory back.
func (j *job) free() {
	j.settle()
	if t, ok := j.trainer.(interface{ Free() }); ok {
		t.Free()
	}
	j.trainer = nil
}

// close waits for a checkpoint in the writing, and gives the trainer's memory back: the next run needs it.
func (j *job) close() {
	j.settle() // the saver writes a copy that may be in the making
	j.saver.close()
	j.free()
}

// kick makes the driver look again.
func (j *job) kick() {
	select {
	case j.kicked <- struct{}{}:
	default:
	}
}

// build makes the trainer, with the initial parameters.
func (j *job) build(ctx context.Context) error {
	j.settle()
	j.say("preparing", 0)
	began := time.Now()
	t, err := j.agent.Build(ctx, j.run)
	if err != nil {
		return fmt.Errorf("prepare the trainer of run %s: %w", j.run.Name, err)
	}
	j.trainer = t
	j.watch()
	if state := j.parked; state != nil {
		digest := j.digest
		if j.parked = nil; j.restore(*state, digest) == nil {
			j.say("", 0)
			j.log.Info("trainer ready again", "step", state.Step, "seconds", time.Since(began).Seconds())
			return nil
		}
		// A bit of the copy flipped: it is nothing that this worker may tell of. It begins like any other.
		j.free()
		return j.build(ctx)
	}
	j.now(t.Steps(), t.Digest())
	j.say("", 0)
	j.hurry()
	j.log.Info("trainer ready", "parameters", t.Size(), "seconds", time.Since(began).Seconds())
	return nil
}

// restore puts the trainer into a state, which must have the digest where one is known.
func (j *job) restore(state trainer.State, digest string) error {
	j.settle()
	j.now(-1, "")
	if err := j.trainer.Restore(state); err != nil {
		return fmt.Errorf("restore step %d: %w", state.Step, err)
	}
	got := j.trainer.Digest()
	if digest != "" && got != digest {
		return fmt.Errorf("restore step %d: parameters have digest %s, %s is committed", state.Step, got, digest)
	}
	j.guarded(state.Step)
	j.now(state.Step, got)
	j.hurry()
	return nil
}

// now says which parameters the trainer has.
func (j *job) now(steps int64, digest string) {
	j.steps, j.digest = steps, digest
	j.mu.Lock()
	defer j.mu.Unlock()
	j.beat.State, j.beat.Parameters, j.beat.Size = steps, digest, 0
	if j.trainer != nil {
		j.beat.Size = int64(j.trainer.Size())
	}
}

// hurry sends a heartbeat now: somebody waits for these parameters.
func (j *job) hurry() {
	select {
	case j.moved <- struct{}{}:
	default:
	}
}

// say tells people what the worker does, and its speed where one was measured.
func (j *job) say(busy string, tokensPS float64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.beat.Busy = busy
	if tokensPS > 0 {
		if j.beat.TokensPS > 0 {
			tokensPS = 0.8*j.beat.TokensPS + 0.2*tokensPS
		}
		j.beat.TokensPS = tokensPS
	}
}

// lack tells of embedded shards whose rows nobody answers for.
func (j *job) lack(missing []wire.Range) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.missing = missing
}

// describe fills in a heartbeat.
func (j *job) describe(m *wire.Beat) {
	j.mu.Lock()
	defer j.mu.Unlock()
	m.State, m.Parameters, m.Size, m.Busy, m.TokensPS = j.beat.State, j.beat.Parameters, j.beat.Size, j.beat.Busy, j.beat.TokensPS
	m.Frozen, m.Checked, m.Spoiled = j.guard.digest, j.guard.checked, j.guard.spoiled
	m.Missing, m.Copied = j.missing, j.beat.Copied
	m.Paths = j.paths.tell()
}
