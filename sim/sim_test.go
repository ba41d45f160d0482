package sim

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus/membus"
	"github.com/counterpoint-ml/counterpoint/worker/workertest"
)

var (
	seeds   = flag.Int("sim.seeds", 40, "random schedules that TestSimulation plays")
	start   = flag.Uint64("sim.start", 1, "the first seed")
	verbose = flag.Bool("sim.v", false, "show the whole log of every seed")
)

// TestMain sets what the logs of schedules hold.
func TestMain(m *testing.M) {
	flag.Parse()
	if *verbose {
		level = slog.LevelDebug
	}
	os.Exit(m.Run())
}

var level = slog.LevelInfo

// TestSimulation plays random schedules of faults, one a seed.
func TestSimulation(t *testing.T) {
	for i := range *seeds {
		seed := *start + uint64(i)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			play(t, seed)
		})
	}
}

// play plays the schedule of one seed.
func play(t *testing.T, seed uint64) { bubble(t, seed, "TestSimulation", (*cluster).perform) }

// bubble plays a schedule in virtual time: f may do what it likes, then there is peace, in which the run must end, and
// what came of it is checked.
func bubble(t *testing.T, seed uint64, test string, f func(c *cluster)) {
	dir := folder(t)
	replay := fmt.Sprintf("go test ./sim -run '^%s$' -sim.seeds 1 -sim.start %d -sim.v -count 20", test, seed)
	began := time.Now()
	watchdog := time.AfterFunc(90*time.Second, func() {
		buf := make([]byte, 4<<20)
		fmt.Fprintf(os.Stderr, "seed %d does not come to an end\n%s\nreplay: %s\n", seed, buf[:runtime.Stack(buf, true)], replay)
		os.Exit(1)
	})
	defer watchdog.Stop()
	defer func() {
		if p := recover(); p != nil { // the bubble's goroutines wait for each other, or outlive it
			t.Fatalf("seed %d: %v\nreplay: %s", seed, p, replay)
		}
	}()
	var took time.Duration
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		c := newCluster(t, seed, dir, randomTask(seed))
		f(c)
		c.peace()
		wrong := c.check()
		c.close()
		if n := c.net.Connections(); n != 0 {
			wrong = append(wrong, fmt.Sprintf("%d connections are left", n))
		}
		took = time.Since(began)
		if len(wrong) > 0 {
			t.Errorf("seed %d: %s\n%s\nreplay: %s", seed, strings.Join(wrong, "\n"), c.logs, replay)
		} else if *verbose {
			t.Logf("%s", c.logs)
		}
	})
	left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	for _, name := range left {
		if filepath.Base(name) != "events.jsonl" {
			t.Errorf("seed %d: %s is left", seed, name)
		}
	}
	if err != nil {
		t.Error(err)
	}
	t.Logf("seed %d: %v of virtual time in %v", seed, took.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
}

// folder returns a folder that is in memory where the system has one.
func folder(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "counterpoint-sim-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// randomTask chooses what a seed computes.
func randomTask(seed uint64) task {
	r := rand.New(rand.NewPCG(seed, 0x7461736b))
	return task{
		steps: int64(8 + r.IntN(25)), feed: workertest.Feed{Language: r.IntN(2) == 0, Queries: 4 + r.IntN(12)}, erratic: int64(r.IntN(2) * (2 + r.IntN(3))),
		pause: time.Duration(1+r.IntN(40)) * time.Millisecond,
		settings: fsm.Settings{
			CheckpointEvery: int64(2 + r.IntN(6)), Keep: 1 + r.IntN(3), Best: "score", EvaluateEvery: int64(r.IntN(2) * (3 + r.IntN(6))),
		},
	}
}

// faults are the networks that schedules choose from.
func (c *cluster) weather() membus.Faults {
	switch c.rng.IntN(4) {
	case 0:
		return membus.Faults{}
	case 1:
		return membus.Faults{Delay: time.Millisecond, Jitter: 5 * time.Millisecond}
	case 2:
		return membus.Faults{
			Delay: 200 * time.Microsecond, Jitter: 2 * time.Millisecond, Drop: 0.1 * c.rng.Float64(), Duplicate: 0.1 * c.rng.Float64(),
			Reorder: 0.1 * c.rng.Float64(), Late: 300 * time.Millisecond,
		}
	}
	return membus.Faults{Delay: time.Millisecond, Jitter: 100 * time.Millisecond, Drop: 0.02, Reorder: 0.3, Late: time.Second}
}

// perform plays a random schedule of faults.
func (c *cluster) perform() {
	c.seat(1 + 2*c.rng.IntN(2))
	c.openAll()
	for range 1 + c.rng.IntN(4) {
		c.hire()
	}
	c.net.SetFaults(c.weather())
	for range 5 + c.rng.IntN(25) {
		time.Sleep(time.Duration(c.rng.IntN(700)) * time.Millisecond)
		c.gone()
		if c.over() {
			break
		}
		c.act()
	}
}

// peace ends all faults, and waits for the end of the run.
func (c *cluster) peace() {
	c.note("peace")
	c.net.SetFaults(membus.Faults{Delay: time.Millisecond})
	c.net.Mend()
	c.store.set(0, 0)
	for _, h := range c.hands {
		c.net.Thaw(h.name)
		c.net.Reconnect(h.name)
	}
	for _, s := range c.seats {
		c.net.Thaw(s.name)
		c.net.Reconnect(s.name)
		if s.node == nil {
			c.open(s)
		}
	}
	c.steer(fsm.Running)
	for range 1200 { // 10 minutes
		if c.gone(); c.over() {
			break
		}
		if len(c.hands) < 2 {
			c.hire()
		}
		time.Sleep(500 * time.Millisecond)
	}
	if !c.over() {
		c.note("stuck\n%s", c.where())
	}
	// Whoever saw the end goes home. Who was cut off then waits for a coordinator that has left, and goes when told.
	time.Sleep(2 * failure)
	for _, h := range c.hands {
		h.agent.Drain("the run is over")
	}
	for _, h := range c.hands {
		select {
		case <-h.done:
		case <-time.After(10 * failure):
			c.fault("worker %s goes on after the end of the run", h.name)
		}
	}
	c.gone()
}

// act does one thing of the schedule.
func (c *cluster) act() {
	var h *hand
	if len(c.hands) > 0 {
		h = c.hands[c.rng.IntN(len(c.hands))]
	}
	s := c.seats[c.rng.IntN(len(c.seats))]
	what := c.rng.IntN(20)
	wait := time.Duration(c.rng.IntN(3000)) * time.Millisecond
	switch {
	case what <= 3 && len(c.hands) < 8:
		c.hire()
		c.note("hire %s", c.hands[len(c.hands)-1].name)
	case what <= 6 && h != nil:
		c.note("kill %s", h.name)
		c.kill(h)
	case what == 7 && h != nil:
		c.note("drain %s", h.name)
		h.agent.Drain("the schedule says so")
	case what <= 9 && h != nil:
		c.note("freeze %s for %v", h.name, wait)
		c.net.Freeze(h.name)
		time.AfterFunc(wait, func() { c.net.Thaw(h.name) })
	case what == 10 && h != nil:
		c.note("disconnect %s for %v", h.name, wait/4)
		c.net.Disconnect(h.name, "stale connection")
		time.AfterFunc(wait/4, func() { c.net.Reconnect(h.name) })
	case what <= 12 && h != nil:
		other := s.name
		if x := c.hands[c.rng.IntN(len(c.hands))]; c.rng.IntN(2) == 0 && x != h {
			other = x.name
		}
		way := c.rng.IntN(3)
		c.note("cut %s and %s for %v, way %d", h.name, other, wait, way)
		if way != 0 {
			c.net.Block(h.name, other, true)
		}
		if way != 1 {
			c.net.Block(other, h.name, true)
		}
		time.AfterFunc(wait, func() { c.net.Block(h.name, other, false); c.net.Block(other, h.name, false) })
	case what <= 14:
		c.note("crash %s for %v", s.name, wait/3)
		powerless := c.rng.IntN(2) == 0
		c.note("power off: %v", powerless)
		c.crash(powerless, s)
		time.Sleep(wait / 3)
		c.open(s)
	case what == 15:
		c.note("everything crashes")
		for _, h := range c.hands {
			c.kill(h)
		}
		c.crash(c.rng.IntN(2) == 0, c.seats...)
		c.openAll()
	case what == 16:
		c.note("pause for %v", wait)
		c.steer(fsm.Stopping)
		time.Sleep(wait)
		c.steer(fsm.Running)
	case what == 17:
		c.net.SetFaults(c.weather())
		c.note("weather %v", c.net)
	case what == 18:
		failing := c.rng.Float64() / 2
		c.note("store fails %.2f, slow by %v", failing, wait)
		c.store.set(failing, wait)
	case what == 19:
		if run := c.run(); run != nil && len(run.Manifests) > 0 {
			m := run.Manifests[c.rng.IntN(len(run.Manifests))]
			if m.Step < run.Cursor && run.Cursor < run.Steps { // a finished run's would be missed at the end
				c.note("damage %s", m.Path)
				c.store.damage(m.Path)
			}
		}
	}
}

// steer pauses or resumes the run.
func (c *cluster) steer(to fsm.Lifecycle) {
	for _, s := range c.seats {
		if s.node == nil {
			continue
		}
		if to == fsm.Running {
			s.node.Resume()
		} else {
			s.node.Stop("the schedule says so")
		}
	}
}

// where says what a cluster that does not go on is doing.
func (c *cluster) where() string {
	var b strings.Builder
	if s := c.state(); s != nil && len(s.Runs) > 0 {
		fmt.Fprintf(&b, "members %+v\n", s.Members)
		run := s.Runs[0]
		fmt.Fprintf(&b, "state %s, cursor %d, save %+v\n", run.State, run.Cursor, run.Save)
		if r := run.Round; r != nil {
			fmt.Fprintf(&b, "round %+v\n", *r)
			if r.Closing != nil {
				fmt.Fprintf(&b, "closing %+v\n", *r.Closing)
			}
		}
	}
	buf := make([]byte, 8<<20)
	all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	own := regexp.MustCompile(`synctest bubble \d+`).FindString(all[0])
	for _, g := range all {
		if head, _, _ := strings.Cut(g, "\n"); strings.Contains(head, own+"]") || strings.Contains(head, own+",") {
			b.WriteString(g + "\n\n")
		}
	}
	return b.String()
}
