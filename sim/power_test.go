package sim

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus/membus"
	"github.com/counterpoint-ml/counterpoint/worker/workertest"
)

// TestPowerLoss cuts the power of all machines at once, coordinators and workers, at any moment: what the disks had not
// synced is lost, kept or torn. The run goes on at the last checkpoint that was committed, and ends in the same bits.
func TestPowerLoss(t *testing.T) {
	for i := range *seeds {
		seed := *start + uint64(i)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			bubble(t, seed, "TestPowerLoss", func(c *cluster) {
				c.task.settings.EvaluateEvery = 0
				c.seat(1 + 2*c.rng.IntN(2))
				c.openAll()
				workers := 1 + c.rng.IntN(4)
				for range workers {
					c.hire()
				}
				c.net.SetFaults(membus.Faults{Delay: time.Millisecond, Jitter: 5 * time.Millisecond})
				for range 1 + c.rng.IntN(3) {
					c.until("a step", func() bool { run := c.run(); return run != nil && run.Ledger.Len() > 0 })
					time.Sleep(time.Duration(c.rng.IntN(3000)) * time.Millisecond)
					if c.over() {
						break
					}
					c.powerLoss(workers)
				}
			})
		})
	}
}

// powerLoss cuts the power of everything, and checks what the next life goes on from.
func (c *cluster) powerLoss(workers int) {
	before := c.run()
	c.mu.Lock()
	told := len(c.events)
	c.mu.Unlock()
	c.note("power off: everything, after %d steps and %d checkpoints", before.Ledger.Len(), len(before.Manifests))
	for _, h := range c.hands {
		c.kill(h)
	}
	c.crash(true, c.seats...)
	c.gone()
	time.Sleep(time.Duration(c.rng.IntN(5000)) * time.Millisecond)
	c.openAll()
	for range workers {
		c.hire()
	}
	var restarted *coordinator.Event
	c.until("going on", func() bool {
		if c.over() {
			return true
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for i := told; i < len(c.events); i++ {
			if e := c.events[i]; e.Kind == coordinator.Restarted {
				restarted = &e
			}
		}
		return restarted != nil
	})
	after := c.run()
	if after.Ledger.Len() < before.Ledger.Len() || len(after.Manifests) > 0 && len(before.Manifests) > 0 && after.Manifests[len(after.Manifests)-1].Step < before.Manifests[len(before.Manifests)-1].Step {
		c.fault("%d steps and checkpoints %+v were committed, %d and %+v are left", before.Ledger.Len(), before.Manifests, after.Ledger.Len(), after.Manifests)
	}
	newest := int64(0)
	if n := len(before.Manifests); n > 0 {
		newest = before.Manifests[n-1].Step
	}
	if restarted != nil && restarted.Step < newest {
		c.fault("the run went on at step %d, and the checkpoint of step %d was committed", restarted.Step, newest)
	}
}

// TestMetamorphic runs one task with any number of workers, speeds, joins, leaves, lost leaders and leases: the parameters
// and gradients of every step are those of one worker alone.
func TestMetamorphic(t *testing.T) {
	what := task{steps: 24, feed: workertest.Feed{Queries: 11}, erratic: 3, pause: 8 * time.Millisecond}
	what.settings.CheckpointEvery, what.settings.Keep, what.settings.EvaluateEvery, what.settings.Best = 5, 2, 7, "score"
	for i := range max(*seeds/4, 8) {
		seed := *start + uint64(i)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			bubble(t, seed, "TestMetamorphic", func(c *cluster) {
				c.task = what
				c.task.feed.Language = seed%2 == 0
				c.uneven = rand.New(rand.NewPCG(seed, 9))
				c.seat([]int{1, 3, 5}[c.rng.IntN(3)])
				c.openAll()
				c.net.SetFaults(membus.Faults{Delay: time.Millisecond, Jitter: 3 * time.Millisecond})
				for range 1 + c.rng.IntN(8) {
					c.hire()
				}
				for range c.rng.IntN(8) {
					time.Sleep(time.Duration(c.rng.IntN(400)) * time.Millisecond)
					if c.gone(); c.over() || len(c.hands) == 0 {
						break
					}
					switch h := c.hands[c.rng.IntN(len(c.hands))]; c.rng.IntN(4) {
					case 0:
						c.hire()
					case 1:
						h.agent.Drain("metamorphic")
						c.hire()
					case 2:
						c.kill(h)
						c.hire()
					case 3:
						s := c.seats[c.rng.IntN(len(c.seats))]
						c.crash(false, s)
						c.open(s)
					}
				}
			})
		})
	}
}
