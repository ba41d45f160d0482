package coordinator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/consensus"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
	"github.com/counterpoint-ml/counterpoint/data"
)

// tokensOf is the shards of a step of the fake feed.
func tokensOf(step int64) []int32 {
	out := make([]int32, 4+step%5)
	for i := range out {
		out[i] = int32(20 - i)
	}
	return out
}

type feed struct{ digest string }

func (f feed) Digest() string { return f.digest }

func (f feed) Header(step int64) (data.Header, error) {
	return data.Header{Step: step, Queries: 2, Slots: 4, Tokens: tokensOf(step)}, nil
}

func (f feed) Shards(step int64, indices []int) ([]data.Shard, error) {
	var out []data.Shard
	for _, i := range indices {
		out = append(out, data.Shard{Index: i, Texts: []data.Text{{Row: step*100 + int64(i), Tokens: make([]int32, tokensOf(step)[i])}}})
	}
	return out, nil
}

type suites struct{}

func (suites) Names() []string { return []string{"dev"} }

func (suites) Header(int) (data.Header, error) {
	return data.Header{Slots: 6, Tokens: []int32{5, 5, 5}}, nil
}

func (suites) Shards(_ int, indices []int) ([]data.Shard, error) {
	return make([]data.Shard, len(indices)), nil
}
func (suites) Describe(int) ([]byte, error) { return []byte(`{"queries":["q1"]}`), nil }

type store struct {
	mu      sync.Mutex
	bad     map[string]bool
	removed []string
}

func (s *store) Verify(path, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad[path] {
		return errors.New("model.safetensors: checksum differs")
	}
	return nil
}

func (s *store) Remove(path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removed = append(s.removed, path)
	return nil
}

// rig is a node, its fleet and what was told of them.
type rig struct {
	t      testing.TB
	o      coordinator.Options
	node   *coordinator.Node
	fleet  *fleet
	done   chan result
	cancel context.CancelFunc

	mu     sync.Mutex
	events []coordinator.Event
	news   chan struct{}
}

type result struct {
	outcome coordinator.Outcome
	err     error
}

const failure = 400 * time.Millisecond

func newRig(t testing.TB, steps int64) *rig {
	r := &rig{t: t, news: make(chan struct{}, 1)}
	r.o = coordinator.Options{
		Dir: t.TempDir(), Cluster: coordinator.Config{FailureTimeout: failure}, Feed: feed{"d1"}, Suites: suites{}, Store: &store{},
		Log: slog.New(slog.DiscardHandler), Version: "test", Alone: true, Events: r.event,
		Run: coordinator.Submission{
			Name: "test run", Identity: "abcdef0123", Identify: []byte(`{"train":{"steps":8,"seed":1}}`), Spec: []byte("{}"), Folder: t.TempDir(), Model: t.TempDir(),
			Steps: steps, Settings: fsm.Settings{CheckpointEvery: 3, Keep: 2, Best: "ndcg@10", EvaluateEvery: 4},
		},
	}
	return r
}

func (r *rig) event(e coordinator.Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
	select {
	case r.news <- struct{}{}:
	default:
	}
}

func (r *rig) open() {
	r.t.Helper()
	node, err := coordinator.Open(r.o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.node = node
	old := r.fleet
	r.fleet = newFleet(r.t, node.Server(), failure, 1)
	if old != nil {
		r.fleet.saved = old.saved
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.done = make(chan result, 1)
	go func() {
		outcome, err := node.Run(ctx)
		r.done <- result{outcome, err}
	}()
}

// end waits for Run and closes everything.
func (r *rig) end(workers ...*fake) result {
	r.t.Helper()
	var res result
	select {
	case res = <-r.done:
	case <-time.After(60 * time.Second):
		buf := make([]byte, 1<<16)
		s := r.node.State()
		b, _ := json.Marshal(s.Runs[0].Round)
		r.t.Fatalf("the run does not end: %s\nmembers %+v\nevents %+v\n%s", b, s.Members, r.last(5), buf[:runtime.Stack(buf, true)])
	}
	for _, w := range workers {
		w.kill()
	}
	r.fleet.stopped.Wait()
	if err := r.node.Close(); err != nil {
		r.t.Error(err)
	}
	return res
}

func (r *rig) last(n int) []coordinator.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events[max(0, len(r.events)-n):]
}

func (r *rig) of(kind string) (out []coordinator.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

// until waits until so many events of a kind were told.
func (r *rig) until(kind string, n int) {
	r.t.Helper()
	for deadline := time.After(30 * time.Second); len(r.of(kind)) < n; {
		select {
		case <-r.news:
		case <-deadline:
			r.t.Fatalf("%d events %q after 30s, want %d; newest: %+v", len(r.of(kind)), kind, n, r.last(5))
		}
	}
}

// check compares the ledger with the undisturbed run.
func (r *rig) check(res result, steps int64) {
	r.t.Helper()
	if res.err != nil || res.outcome.State != fsm.Finished || res.outcome.Step != steps {
		r.t.Fatalf("Run = %+v, %v; want finished after %d steps", res.outcome, res.err, steps)
	}
	run, want := r.node.State().Runs[0], reference(steps)
	for step := range steps {
		rec := run.Ledger.At(step)
		if rec.Parameters != want[step+1] || rec.Shards != len(tokensOf(step)) {
			r.t.Errorf("step %d: parameters %s, want %s: every shard once", step, rec.Parameters, want[step+1])
		}
	}
}

func TestRunToTheEnd(t *testing.T) {
	for n := 1; n <= 3; n++ {
		t.Run(fmt.Sprintf("workers %d", n), func(t *testing.T) {
			r := newRig(t, 8)
			r.open()
			r.fleet.twice, r.fleet.overAt = true, 5
			var workers []*fake
			for i := range n {
				workers = append(workers, r.fleet.start(fmt.Sprint("w", i)))
			}
			res := r.end(workers...)
			r.check(res, 8)
			run := r.node.State().Runs[0]
			if got := len(run.Evaluations); got != 2 {
				t.Errorf("%d evaluations, want those of steps 4 and 8", got)
			}
			if run.Manifest(8) == nil || len(run.Manifests) > 3 {
				t.Errorf("checkpoints %+v, want the last step's, and at most 3", run.Manifests)
			}
			if rec := run.Ledger.At(5); rec.Attempt != 1 {
				t.Errorf("step 5 was committed in attempt %d, want 1", rec.Attempt)
			}
			if got := len(r.of(coordinator.StepCommitted)); got != 8 {
				t.Errorf("%d step events, want 8", got)
			}
			lines, err := os.ReadFile(filepath.Join(r.o.Dir, "events.jsonl"))
			if err != nil || strings.Count(string(lines), "\n") != len(r.last(1<<20)) {
				t.Errorf("events.jsonl has %d lines, %v; want %d", strings.Count(string(lines), "\n"), err, len(r.last(1<<20)))
			}
		})
	}
}

func TestWorkersDieHangAndJoin(t *testing.T) {
	r := newRig(t, 40)
	r.open()
	r.fleet.twice = true
	a, b, c := r.fleet.start("a"), r.fleet.start("b"), r.fleet.start("c")
	r.until(coordinator.StepCommitted, 5)
	killed := time.Now()
	b.kill()
	r.until(coordinator.WorkerLost, 1)
	t.Logf("loss known after %v", time.Since(killed))
	if d := time.Since(killed); d > 300*time.Millisecond {
		t.Errorf("the dead worker was known after %v, want at most 200ms and the scheduler's delay", d)
	}
	r.until(coordinator.StepCommitted, 10)
	d := r.fleet.start("d")
	r.until(coordinator.WorkerReady, 4)
	c.hang(true)
	r.until(coordinator.WorkerLost, 2)
	c.hang(false)
	res := r.end(a, c, d)
	r.check(res, 40)
	for _, e := range r.of(coordinator.Recovered) {
		t.Logf("recovery %+v", *e.Recovery)
		if e.Recovery.Commit.Before(e.Recovery.Detected) {
			t.Errorf("recovery %+v ends before it begins", e.Recovery)
		}
	}
}

func TestStopAndResume(t *testing.T) {
	r := newRig(t, 30)
	r.open()
	a, b := r.fleet.start("a"), r.fleet.start("b")
	r.until(coordinator.StepCommitted, 4)
	r.node.Stop("interrupted")
	res := r.end(a, b)
	if res.err != nil || res.outcome.State != fsm.Paused || res.outcome.Reason != "interrupted" {
		t.Fatalf("Run = %+v, %v; want paused: interrupted", res.outcome, res.err)
	}
	if run := r.node.State().Runs[0]; run.Manifest(res.outcome.Step) == nil {
		t.Errorf("no checkpoint of step %d", res.outcome.Step)
	}

	r.open() // without Resume a paused run stays so
	if res := r.end(); res.err != nil || res.outcome.State != fsm.Paused {
		t.Fatalf("Run of a paused run = %+v, %v", res.outcome, res.err)
	}
	r.o.Resume = true
	r.open()
	a = r.fleet.start("a2")
	r.check(r.end(a), 30)
	for _, e := range r.of(coordinator.StepCommitted) {
		if e.Replayed {
			t.Errorf("step %d was executed again although the checkpoint was of it", e.Step)
		}
	}
}

// Everything dies at once; the next life goes back to the newest good checkpoint, and compares.
func TestTotalLoss(t *testing.T) {
	r := newRig(t, 24)
	r.open()
	a, b := r.fleet.start("a"), r.fleet.start("b")
	r.until(coordinator.CheckpointSaved, 3)
	r.until(coordinator.StepCommitted, 11)
	r.cancel()
	res := r.end(a, b)
	if !errors.Is(res.err, context.Canceled) {
		t.Fatalf("Run = %v, want the context's error", res.err)
	}
	committed := r.node.State().Runs[0].Committed()
	manifests := r.node.State().Runs[0].Manifests
	newest := manifests[len(manifests)-1]
	r.o.Store.(*store).bad = map[string]bool{newest.Path: true}

	r.open()
	a = r.fleet.start("a2")
	r.check(r.end(a), 24)
	if gone := r.of(coordinator.CheckpointGone); len(gone) == 0 || !strings.Contains(fmt.Sprint(gone), "checksum differs") {
		t.Errorf("the damaged checkpoint was not named: %+v", gone)
	}
	again := 0
	for _, e := range r.of(coordinator.StepCommitted) {
		if e.Replayed {
			again++
		}
	}
	if want := int(committed - manifests[len(manifests)-2].Step); again != want {
		t.Errorf("%d steps were executed again, want %d", again, want)
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t, 5)
	r.open()
	if _, err := coordinator.Open(r.o); !errors.As(err, new(*consensus.OwnedError)) {
		t.Errorf("a second coordinator on the folder = %v, want OwnedError", err)
	}
	a := r.fleet.start("a")
	r.until(coordinator.StepCommitted, 1)
	conn, err := bus.Connect(t.Context(), bus.Options{Server: r.node.Server(), Name: "x", FailureTimeout: failure, Log: r.o.Log})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		hello wire.Hello
		want  string
	}{
		"protocol": {wire.Hello{Worker: "x", Name: "x", ProtocolMin: 7, ProtocolMax: 9, Numerics: "fake"}, "speaks protocol 7 to 9"},
		"numerics": {wire.Hello{Worker: "x", Name: "x", ProtocolMin: 1, ProtocolMax: 1, Numerics: "h200"}, `numerics "h200"`},
		"id":       {wire.Hello{Worker: "x.*", Name: "x", ProtocolMin: 1, ProtocolMax: 1, Numerics: "fake"}, `"." is not allowed`},
	} {
		w, err := bus.Request[wire.Welcome](t.Context(), conn, wire.HelloSubject, &c.hello)
		if err != nil || !strings.Contains(w.Refused, c.want) {
			t.Errorf("%s: Hello = %+v, %v; want a refusal with %q", name, w, err, c.want)
		}
	}
	conn.Close()
	r.check(r.end(a), 5)

	changed := newRig(t, 5)
	changed.o = r.o
	changed.o.Run.Identity, changed.o.Run.Identify = "other", []byte(`{"train":{"steps":9,"seed":1},"loss":{"kind":"infonce"}}`)
	changed.open()
	var identity *coordinator.IdentityError
	if res := changed.end(); !errors.As(res.err, &identity) || strings.Join(identity.Differences, "; ") != `loss.kind: not set -> "infonce"; train.steps: 8 -> 9` {
		t.Errorf("Run with other settings = %v, want what differs", res.err)
	}
	changed.o = r.o
	changed.o.Feed = feed{"d2"}
	changed.open()
	if res := changed.end(); !errors.As(res.err, new(*coordinator.DataError)) {
		t.Errorf("Run with other data = %v, want a DataError", res.err)
	}
}

func TestNonFiniteNamesTheRows(t *testing.T) {
	r := newRig(t, 9)
	r.open()
	r.fleet.nanAt = 4
	a, b := r.fleet.start("a"), r.fleet.start("b")
	res := r.end(a, b)
	if want := "step 5: shard 1 of 8 (source 0 row 401)"; res.outcome.State != fsm.Failed || !strings.Contains(res.outcome.Reason, want) {
		t.Errorf("Run = %+v, want failed: %s", res.outcome, want)
	}
	if got := r.node.State().Runs[0].Committed(); got != 4 {
		t.Errorf("%d steps committed, want 4", got)
	}
	if m := r.node.State().Runs[0].Manifest(3); m == nil {
		t.Error("the last good checkpoint is gone")
	}
}

func TestFullDisk(t *testing.T) {
	r := newRig(t, 8)
	r.open()
	r.fleet.saveErr = 1
	a := r.fleet.start("a")
	r.check(r.end(a), 8)
	if e := r.of(coordinator.CheckpointFailed); len(e) != 1 || !strings.Contains(e[0].Reason, "no space left") {
		t.Errorf("checkpoint failures %+v, want one that names the full disk", e)
	}
	if run := r.node.State().Runs[0]; run.Manifest(6) == nil && run.Manifest(8) == nil {
		t.Errorf("checkpoints %+v: the next attempt should have worked", run.Manifests)
	}
}

func TestShardsFilesAndStatus(t *testing.T) {
	r := newRig(t, 3)
	r.o.Stay = true
	for name, text := range map[string]string{
		filepath.Join(r.o.Run.Model, "config.json"):  `{"a":1}`,
		filepath.Join(r.o.Run.Folder, "weights.bin"): "0123456789",
		filepath.Join(r.o.Dir, "secret"):             "secret",
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r.open()
	a := r.fleet.start("a")
	r.until(coordinator.WorkerReady, 1)
	run := r.node.State().Runs[0].ID
	conn, err := bus.Connect(t.Context(), bus.Options{Server: r.node.Server(), Name: "x", FailureTimeout: failure, Log: r.o.Log})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	shards, err := bus.Request[wire.ShardReply](t.Context(), conn, wire.ShardSubject(run), &wire.ShardRequest{Run: run, Kind: wire.Train, Step: 1, Shards: []int{3, 0}})
	if err != nil || len(shards.Shards) != 2 || shards.Shards[0].Index != 3 || shards.Shards[0].Texts[0].Row != 103 {
		t.Errorf("shards = %+v, %v", shards, err)
	}
	if bad, err := bus.Request[wire.ShardReply](t.Context(), conn, wire.ShardSubject(run), &wire.ShardRequest{Run: run, Kind: wire.Train, Step: 1, Shards: []int{99}}); err != nil || bad.Err == "" {
		t.Errorf("shard 99 = %+v, %v; want an error", bad, err)
	}
	for name, want := range map[string]string{
		"model/config.json":       `{"a":1}`,
		"model/":                  `[{"name":"config.json","size":7,"digest":"015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"}]`,
		"checkpoints/weights.bin": "0123456789",
		"suite/0":                 `{"queries":["q1"]}`,
	} {
		f, err := bus.Request[wire.FileReply](t.Context(), conn, wire.FileSubject(run), &wire.FileRequest{Run: run, Name: name})
		if err != nil || f.Err != "" || string(f.Payload) != want {
			t.Errorf("file %s = %q, %s, %v; want %q", name, f.Payload, f.Err, err, want)
		}
	}
	for _, name := range []string{"checkpoints/../" + filepath.Base(r.o.Dir) + "/secret", "model//etc/passwd", "model/../x", "suite/7", "etc/passwd", ""} {
		f, err := bus.Request[wire.FileReply](t.Context(), conn, wire.FileSubject(run), &wire.FileRequest{Run: run, Name: name})
		if err != nil || f.Err == "" || len(f.Payload) > 0 {
			t.Errorf("file %q = %q, %v; want an error", name, f.Payload, err)
		}
	}
	part, err := bus.Request[wire.FileReply](t.Context(), conn, wire.FileSubject(run), &wire.FileRequest{Run: run, Name: "checkpoints/weights.bin", Offset: 7, Limit: 2})
	if err != nil || string(part.Payload) != "78" || part.Size != 10 {
		t.Errorf("part = %+v, %v", part, err)
	}
	s, err := bus.Request[wire.StatusReply](t.Context(), conn, wire.StatusSubject, &wire.StatusRequest{})
	var status coordinator.Status
	if err != nil || json.Unmarshal(s.JSON, &status) != nil || status.Run != run || len(status.Workers) != 1 {
		t.Errorf("status = %s, %v", s.JSON, err)
	}
	if c, err := bus.Request[wire.ControlReply](t.Context(), conn, wire.ControlSubject, &wire.Control{Action: "paws"}); err != nil || c.Err == "" {
		t.Errorf("control paws = %+v, %v; want an error", c, err)
	}
	r.check(r.end(a), 3)
}

func TestNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	r := newRig(t, 4)
	r.open()
	r.check(r.end(r.fleet.start("a"), r.fleet.start("b")), 4)
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

// BenchmarkStep is the whole cost of a step around the computing: reports, two entries of the log, two rounds, with
// two workers in this process that compute nothing. A step has 4 to 8 shards, each reported twice.
func BenchmarkStep(b *testing.B) {
	const steps = 300
	for b.Loop() {
		r := newRig(b, steps)
		r.o.Run.Settings = fsm.Settings{}
		r.open()
		v, w := r.fleet.start("a"), r.fleet.start("b")
		r.until(coordinator.StepCommitted, 1)
		began := time.Now()
		r.until(coordinator.StepCommitted, steps)
		b.ReportMetric(float64(time.Since(began).Milliseconds())/(steps-1), "ms/step")
		r.check(r.end(v, w), steps)
	}
}

// The coordinator dies and comes back; the workers, other processes, live on and lose nothing.
func TestCoordinatorComesBack(t *testing.T) {
	r := newRig(t, 40)
	r.o.Cluster.FailureTimeout = 5 * failure // the race detector on a busy machine is no failure of a worker
	r.o.Alone, r.o.Cluster.Listen = false, "127.0.0.1:0"
	r.open()
	r.fleet.failure = r.o.Cluster.FailureTimeout
	r.o.Cluster.Listen = strings.TrimPrefix(r.node.URL(), "nats://")
	r.fleet.server, r.fleet.url = nil, r.node.URL()
	a, b := r.fleet.start("a"), r.fleet.start("b")
	r.until(coordinator.StepCommitted, 12)
	r.cancel()
	if res := <-r.done; !errors.Is(res.err, context.Canceled) {
		t.Fatal(res.err)
	}
	if err := r.node.Close(); err != nil {
		t.Fatal(err)
	}
	fleet := r.fleet
	r.open()
	r.fleet = fleet
	r.check(r.end(a, b), 40)
	for _, e := range r.last(1 << 20) {
		if e.Replayed || e.Kind == coordinator.Restarted {
			t.Errorf("work was done again although the workers lived: %+v", e)
		}
	}
	if got := r.of(coordinator.WorkerJoined); len(got) != 2 {
		t.Errorf("workers joined %d times, want 2: %+v", len(got), got)
	}
}

func TestLogsOfTheFleet(t *testing.T) {
	r := newRig(t, 3)
	r.open()
	conn, err := bus.Connect(t.Context(), bus.Options{Server: r.node.Server(), Name: "logs"})
	if err != nil {
		t.Fatal(err)
	}
	slog.New(bus.NewLogHandler(conn, "w-7", slog.DiscardHandler)).With("run", "x").Info("hello", "n", 3)
	found := false
	for deadline := time.Now().Add(5 * time.Second); !found && time.Now().Before(deadline); {
		got, err := bus.Request[wire.LogsReply](t.Context(), conn, wire.LogsSubject, &wire.LogsRequest{})
		if errors.Is(err, bus.ErrNoResponder) {
			continue // the node does not lead yet
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range got.Lines {
			found = found || l.Source == "w-7" && l.Run == "x" && l.Text == "hello n=3"
		}
	}
	conn.Close()
	r.check(r.end(r.fleet.start("a")), 3)
	if !found {
		t.Error("a worker's line is not among the coordinator's")
	}
}
