package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/consensus"
	"github.com/counterpoint-ml/counterpoint/coordinator/consensus/disk"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus/membus"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/worker"
	"github.com/counterpoint-ml/counterpoint/worker/workertest"
)

// failure is the failure timeout of simulated clusters, in virtual time.
const failure = time.Second

// task is what a simulated run computes.
type task struct {
	steps    int64
	feed     workertest.Feed
	erratic  int64
	pause    time.Duration // per shard
	settings fsm.Settings
}

// cluster is coordinators, workers and a checkpoint store in one process, over a network in memory.
type cluster struct {
	t       testing.TB
	seed    uint64
	rng     *rand.Rand // of the schedule: only its goroutine draws from it
	net     *membus.Network
	raft    *consensus.Network
	task    task
	dir     string
	store   *store
	seats   []*seat
	hands   []*hand
	all     []*hand // that were ever hired
	hired   int
	logs    *journal
	tap     *tap
	copying func() time.Duration // how long a state takes to come; nil = no time
	uneven  *rand.Rand           // makes workers of unlike speed; nil = they are alike

	mu     sync.Mutex
	events []coordinator.Event
	faults []string        // what must not happen and did
	dead   map[string]bool // coordinators whose processes end
}

// newCluster makes a cluster without anybody in it. The caller is in a bubble.
func newCluster(t testing.TB, seed uint64, dir string, what task) *cluster {
	c := &cluster{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0x73696d)), net: membus.New(seed, 5*time.Millisecond), task: what, dir: dir,
		logs: &journal{}, tap: newTap(), dead: map[string]bool{},
	}
	c.raft = consensus.NewNetwork(failure)
	c.raft.Faults(c.travel)
	c.store = &store{Store: workertest.NewStore(), damaged: map[string]bool{}, rng: rand.New(rand.NewPCG(seed, 0x73746f7265))}
	return c
}

// seat gives the cluster n coordinators, none of them started.
func (c *cluster) seat(n int) {
	for i := range n {
		c.seats = append(c.seats, &seat{name: string(rune('a' + i)), disk: disk.NewMemory()})
	}
}

// travel lets Raft's messages suffer what hosts and links suffer.
func (c *cluster) travel(from, to string) (time.Duration, error) {
	c.mu.Lock()
	dead := c.dead[from] || c.dead[to]
	c.mu.Unlock()
	if dead {
		return 0, membus.ErrCut
	}
	return c.net.Travel(from, to)
}

// fault notes something that must not happen.
func (c *cluster) fault(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.faults) < 20 {
		c.faults = append(c.faults, fmt.Sprintf(format, args...))
	}
}

// note writes a line of the schedule into the log.
func (c *cluster) note(format string, args ...any) {
	c.logs.add("schedule", fmt.Sprintf(format, args...))
}

// seat is a coordinator's place: its folder stays when its process ends.
type seat struct {
	name   string
	disk   *disk.Memory
	node   *coordinator.Node // nil = down
	cancel context.CancelFunc
	done   chan struct{}
	over   bool // its Run has returned without an error
}

// open starts a coordinator.
func (c *cluster) open(s *seat) {
	c.t.Helper()
	log := c.logs.logger(s.name)
	dir := filepath.Join(c.dir, s.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	delete(c.dead, s.name)
	c.mu.Unlock()
	node, err := coordinator.Open(coordinator.Options{
		Dir: dir, Cluster: coordinator.Config{FailureTimeout: failure}, Feed: c.task.feed, Suites: workertest.Suites{},
		Store: c.store, Log: log, Version: "sim", Stay: true, Resume: true, Tap: c.tap.of(s.name),
		Run: coordinator.Submission{
			Name: "toy", Identity: "abcdef0123", Identify: []byte("{}"), Spec: []byte("{}"), Folder: "store", Steps: c.task.steps, Settings: c.task.settings,
		},
		Events: func(e coordinator.Event) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.events = append(c.events, e)
		},
		Consensus: func(o *consensus.Options) {
			o.Name, o.Disk = s.name, s.disk
			if len(c.seats) > 1 {
				for _, s := range c.seats {
					o.Servers = append(o.Servers, consensus.Server{Name: s.name, Address: s.name})
				}
				o.Transport = c.raft.Join(s.name)
			}
		},
		Bus: func(disconnected func(name, reason string)) (*bus.Conn, error) {
			return c.net.Dial(s.name, bus.Options{Name: "coordinator " + s.name, FailureTimeout: failure, Log: log}, disconnected)
		},
	})
	if err != nil {
		c.t.Fatalf("open coordinator %s: %v", s.name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.node, s.cancel, s.done = node, cancel, make(chan struct{})
	go func() {
		defer close(s.done)
		_, err := node.Run(ctx)
		if err != nil && ctx.Err() == nil && !c.dying(s) {
			c.fault("coordinator %s ended: %v", s.name, err)
		}
		s.over = err == nil
	}()
}

// openAll starts all coordinators that are down.
func (c *cluster) openAll() {
	for _, s := range c.seats {
		if s.node == nil {
			c.open(s)
		}
	}
}

// dying reports whether a coordinator's process is being ended.
func (c *cluster) dying(s *seat) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead[s.name]
}

// crash ends coordinators' processes: their network goes first. With power off, what their disks had not synced is lost,
// kept or torn.
func (c *cluster) crash(powerless bool, seats ...*seat) {
	for _, s := range seats {
		c.mu.Lock()
		c.dead[s.name] = true
		c.mu.Unlock()
		if powerless && s.node != nil {
			s.disk.Cut(c.rng)
		}
		c.net.Kill(s.name)
	}
	for _, s := range seats {
		if s.node == nil {
			continue
		}
		s.cancel()
		<-s.done
		if err := s.node.Close(); err != nil && !powerless {
			c.fault("close coordinator %s: %v", s.name, err)
		}
		s.node = nil
	}
}

// hand is a worker's process.
type hand struct {
	name   string
	agent  *worker.Agent
	conn   *bus.Conn
	cancel context.CancelFunc
	done   chan struct{}
	err    error // when done is closed
	killed bool
}

// hire starts a worker on a host of its own.
func (c *cluster) hire() *hand {
	c.t.Helper()
	c.hired++
	name := fmt.Sprintf("w%d", c.hired)
	log := c.logs.logger(name)
	conn, err := c.net.Dial(name, bus.Options{Name: "worker " + name, FailureTimeout: failure, Log: log}, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	pause := c.task.pause
	if c.uneven != nil {
		pause = time.Duration(float64(pause) * (0.2 + 3*c.uneven.Float64()))
	}
	config := worker.Config{
		Name: name, Connection: conn.Name(), Numerics: "toy", Threads: c.hired%4 + 1, Cache: c.dir, Log: log, Link: c.tap.link(worker.NewLink(conn)), OneRun: true,
		Build: func(context.Context, worker.Run) (worker.Trainer, error) {
			tr := workertest.NewToy()
			tr.Pause, tr.Embedding, tr.Erratic, tr.Language = pause, pause/2, c.task.erratic, c.task.feed.Language
			tr.Gate = func() { // a host that stands still computes nothing
				for frozen := c.net.Frozen(name); frozen != nil; frozen = c.net.Frozen(name) {
					<-frozen
				}
			}
			if c.copying != nil {
				return slowCopy{tr, c.copying}, nil
			}
			return tr, nil
		},
		Load: func(ctx context.Context, _ worker.Run, path string) (trainer.State, error) {
			return c.store.load(ctx, path)
		},
		Write: func(ctx context.Context, _ worker.Run, s trainer.State, digest string) (string, string, error) {
			return c.store.write(ctx, s, digest)
		},
		Score: func(_ context.Context, _ worker.Run, _ int, _ data.Header, rows []float32, _ int) (map[string]float64, error) {
			return map[string]float64{"score": workertest.Score(rows)}, nil
		},
	}
	agent, err := worker.New(config)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &hand{name: name, agent: agent, conn: conn, cancel: cancel, done: make(chan struct{})}
	c.hands, c.all = append(c.hands, h), append(c.all, h)
	go func() {
		defer close(h.done)
		h.err = agent.Run(ctx)
		conn.Close()
	}()
	return h
}

// kill ends a worker's process in the middle of whatever it does. It does not wait for its goroutines.
func (c *cluster) kill(h *hand) {
	h.killed = true
	c.net.Kill(h.name)
	h.cancel()
}

// gone takes out the workers whose processes have ended, and notes what they said.
func (c *cluster) gone() {
	c.hands = slices.DeleteFunc(c.hands, func(h *hand) bool {
		select {
		case <-h.done:
		default:
			return h.killed
		}
		if !h.killed && h.err != nil && !strings.Contains(h.err.Error(), "load checkpoint") { // a store's faults end a worker
			c.fault("worker %s ended: %v", h.name, h.err)
		}
		return true
	})
}

// state returns the newest state of any coordinator that is up; nil = none is.
func (c *cluster) state() *fsm.State {
	var newest *fsm.State
	for _, s := range c.seats {
		if s.node == nil {
			continue
		}
		if state := s.node.State(); newest == nil || state.Entries > newest.Entries {
			newest = state
		}
	}
	return newest
}

// run returns the run as the newest state has it; nil = it is not submitted.
func (c *cluster) run() *fsm.Run {
	if s := c.state(); s != nil && len(s.Runs) > 0 {
		return s.Runs[0]
	}
	return nil
}

// over reports whether the run has ended.
func (c *cluster) over() bool {
	run := c.run()
	return run != nil && run.State.Over()
}

// close ends everything, and waits: a bubble's time stands still when its first goroutine has ended.
func (c *cluster) close() {
	for _, h := range c.hands {
		c.kill(h)
	}
	c.crash(false, c.seats...)
	for _, h := range c.all {
		<-h.done
	}
}

// store is a checkpoint store with faults.
type store struct {
	*workertest.Store
	mu      sync.Mutex
	rng     *rand.Rand
	failing float64       // of writes and loads
	slow    time.Duration // a write takes up to so long
	damaged map[string]bool
}

var errStore = errors.New("simulated fault of the store")

// strike decides what happens to a write or load.
func (s *store) strike() (wait time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slow > 0 {
		wait = time.Duration(s.rng.Int64N(int64(s.slow)))
	}
	if s.rng.Float64() < s.failing {
		err = errStore
	}
	return wait, err
}

// set changes the faults.
func (s *store) set(failing float64, slow time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing, s.slow = failing, slow
}

func (s *store) load(ctx context.Context, path string) (trainer.State, error) {
	wait, err := s.strike()
	if err := sleep(ctx, wait); err != nil || s == nil {
		return trainer.State{}, err
	}
	if err != nil {
		return trainer.State{}, err
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	state, ok := s.States[path]
	if !ok {
		return state, fmt.Errorf("no checkpoint %s", path)
	}
	return state, nil
}

func (s *store) write(ctx context.Context, state trainer.State, digest string) (path, manifest string, err error) {
	wait, err := s.strike()
	if err := sleep(ctx, wait); err != nil {
		return "", "", err
	}
	if err != nil {
		return "", "", err
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	path = fmt.Sprint("checkpoint-", state.Step)
	s.States[path] = state
	return path, "manifest of " + digest, nil
}

// damage makes a checkpoint unreadable.
func (s *store) damage(path string) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	delete(s.States, path)
	s.damaged[path] = true
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// journal keeps the newest log lines of everybody, with virtual times.
type journal struct {
	mu    sync.Mutex
	lines []string
}

const journalLines = 4000

func (j *journal) add(who, line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.lines) >= journalLines {
		j.lines = append(j.lines[:0], j.lines[journalLines/2:]...)
	}
	j.lines = append(j.lines, time.Now().Format("04:05.000 ")+who+": "+line)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "\n")
}

func (j *journal) logger(who string) *slog.Logger { return slog.New(&recorder{j: j, who: who}) }

// recorder is a slog.Handler into a journal.
type recorder struct {
	j     *journal
	who   string
	attrs string
}

func (*recorder) Enabled(_ context.Context, l slog.Level) bool { return l >= level }

func (r *recorder) Handle(_ context.Context, rec slog.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s%s", rec.Level, rec.Message, r.attrs)
	rec.Attrs(func(a slog.Attr) bool { fmt.Fprintf(&b, " %s=%v", a.Key, a.Value); return true })
	r.j.add(r.who, b.String())
	return nil
}

func (r *recorder) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *r
	for _, a := range attrs {
		n.attrs += fmt.Sprintf(" %s=%v", a.Key, a.Value)
	}
	return &n
}

func (r *recorder) WithGroup(string) slog.Handler { return r }
