package sim

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus/membus"
	"github.com/counterpoint-ml/counterpoint/worker/workertest"
)

// script plays a schedule that found a mistake, cut down to what it takes.
func script(t *testing.T, coordinators int, what task, f func(c *cluster)) {
	dir := folder(t)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, dir, what)
		c.seat(coordinators)
		c.openAll()
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

// Seed 10606: an owner that held no shards was lost under a new leader. The closing stayed, since no lease was lost with
// the owner; the leader had no reports, and workers repeat none while there is a closing: everybody waited for ever.
func TestOwnerWithoutShardsLostUnderANewLeader(t *testing.T) {
	what := task{steps: 400, feed: workertest.Feed{Queries: 4}, pause: 20 * time.Millisecond, settings: fsm.Settings{CheckpointEvery: 50, Keep: 3}}
	script(t, 1, what, func(c *cluster) {
		c.net.SetFaults(membus.Faults{Delay: 20 * time.Millisecond})
		c.hire()
		// idler returns the owner whom a closing in flight names for no shard.
		idler := func() *hand {
			run := c.run()
			if run == nil || run.Round == nil || run.Round.Closing == nil || run.Round.Closing.Withdrawn {
				return nil
			}
			for _, o := range run.Round.Closing.Owners {
				if !slices.ContainsFunc(run.Round.Closing.Cover, func(x fsm.Cover) bool { return x.Worker == o.Worker }) {
					for _, h := range c.hands {
						if strings.HasPrefix(o.Worker, h.name+"-") {
							return h
						}
					}
				}
			}
			return nil
		}
		for range 60 {
			newcomer := c.hire()
			for range 400 {
				if h := idler(); h != nil {
					c.note("the owner %s has no shards", h.name)
					c.crash(false, c.seats[0])
					c.kill(h)
					c.open(c.seats[0])
					return
				}
				time.Sleep(2 * time.Millisecond)
			}
			c.kill(newcomer)
			time.Sleep(200 * time.Millisecond)
			c.gone()
		}
		c.t.Error("no closing had an owner without shards: the schedule does not show what it is for")
	})
}
