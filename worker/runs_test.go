package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/worker/workertest"
)

// newBureau is an office that hosts what is submitted: a run file is "NAME STEPS".
func newBureau(t *testing.T) *office {
	o := newOffice(t, 1)
	o.options.Run, o.options.Feed, o.options.Suites, o.options.Store = coordinator.Submission{}, nil, nil, nil
	o.options.Host = func(_ context.Context, file []byte) (*coordinator.Hosted, error) {
		var name string
		var steps int64
		if _, err := fmt.Sscan(string(file), &name, &steps); err != nil {
			return nil, err
		}
		return &coordinator.Hosted{
			Submission: coordinator.Submission{
				Name: name, Identity: "identity-" + string(file), Identify: []byte("{}"), Spec: []byte(name), Folder: "/" + name, Steps: steps,
				Settings: fsm.Settings{CheckpointEvery: 7, Keep: 2},
			},
			Feed: toyFeed{}, Suites: workertest.Suites{}, Store: o.store,
		}, nil
	}
	o.adapt = func(c *Config) {
		c.OneRun = false
		c.Write = func(ctx context.Context, run Run, s trainer.State, digest string) (string, string, error) {
			o.store.Mu.Lock()
			defer o.store.Mu.Unlock()
			path := fmt.Sprintf("%s-checkpoint-%d", run.Name, s.Step)
			o.store.States[path] = s
			return path, "digest", nil
		}
	}
	return o
}

// clerk asks a bureau as the command line does.
type clerk struct {
	t    *testing.T
	conn *bus.Conn
}

func (o *office) clerk(t *testing.T) *clerk {
	conn, err := bus.Connect(t.Context(), bus.Options{Server: o.node.Server(), Name: "clerk", FailureTimeout: officeTimeout, Log: testLog()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return &clerk{t, conn}
}

func (c *clerk) submit(file string, priority int) string {
	c.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		r, err := bus.Request[wire.SubmitReply](c.t.Context(), c.conn, wire.SubmitSubject, &wire.SubmitRequest{Key: freshID("k"), File: []byte(file), Priority: priority})
		switch {
		case err == nil && r.Err == "" && !r.Preparing:
			return r.Run
		case err == nil && r.Err != "":
			c.t.Fatal(r.Err)
		case time.Now().After(deadline):
			c.t.Fatal(err)
		}
	}
}

func (c *clerk) control(run, action string) {
	c.t.Helper()
	r, err := bus.Request[wire.ControlReply](c.t.Context(), c.conn, wire.ControlSubject, &wire.Control{Run: run, Action: action})
	if err != nil || r.Err != "" {
		c.t.Fatalf("%s %s = %+v, %v", action, run, r, err)
	}
}

func (c *clerk) state(id string) coordinator.RunSummary {
	c.t.Helper()
	r, err := bus.Request[wire.RunsReply](c.t.Context(), c.conn, wire.RunsSubject, &wire.RunsRequest{})
	var o coordinator.Overview
	if err == nil {
		err = json.Unmarshal(r.JSON, &o)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	for _, s := range o.Runs {
		if s.ID == id {
			return s
		}
	}
	c.t.Fatalf("no run %s among %+v", id, o.Runs)
	return coordinator.RunSummary{}
}

// equals compares a finished run with the undisturbed one.
func (o *office) equals(t *testing.T, id string, steps int64) {
	t.Helper()
	run := o.node.State().Run(id)
	want, _ := alone(t, steps)
	if run == nil || run.State != fsm.Finished || run.Ledger.Len() != int64(len(want)) {
		t.Fatalf("run %s: %+v, want finished after %d steps", id, run, len(want))
	}
	for i, w := range want {
		if got := run.Ledger.At(int64(i)); got.Parameters != w.Parameters || got.Gradient != w.Gradient || got.Loss != w.Loss {
			t.Fatalf("run %s, step %d: committed %+v, alone %+v", id, i, got, w)
		}
	}
}

// finish ends a bureau.
func (o *office) finish(t *testing.T) {
	for _, p := range o.people {
		p.agent.Drain("test")
		if err := <-p.done; err != nil {
			t.Errorf("Run after Drain = %v, want nil", err)
		}
		p.done <- nil
	}
	o.stop()
	if err := <-o.done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run of a coordinator that hosts = %v", err)
	}
	o.done <- nil
}

// Two runs on two workers, one of which takes both from the other, a pause and its end: both have the digests that they
// have alone, and workers that come back with a run's parameters load nothing.
func TestNodeRunsTakeTurns(t *testing.T) {
	leaks(t)
	o := newBureau(t)
	loads := make(chan int64, 100)
	adapt := o.adapt
	o.adapt = func(c *Config) {
		adapt(c)
		load := c.Load
		c.Load = func(ctx context.Context, run Run, path string) (trainer.State, error) {
			s, err := load(ctx, run, path)
			loads <- s.Step
			return s, err
		}
	}
	o.open()
	c := o.clerk(t)
	o.hire("w0") // idle at first
	o.hire("w1")
	long := c.submit("long 60", 0)
	waitFor(t, func() bool { return o.steps() > 5 })
	short := c.submit("short 12", 2)
	waitFor(t, func() bool { return c.state(short).State == "finished" })
	n := o.steps()
	waitFor(t, func() bool { return o.steps() > n+4 })
	c.control(long, wire.ActionPause)
	waitFor(t, func() bool { return c.state(long).State == "paused" })
	third := c.submit("third 9", 0)
	waitFor(t, func() bool { return c.state(third).State == "finished" })
	c.control(long, wire.ActionResume)
	waitFor(t, func() bool { return c.state(long).State == "finished" })
	o.equals(t, long, 60)
	o.equals(t, short, 12)
	o.equals(t, third, 9)
	if len(loads) > 2 { // the first pause may find one worker between two steps
		t.Errorf("%d checkpoints were loaded although the workers had kept the parameters", len(loads))
	}
	o.finish(t)
}

// Two agents of one process may work on two runs at once.
func TestNodeRunsSideBySide(t *testing.T) {
	leaks(t)
	o := newBureau(t)
	host := o.options.Host
	o.options.Host = func(ctx context.Context, file []byte) (*coordinator.Hosted, error) {
		h, err := host(ctx, file)
		if err == nil {
			h.Settings.WorkersMax = 1
		}
		return h, err
	}
	o.open()
	c := o.clerk(t)
	one, two := c.submit("one 40", 0), c.submit("two 40", 0)
	o.hire("w-0")
	o.hire("w-1")
	waitFor(t, func() bool { return c.state(one).Workers == 1 && c.state(two).Workers == 1 })
	waitFor(t, func() bool { return c.state(one).State == "finished" && c.state(two).State == "finished" })
	o.equals(t, one, 40)
	o.equals(t, two, 40)
	o.finish(t)
}
