package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/worker/workertest"
)

// office is a real coordinator and its workers in this process, over the embedded NATS server.
type office struct {
	t       testing.TB
	pause   time.Duration // per shard
	options coordinator.Options
	store   *workertest.Store
	node    *coordinator.Node
	done    chan error
	stop    context.CancelFunc
	people  []*person
	conns   map[*person]*bus.Conn
	change  []func(*toy) // of every worker
	adapt   func(*Config)
	dial    func(*bus.Options) // how workers connect; nil = in this process

	mu     sync.Mutex
	events []coordinator.Event
}

const officeTimeout = 500 * time.Millisecond

func newOffice(t testing.TB, steps int64) *office {
	o := &office{t: t, pause: time.Millisecond, store: workertest.NewStore(), conns: map[*person]*bus.Conn{}}
	o.options = coordinator.Options{
		Dir: t.TempDir(), Cluster: coordinator.Config{FailureTimeout: officeTimeout}, Feed: toyFeed{}, Suites: workertest.Suites{},
		Store: o.store, Log: testLog(), Version: "test", Alone: true,
		Run: coordinator.Submission{
			Name: "toy", Identity: "abcdef0123", Identify: []byte("{}"), Spec: []byte("{}"), Folder: t.TempDir(), Steps: steps,
			Settings: fsm.Settings{CheckpointEvery: 5, Keep: 2, Best: "score", EvaluateEvery: 6},
		},
		Events: func(e coordinator.Event) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.events = append(o.events, e)
		},
	}
	t.Cleanup(o.close)
	return o
}

func (o *office) open() {
	node, err := coordinator.Open(o.options)
	if err != nil {
		o.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	o.node, o.stop, o.done = node, cancel, done
	go func() {
		out, err := node.Run(ctx)
		if err == nil && out.State != fsm.Finished {
			err = fmt.Errorf("run is %s after %d steps: %s", out.State, out.Step, out.Reason)
		}
		done <- err
	}()
}

// close ends workers first, then the coordinator.
func (o *office) close() {
	for _, p := range o.people {
		o.fire(p)
	}
	o.people = nil
	if o.node != nil {
		o.stop()
		<-o.done
		if err := o.node.Close(); err != nil {
			o.t.Error(err)
		}
		o.node = nil
	}
}

// hire starts a worker with a connection of its own.
func (o *office) hire(name string, change ...func(*toy)) *person {
	connection := freshID(name)
	to := bus.Options{Server: o.node.Server(), Name: connection, FailureTimeout: officeTimeout, Log: testLog()}
	if o.dial != nil {
		o.dial(&to)
	}
	conn, err := bus.Connect(o.t.Context(), to)
	if err != nil {
		o.t.Fatal(err)
	}
	config := Config{
		Name: name, Connection: connection, Numerics: "toy", Cache: o.t.TempDir(), Log: testLog(), Link: NewLink(conn), OneRun: true,
		Build: func(context.Context, Run) (Trainer, error) {
			tr := newToy()
			tr.Pause = o.pause
			for _, f := range slices.Concat(o.change, change) {
				f(tr)
			}
			return tr, nil
		},
		Load: func(_ context.Context, _ Run, path string) (trainer.State, error) {
			o.store.Mu.Lock()
			defer o.store.Mu.Unlock()
			s, ok := o.store.States[path]
			if !ok {
				return s, errors.New("not there")
			}
			return s, nil
		},
		Write: func(_ context.Context, _ Run, s trainer.State, _ string) (string, string, error) {
			o.store.Mu.Lock()
			defer o.store.Mu.Unlock()
			path := fmt.Sprint("checkpoint-", s.Step)
			o.store.States[path] = s
			return path, "digest", nil
		},
		Score: func(_ context.Context, _ Run, _ int, _ data.Header, rows []float32, _ int) (map[string]float64, error) {
			return map[string]float64{"score": score(rows)}, nil
		},
	}
	if o.adapt != nil {
		o.adapt(&config)
	}
	agent, err := New(config)
	if err != nil {
		o.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &person{agent: agent, cancel: cancel, done: make(chan error, 1)}
	o.people = append(o.people, p)
	o.conns[p] = conn
	go func() { p.done <- agent.Run(ctx) }()
	return p
}

// fire cuts a worker's connection in the middle of whatever it does, and ends it.
func (o *office) fire(p *person) {
	o.conns[p].Close()
	p.cancel()
	<-p.done
}

// steps returns how many steps are committed.
func (o *office) steps() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, e := range o.events {
		if e.Kind == coordinator.StepCommitted {
			n++
		}
	}
	return n
}

// check waits for the end and compares the ledger with the undisturbed run.
func (o *office) check() {
	o.t.Helper()
	select {
	case err := <-o.done:
		o.done <- err
		if err != nil {
			o.t.Fatal(err)
		}
	case <-time.After(45 * time.Second):
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, e := range o.events {
			o.t.Logf("%v %v step %d %s %s", e.Time.Format("05.000"), e.Kind, e.Step, e.Worker, e.Reason)
		}
		o.t.Fatal("no end after 45 s")
	}
	run := o.node.State().Runs[0]
	want, scores := alone(o.t, o.options.Run.Steps, o.change...)
	if got := run.Ledger.Len(); got != int64(len(want)) {
		o.t.Fatalf("%d steps committed, want %d", got, len(want))
	}
	for i, w := range want {
		if got := run.Ledger.At(int64(i)); got.Parameters != w.Parameters || got.Gradient != w.Gradient || got.Loss != w.Loss {
			o.t.Fatalf("step %d: committed %+v, undisturbed %+v", i, got, w)
		}
	}
	for _, e := range run.Evaluations {
		if e.Metrics["score"] != scores[e.Step] {
			o.t.Errorf("score after %d steps = %v, want %v", e.Step, e.Metrics["score"], scores[e.Step])
		}
	}
	if len(run.Evaluations) == 0 || len(run.Manifests) == 0 {
		o.t.Errorf("%d evaluations and %d checkpoints, want some", len(run.Evaluations), len(run.Manifests))
	}
}

func TestNodeAnyNumberOfWorkers(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprint("W=", workers), func(t *testing.T) {
			leaks(t)
			o := newOffice(t, 14)
			o.open()
			for i := range workers {
				o.hire(fmt.Sprint("w", i))
			}
			o.check()
		})
	}
}

func TestNodeDeathAndLateJoin(t *testing.T) {
	leaks(t)
	o := newOffice(t, 60)
	o.open()
	for i := range 3 {
		o.hire(fmt.Sprint("w", i))
	}
	waitFor(t, func() bool { return o.steps() > 8 })
	o.fire(o.people[0])
	o.people = o.people[1:]
	o.hire("late")
	waitFor(t, func() bool { return o.steps() > 20 })
	o.people[0].agent.Drain("test")
	o.check()
	joined := false
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.events {
		joined = joined || e.Kind == coordinator.WorkerReady && len(e.Worker) > 4 && e.Worker[:4] == "late"
	}
	if !joined {
		t.Error("the late worker never became a full member")
	}
}

// Random deaths, joins, drains and stops of everything, the coordinator included: the ledger is the undisturbed one.
// Half of the runs have a language objective, and half of the steps a value beyond its bound.
func TestNodeChaos(t *testing.T) {
	for _, language := range []bool{false, true} {
		t.Run(fmt.Sprint("language=", language), func(t *testing.T) {
			leaks(t)
			seed := seeded(t)
			r := rand.New(rand.NewPCG(seed, 4))
			o := newOffice(t, 120)
			o.options.Feed = toyFeed{Language: language}
			o.change = append(o.change, func(t *toy) { t.Erratic, t.Language = 2, language })
			o.open()
			ended := func(within time.Duration) bool {
				select {
				case err := <-o.done:
					o.done <- err
					return true
				case <-time.After(within):
					return false
				}
			}
			for n := 0; n < 60 && !ended(time.Duration(r.IntN(80))*time.Millisecond); n++ {
				who := 0
				if len(o.people) > 0 {
					who = r.IntN(len(o.people))
				}
				switch what := r.IntN(12); {
				case what == 0: // everything
					o.close()
					o.open()
				case what <= 3 && len(o.people) > 0: // one dies
					p := o.people[who]
					o.people = slices.Delete(o.people, who, who+1)
					o.fire(p)
				case what == 4 && len(o.people) > 1: // one drains
					p := o.people[who]
					o.people = slices.Delete(o.people, who, who+1)
					p.agent.Drain("test")
					if err := <-p.done; err != nil {
						t.Errorf("Run after Drain = %v, want nil", err)
					}
					o.conns[p].Close()
				}
				for len(o.people) < 2 || len(o.people) < 5 && r.IntN(3) == 0 {
					o.hire(fmt.Sprint("w", n))
				}
			}
			o.check()
		})
	}
}

// One of three workers computes an update wrong: it is put into quarantine, and nothing of it stays.
func TestNodeQuarantinesTheOddOneOut(t *testing.T) {
	leaks(t)
	o := newOffice(t, 20)
	o.open()
	o.hire("good-1")
	o.hire("good-2")
	odd := o.hire("odd", func(t *toy) { t.Corrupt = 9 })
	waitFor(t, func() bool { return o.steps() > 2 })
	o.check()
	err := <-odd.done
	odd.done <- err
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "quarantine") {
		t.Errorf("Run of the odd one = %v, want a refusal that says quarantine", err)
	}
}
