package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer"
)

// person is one worker of a test.
type person struct {
	agent  *Agent
	link   *memLink
	cancel context.CancelFunc
	done   chan error
}

// hire starts a worker.
func (l *leader) hire(t testing.TB, name string, change ...func(*Config, *toy)) *person {
	k := &memLink{l: l, rounds: make(chan *wire.Round, 1024), rows: make(chan *wire.Rows, 4096)}
	config := Config{
		Name: name, Link: k, OneRun: true, Numerics: "toy", Cache: t.TempDir(), Log: testLog(),
		Load: func(_ context.Context, _ Run, path string) (trainer.State, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			s, ok := l.states[path]
			if !ok {
				return s, fmt.Errorf("no checkpoint %s", path)
			}
			return s, nil
		},
		Write: func(_ context.Context, _ Run, s trainer.State, _ string) (string, string, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			path := fmt.Sprint("checkpoint-", s.Step)
			l.states[path] = s
			return path, "digest", nil
		},
		Score: func(_ context.Context, _ Run, _ int, _ data.Header, rows []float32, _ int) (map[string]float64, error) {
			return map[string]float64{"score": score(rows)}, nil
		},
	}
	config.Build = func(context.Context, Run) (Trainer, error) {
		tr := newToy()
		for _, f := range change {
			f(&config, tr)
		}
		return tr, nil
	}
	for _, f := range change {
		f(&config, newToy())
	}
	agent, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &person{agent: agent, link: k, cancel: cancel, done: make(chan error, 1)}
	go func() { p.done <- agent.Run(ctx) }()
	return p
}

func testLog() *slog.Logger {
	if os.Getenv("WORKER_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// kill cuts a worker off in the middle of whatever it does; the leader notices after a while.
func (l *leader) kill(p *person, after time.Duration) {
	l.mu.Lock()
	p.link.dead = true
	l.mu.Unlock()
	p.cancel()
	<-p.done
	time.Sleep(after)
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, k := range l.links {
		if k == p.link {
			l.expire(id)
		}
	}
}

// hang makes the leader expire a worker that lives on: it joins again under another id.
func (l *leader) hang(p *person) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, k := range l.links {
		if k == p.link {
			l.expire(id)
		}
	}
}

// finish waits for the end of the run and compares every step with the undisturbed one.
func (l *leader) finish(t *testing.T, people []*person, within time.Duration) {
	t.Helper()
	select {
	case <-l.done:
	case <-time.After(within):
		l.mu.Lock()
		r := l.round
		events := strings.Join(l.events, "\n")
		l.mu.Unlock()
		buf := make([]byte, 1<<20)
		t.Fatalf("no end after %v, at round %+v\nmembers %+v\n%s\n%s", within, r, r.Members, events, buf[:runtime.Stack(buf, true)])
	}
	for _, p := range people {
		select {
		case err := <-p.done:
			if err != nil {
				t.Errorf("Run of %s = %v, want nil", p.agent.Name, err)
			}
		case <-time.After(10 * time.Second):
			buf := make([]byte, 1<<20)
			t.Fatalf("Run of %s goes on after the end of the run\n%s", p.agent.Name, buf[:runtime.Stack(buf, true)])
		}
	}
	want, scores := alone(t, l.steps)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.commits) != len(want) {
		t.Fatalf("%d steps committed, want %d", len(l.commits), len(want))
	}
	for i, a := range l.commits {
		if a.Parameters != want[i].Parameters || a.Gradient != want[i].Gradient {
			t.Fatalf("step %d: committed parameters %s, gradient %s, undisturbed %s, %s", i, a.Parameters, a.Gradient, want[i].Parameters, want[i].Gradient)
		}
	}
	for step, got := range l.scores {
		if got != scores[step] {
			t.Errorf("score after %d steps = %v, want %v", step, got, scores[step])
		}
	}
	if l.eval > 0 && len(l.scores) != int(l.steps/l.eval)+1 {
		t.Errorf("scores of %d evaluations, want %d", len(l.scores), l.steps/l.eval+1)
	}
}

func seeded(t testing.TB) uint64 {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return seed
}

// leaks fails the test when goroutines are left at its end.
func leaks(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for range 100 {
			if runtime.NumGoroutine() <= before {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines left, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
	})
}

func TestAnyNumberOfWorkers(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprint("W=", workers), func(t *testing.T) {
			leaks(t)
			l := newLeader(t, 8, seeded(t), 0)
			l.save, l.eval = 3, 4
			var people []*person
			for i := range workers {
				people = append(people, l.hire(t, fmt.Sprint("w", i)))
			}
			l.finish(t, people, 30*time.Second)
		})
	}
}

func TestLostRepeatedMessages(t *testing.T) {
	leaks(t)
	l := newLeader(t, 10, seeded(t), 0.15)
	l.save, l.eval = 4, 5
	var people []*person
	for i := range 3 {
		people = append(people, l.hire(t, fmt.Sprint("w", i)))
	}
	l.finish(t, people, 60*time.Second)
}

// Workers die in the middle of anything, hang, come late; everybody may be lost at once.
func TestDeathsAndJoins(t *testing.T) {
	runs := 4
	if testing.Short() {
		runs = 1
	}
	for i := range runs {
		t.Run(fmt.Sprint("run ", i), func(t *testing.T) {
			leaks(t)
			seed := seeded(t)
			l := newLeader(t, 40, seed, 0.03)
			l.save, l.eval = 6, 10
			var people []*person
			for i := range 3 {
				people = append(people, l.hire(t, fmt.Sprint("w", i), slow))
			}
			for n := 3; ; n++ {
				l.mu.Lock()
				what, who, wait := l.rng.IntN(7), l.rng.IntN(len(people)), time.Duration(l.rng.IntN(60))*time.Millisecond
				l.mu.Unlock()
				select {
				case <-l.done:
				case <-time.After(wait):
				}
				select {
				case <-l.done:
					what = -1
				default:
				}
				if what < 0 {
					break
				}
				switch {
				case n > 40: // enough; let it end
					what = -1
				case what == 0: // everybody
					for _, p := range people {
						l.kill(p, 0)
					}
					people = nil
				case what <= 2:
					l.kill(people[who], wait/4)
					people = append(people[:who], people[who+1:]...)
				case what == 3:
					l.hang(people[who])
				}
				if what < 0 {
					break
				}
				for len(people) < 2 || what == 4 && len(people) < 5 {
					people = append(people, l.hire(t, fmt.Sprint("w", n, "-", len(people)), slow))
				}
			}
			l.finish(t, people, 60*time.Second)
		})
	}
}

func slow(_ *Config, t *toy) { t.Pause = 500 * time.Microsecond }

// Rows that were never delivered are asked for.
func TestRowsAreAskedFor(t *testing.T) {
	leaks(t)
	l := newLeader(t, 60, seeded(t), 0)
	l.drop["rows"] = true
	people := []*person{l.hire(t, "a", slow), l.hire(t, "b", slow)}
	l.finish(t, people, 30*time.Second)
}

// A worker dies and its rows are with nobody: the survivor tells so, and embeds the shards again.
func TestRowsLostWithTheirWorker(t *testing.T) {
	leaks(t)
	l := newLeader(t, 200, seeded(t), 0)
	people := []*person{l.hire(t, "a", slow), l.hire(t, "b", slow)}
	waitFor(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.full()) == 2 && len(l.commits) > 3
	})
	l.mu.Lock()
	l.drop["rows"], l.drop["send"] = true, true
	l.mu.Unlock()
	at, since := int64(-1), time.Now()
	waitFor(t, func() bool { // each has embedded something, and nothing moves: they lack each other's rows
		l.mu.Lock()
		defer l.mu.Unlock()
		by := map[string]bool{}
		for _, w := range l.embedded {
			by[w] = true
		}
		if at != l.round.Number || len(by) != 2 || by[""] {
			at, since = l.round.Number, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond
	})
	l.kill(people[0], 0)
	l.finish(t, people[1:], 30*time.Second)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !strings.Contains(strings.Join(l.events, "\n"), "are lost") {
		t.Errorf("events %v: want that rows were lost", l.events)
	}
}

func TestDrain(t *testing.T) {
	leaks(t)
	l := newLeader(t, 200, seeded(t), 0)
	people := []*person{l.hire(t, "stays", slow), l.hire(t, "leaves", slow)}
	waitFor(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.full()) == 2 && len(l.commits) > 3
	})
	people[1].agent.Drain("test")
	began := time.Now()
	if err := <-people[1].done; err != nil {
		t.Errorf("Run after Drain = %v, want nil", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("drained in %v, want less than 3 s", took)
	}
	l.finish(t, people[:1], 30*time.Second)
}

func TestRefused(t *testing.T) {
	leaks(t)
	l := newLeader(t, 1, seeded(t), 0)
	p := l.hire(t, "odd", func(c *Config, _ *toy) { c.Numerics = "other" })
	var refused *RefusedError
	if err := <-p.done; !errors.As(err, &refused) || !strings.Contains(err.Error(), `numerics "other"`) {
		t.Errorf("Run = %v, want the refusal in the coordinator's words", err)
	}
}

func TestNonFiniteStopsTheRun(t *testing.T) {
	for _, forgotten := range []bool{false, true} { // the leader that heard of it dies
		t.Run(fmt.Sprint("forgotten=", forgotten), func(t *testing.T) { nonFinite(t, forgotten) })
	}
}

func nonFinite(t *testing.T, forgotten bool) {
	leaks(t)
	l := newLeader(t, 8, seeded(t), 0)
	if forgotten {
		l.drop["the first confession"] = true
	}
	var people []*person
	for i := range 2 {
		people = append(people, l.hire(t, fmt.Sprint("w", i), func(_ *Config, t *toy) { t.Broken = 5 }))
	}
	for _, p := range people {
		select {
		case err := <-p.done:
			if err != nil {
				t.Errorf("Run = %v, want nil: the run's end is not the worker's fault", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the worker works on after 10 s")
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.round.State != wire.Failed || len(l.commits) != 5 {
		t.Errorf("run is %s after %d commits, want failed after 5", l.round.State, len(l.commits))
	}
}

func TestFailedCheckpointDoesNotStopTraining(t *testing.T) {
	leaks(t)
	l := newLeader(t, 40, seeded(t), 0) // the run's end does not wait for the last one
	l.save = 4
	var once sync.Once
	p := l.hire(t, "w", func(c *Config, _ *toy) {
		write := c.Write
		c.Write = func(ctx context.Context, run Run, s trainer.State, digest string) (path, manifest string, err error) {
			once.Do(func() { err = errors.New("no space left on device") })
			if err != nil {
				return "", "", err
			}
			return write(ctx, run, s, digest)
		}
	})
	l.finish(t, []*person{p}, 30*time.Second)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.saved < 0 || !strings.Contains(strings.Join(l.events, "\n"), "no space left") {
		t.Errorf("saved step %d, events %v: want a failure told and a later checkpoint", l.saved, l.events)
	}
}

// A leader that asks for a checkpoint again, though it was told of it, is told again.
func TestSavedIsToldAgain(t *testing.T) {
	leaks(t)
	l := newLeader(t, 5, seeded(t), 0)
	l.save = 3
	l.drop["the first save"] = true
	l.finish(t, []*person{l.hire(t, "w")}, 10*time.Second)
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	buf := make([]byte, 1<<20)
	t.Fatalf("waited 10 s in vain\n%s", buf[:runtime.Stack(buf, true)])
}
