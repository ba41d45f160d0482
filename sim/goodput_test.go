package sim

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus/membus"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/worker"
	"github.com/counterpoint-ml/counterpoint/worker/workertest"
)

var minutes = flag.Int("sim.minutes", 0, "virtual time of TestGoodput, after a minute to begin; 0 = it is left to `make sim`, which says 5")

// delays are samples of what was measured with real processes, by kind; testdata/delays.csv says where they come from.
func delays(t *testing.T) map[string][]time.Duration {
	f, err := os.Open("testdata/delays.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string][]time.Duration{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		kind, value, ok := strings.Cut(lines.Text(), ",")
		if !ok || strings.HasPrefix(kind, "#") {
			continue
		}
		ms, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("testdata/delays.csv: %q: %v", lines.Text(), err)
		}
		out[kind] = append(out[kind], time.Duration(ms*float64(time.Millisecond)))
	}
	return out
}

// TestGoodput lets workers fail at a steady rate, each away for a minute, and measures what share of the live workers'
// time went into shards of committed steps.
func TestGoodput(t *testing.T) {
	const (
		workers = 30
		shards  = 30 * 16
		step    = 10 * time.Second // of 30 workers
		away    = time.Minute
	)
	if *minutes == 0 {
		t.Skip("goodput takes minutes: go test ./sim -run Goodput -sim.minutes 5, or make sim")
	}
	measured := delays(t)
	measured["detected"] = append(measured["detected"], measured["hung"]...) // one failure in four is a hang
	for _, kind := range []string{"detected", "released", "copied"} {
		if len(measured[kind]) < 20 {
			t.Fatalf("testdata/delays.csv has %d figures of kind %s, want at least 20", len(measured[kind]), kind)
		}
	}
	for _, c := range []struct {
		every     time.Duration
		bar, goal float64
	}{{time.Minute, 0.93, 0.96}, {15 * time.Second, 0.75, 0.85}} {
		t.Run(fmt.Sprint("every=", c.every), func(t *testing.T) {
			t.Parallel()
			dir := folder(t)
			began := time.Now()
			synctest.Test(t, func(t *testing.T) {
				what := task{
					steps: 1 << 30, feed: workertest.Feed{Language: true, Queries: shards}, pause: workers * step / shards,
					settings: fsm.Settings{CheckpointEvery: 10, Keep: 2},
				}
				g := newCluster(t, *start, dir, what)
				r := rand.New(rand.NewPCG(*start, 7))
				draw := func(kind string) time.Duration { return measured[kind][r.IntN(len(measured[kind]))] }
				// The coordinator needs what it needed in life: to be told of a lost connection, less what the plan waits by
				// itself, and, less its own ticks, to lease again.
				g.net.SetNotice(func() time.Duration { return max(0, draw("detected")-100*time.Millisecond) + draw("released") })
				g.copying = func() time.Duration { return draw("copied") }
				g.net.SetFaults(membus.Faults{Delay: 200 * time.Microsecond, Jitter: time.Millisecond})
				g.seat(1)
				g.openAll()
				for range workers {
					g.hire()
				}
				time.Sleep(time.Minute)
				first, from := g.run().Ledger.Len(), time.Now()
				live, looked := time.Duration(0), from // of all workers together
				end := from.Add(time.Duration(*minutes) * time.Minute)
				failures, next := 0, from.Add(c.every)
				var back []time.Time
				for now := from; now.Before(end); now = time.Now() {
					wake := next
					if len(back) > 0 && back[0].Before(wake) {
						wake = back[0]
					}
					if end.Before(wake) {
						wake = end
					}
					time.Sleep(time.Until(wake))
					live += time.Duration(len(g.hands)) * time.Since(looked)
					looked = time.Now()
					switch {
					case len(back) > 0 && !back[0].After(looked):
						back = back[1:]
						g.hire()
					case !next.After(looked):
						failures++
						h := g.hands[r.IntN(len(g.hands))]
						g.kill(h)
						g.gone()
						back = append(back, looked.Add(away))
						next = next.Add(c.every)
					}
				}
				steps := g.run().Ledger.Len() - first
				goodput := float64(steps) * shards * what.pause.Seconds() / live.Seconds()
				t.Logf("%d steps and %d failures in %d min: goodput %.1f %% (bar %.0f %%, goal %.0f %%)", steps, failures, *minutes, 100*goodput, 100*c.bar, 100*c.goal)
				// A step more or less at the edges of the window is not a matter of goodput.
				if edge := float64(shards) * what.pause.Seconds() / live.Seconds(); goodput+edge < c.bar {
					t.Errorf("goodput %.1f %%, want at least %.0f %%", 100*goodput, 100*c.bar)
				}
				g.close()
				if len(g.faults) > 0 {
					t.Error(g.faults)
				}
			})
			t.Logf("took %v", time.Since(began).Round(time.Millisecond))
		})
	}
}

// slowCopy is a trainer whose state takes a while to come.
type slowCopy struct {
	worker.Trainer
	wait func() time.Duration
}

// Restore implements worker.Trainer.
func (s slowCopy) Restore(state trainer.State) error {
	time.Sleep(s.wait())
	return s.Trainer.Restore(state)
}
