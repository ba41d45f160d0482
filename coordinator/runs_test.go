package coordinator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// opener hosts toy runs: a run file is "NAME STEPS [LABEL]".
type opener struct {
	t      *testing.T
	mu     sync.Mutex
	open   map[string]int // by name
	broken map[string]bool
	slow   time.Duration
}

func (o *opener) host(ctx context.Context, file []byte) (*coordinator.Hosted, error) {
	var name, label string
	var steps int64
	if n, err := fmt.Sscan(string(file), &name, &steps, &label); n < 2 {
		return nil, fmt.Errorf("run file %q: %w", file, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken[name] {
		return nil, errors.New("data/pairs.jsonl: no such file")
	}
	select {
	case <-time.After(o.slow):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	o.open[name]++
	settings := fsm.Settings{CheckpointEvery: 3, Keep: 2}
	if label != "" {
		settings.Labels = []string{label}
	}
	return &coordinator.Hosted{
		Submission: coordinator.Submission{
			Name: name, Identity: hash(string(file)), Identify: []byte("{}"), Spec: []byte("{}"), Folder: "/" + name, Steps: steps, Settings: settings,
		},
		Feed: feed{"d1"}, Store: &store{},
		Close: func() error {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.open[name]--
			return nil
		},
	}, nil
}

// newHosting is a rig that only hosts.
func newHosting(t *testing.T) (*rig, *opener) {
	r := newRig(t, 1)
	o := &opener{t: t, open: map[string]int{}, broken: map[string]bool{}}
	r.o.Run, r.o.Feed, r.o.Suites, r.o.Store, r.o.Host = coordinator.Submission{}, nil, nil, nil, o.host
	t.Cleanup(func() {
		for name, n := range o.open {
			if n != 0 {
				t.Errorf("run %s was opened %d times more than closed", name, n)
			}
		}
	})
	return r, o
}

// user asks the coordinator as the command line does.
type user struct {
	t    *testing.T
	conn *bus.Conn
}

func (r *rig) user() *user {
	r.t.Helper()
	conn, err := bus.Connect(context.Background(), bus.Options{Server: r.node.Server(), Name: "user", FailureTimeout: failure, Log: r.o.Log})
	if err != nil {
		r.t.Fatal(err)
	}
	return &user{r.t.(*testing.T), conn}
}

func request[Reply any](u *user, subject string, q any) *Reply {
	u.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		reply, err := bus.Request[Reply](context.Background(), u.conn, subject, q)
		if err == nil {
			return reply
		}
		if time.Now().After(deadline) {
			u.t.Fatalf("%s %+v: %v", subject, q, err)
		}
	}
}

func (u *user) submit(key, file string, priority int) *wire.SubmitReply {
	u.t.Helper()
	for {
		if reply := request[wire.SubmitReply](u, wire.SubmitSubject, &wire.SubmitRequest{Key: key, File: []byte(file), Priority: priority}); !reply.Preparing {
			return reply
		}
	}
}

func (u *user) overview() *coordinator.Overview {
	u.t.Helper()
	var o coordinator.Overview
	if err := json.Unmarshal(request[wire.RunsReply](u, wire.RunsSubject, &wire.RunsRequest{}).JSON, &o); err != nil {
		u.t.Fatal(err)
	}
	return &o
}

func (u *user) run(id string) coordinator.RunSummary {
	u.t.Helper()
	for _, r := range u.overview().Runs {
		if r.ID == id {
			return r
		}
	}
	u.t.Fatalf("no run %s", id)
	return coordinator.RunSummary{}
}

func (u *user) control(run, action string, priority int) {
	u.t.Helper()
	if reply := request[wire.ControlReply](u, wire.ControlSubject, &wire.Control{Run: run, Action: action, Priority: priority}); reply.Err != "" || reply.Run != run {
		u.t.Fatalf("%s %s = %+v", action, run, reply)
	}
}

func (u *user) wait(id, state string) coordinator.RunSummary {
	u.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if r := u.run(id); r.State == state {
			return r
		} else if time.Now().After(deadline) {
			u.t.Fatalf("run %+v, want %s; all: %+v", r, state, u.overview())
		}
	}
}

// finished compares the ledger of a run with the undisturbed one.
func (r *rig) finished(id string, steps int64) {
	r.t.Helper()
	run, want := r.node.State().Run(id), reference(steps)
	if run == nil || run.State != fsm.Finished || run.Committed() != steps {
		r.t.Fatalf("run %s: %+v, want finished after %d steps", id, run, steps)
	}
	for step := range steps {
		if rec := run.Ledger.At(step); rec.Parameters != want[step+1] || rec.Shards != len(tokensOf(step)) {
			r.t.Errorf("run %s, step %d: parameters %s, want %s: every shard once", id, step, rec.Parameters, want[step+1])
		}
	}
}

// halt ends a coordinator that hosts.
func (r *rig) halt(u *user, workers ...*fake) {
	r.t.Helper()
	if u != nil {
		u.conn.Close()
	}
	r.cancel()
	if res := r.end(workers...); !errors.Is(res.err, context.Canceled) {
		r.t.Errorf("Run of a coordinator that hosts = %v, want the context's error", res.err)
	}
}

func TestSubmit(t *testing.T) {
	r, o := newHosting(t)
	o.broken["gone"] = true
	r.open()
	u := r.user()
	a := r.fleet.start("a") // idle: there is no run yet
	first := u.submit("k1", "one 6", 0)
	if first.Err != "" || first.Existing || !strings.HasPrefix(first.Run, "one-") {
		t.Fatalf("submit = %+v", first)
	}
	for _, again := range []*wire.SubmitReply{u.submit("k1", "one 6", 0), u.submit("another-key", "one 6", 0)} {
		if again.Run != first.Run || !again.Existing {
			t.Errorf("submitted again = %+v, want the same run", again)
		}
	}
	for file, want := range map[string]string{"gone 3": "data/pairs.jsonl: no such file", "nonsense": "run file", "one 7": "checkpoint.dir /one is that of run " + first.Run} {
		key := "k-" + hash(file)
		if reply := u.submit(key, file, 0); !strings.Contains(reply.Err, want) || reply.Run != "" {
			t.Errorf("submit %q = %+v, want an error with %q", file, reply, want)
		}
	}
	if reply := u.submit("bad key", "x 1", 0); !strings.Contains(reply.Err, `key "bad key"`) {
		t.Errorf("submit with a bad key = %+v", reply)
	}
	second := u.submit("k2", "two 5", 0)
	if s := u.run(second.Run); s.State != coordinator.StateQueued && s.State != string(fsm.Running) {
		t.Errorf("second run is %+v, want queued", s)
	}
	u.wait(second.Run, "finished")
	r.finished(first.Run, 6)
	r.finished(second.Run, 5)
	for _, id := range []string{first.Run, second.Run} {
		lines, err := os.ReadFile(filepath.Join(r.o.Dir, "runs", id, "events.jsonl"))
		if n := strings.Count(string(lines), `"kind":"step"`); err != nil || n < 5 || strings.Count(string(lines), `"run":"`+id) != strings.Count(string(lines), "\n") {
			t.Errorf("events of %s: %d steps, %v:\n%s", id, n, err, lines)
		}
	}
	status := request[wire.StatusReply](u, wire.StatusSubject, &wire.StatusRequest{Run: "two"})
	var s coordinator.Status
	if err := json.Unmarshal(status.JSON, &s); err != nil || s.Run != second.Run || s.State != "finished" {
		t.Errorf("status of two = %s, %v", status.JSON, err)
	}
	if bad := request[wire.StatusReply](u, wire.StatusSubject, &wire.StatusRequest{Run: "three"}); !strings.Contains(bad.Err, first.Run) {
		t.Errorf("status of three = %+v, want the runs that there are", bad)
	}
	r.halt(u, a)
}

// A higher priority takes the workers, a pause frees them, and both runs end as if alone.
func TestPriorityAndPause(t *testing.T) {
	r, _ := newHosting(t)
	r.open()
	u := r.user()
	a, b := r.fleet.start("a"), r.fleet.start("b")
	long := u.submit("k1", "long 60", 0).Run
	r.until(coordinator.StepCommitted, 5)
	urgent := u.submit("k2", "urgent 20", 3).Run
	u.wait(long, coordinator.StateQueued)
	at := u.run(long)
	if !strings.Contains(at.Reason, "urgent has 2") || at.Workers != 0 {
		t.Errorf("the other run is %+v, want one that waits for urgent's workers", at)
	}
	u.wait(urgent, "finished")
	steps := len(r.of(coordinator.StepCommitted))
	r.until(coordinator.StepCommitted, steps+3)
	u.control(long, wire.ActionPause, 0)
	u.wait(long, "paused")
	u.control(long, wire.ActionPause, 0) // again, to no effect
	for _, w := range u.overview().Workers {
		if w.Run != "" {
			t.Errorf("worker %s still works on %s, which is paused", w.Worker, w.Run)
		}
	}
	if run := r.node.State().Run(long); run.Manifest(run.Cursor) == nil {
		t.Errorf("paused at step %d without a checkpoint", run.Cursor)
	}
	third := u.submit("k3", "third 8", 0).Run
	u.wait(third, "finished")
	u.control(long, wire.ActionResume, 0)
	u.wait(long, "finished")
	for id, steps := range map[string]int64{long: 60, urgent: 20, third: 8} {
		r.finished(id, steps)
	}
	for _, e := range r.of(coordinator.StepCommitted) {
		if e.Replayed {
			t.Errorf("step %d of %s was executed again although a checkpoint was of it", e.Step, e.Run)
		}
	}
	cancelled := u.submit("k4", "fourth 1000", 0).Run
	r.until(coordinator.StepCommitted, len(r.of(coordinator.StepCommitted))+2)
	u.control(cancelled, wire.ActionCancel, 0)
	u.wait(cancelled, "cancelled")
	r.halt(u, a, b)
}

// Runs that ask for different workers work side by side.
func TestRunsSideBySide(t *testing.T) {
	r, _ := newHosting(t)
	r.open()
	u := r.user()
	one, two := u.submit("k1", "one 40 gpu=a", 0).Run, u.submit("k2", "two 40 gpu=b", 0).Run
	u.wait(one, coordinator.StateQueued)
	a, b, c := r.fleet.start("a", "gpu=a"), r.fleet.start("b", "gpu=b", "rack=1"), r.fleet.start("c", "gpu=b")
	u.wait(one, "running")
	u.wait(two, "running")
	c.kill()
	u.wait(one, "finished")
	u.wait(two, "finished")
	r.finished(one, 40)
	r.finished(two, 40)
	for _, e := range r.of(coordinator.WorkerJoined) {
		if strings.HasPrefix(e.Worker, "a-") != (e.Run == one) {
			t.Errorf("worker %s joined run %s", e.Worker, e.Run)
		}
	}
	r.halt(u, a, b)
}

// A coordinator that comes back hosts its runs again from the log.
func TestRunsOutliveTheCoordinator(t *testing.T) {
	r, o := newHosting(t)
	r.open()
	u := r.user()
	a, b := r.fleet.start("a", "gpu=a"), r.fleet.start("b")
	one, two := u.submit("k1", "one 50 gpu=a", 0).Run, u.submit("k2", "two 50", 0).Run
	r.until(coordinator.StepCommitted, 20)
	r.halt(u, a, b)
	o.broken["two"], o.slow = true, 30*time.Millisecond

	r.open()
	u = r.user()
	a, b = r.fleet.start("a", "gpu=a"), r.fleet.start("b")
	if s := u.wait(two, coordinator.StateNotHosted); !strings.Contains(s.Reason, "no such file") {
		t.Errorf("run whose data are gone is %+v, want why", s)
	}
	u.wait(one, "finished")
	o.mu.Lock()
	delete(o.broken, "two")
	o.mu.Unlock()
	u.wait(two, "finished") // it is tried again
	r.finished(one, 50)
	r.finished(two, 50)
	r.halt(u, a, b)
}
