package sim

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// script plays a schedule that found a mistake, cut down to what it takes.
func script(t *testing.T, coordinators int, what task, f func(c *cluster)) {
	dir := folder(t)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, dir, what)
		c.seat(coordinators)
		for _, s := range c.seats {
			c.open(s)
		}
		f(c)
		c.peace()
		for _, w := range c.check() {
			t.Error(w)
		}
		c.close()
		if t.Failed() {
			t.Log(c.logs)
		}
	})
}

// until waits for something to be so, a minute at most.
func (c *cluster) until(what string, so func() bool) {
	c.t.Helper()
	for range 6000 {
		if so() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatalf("not after a minute: %s\n%s", what, c.logs)
}

// Seed 23: a checkpoint that was good when it was written, or read, was taken to be good for ever: after a total loss
// everybody tried to load it and nobody could.
func TestCheckpointDamagedAfterItWasVerified(t *testing.T) {
	script(t, 1, task{steps: 30, pause: 10 * time.Millisecond, settings: fsm.Settings{CheckpointEvery: 2, Keep: 3}}, func(c *cluster) {
		c.hire()
		c.hire()
		c.until("two checkpoints", func() bool { run := c.run(); return run != nil && len(run.Manifests) >= 2 })
		c.store.damage(c.run().Manifests[len(c.run().Manifests)-1].Path)
		for _, h := range c.hands {
			c.kill(h)
		}
	})
}
