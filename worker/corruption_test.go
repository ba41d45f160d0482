package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// One flipped bit each, at a seeded place: what notices it, who is named, and whether the run's result is that of a run
// without it.

// flip returns a hook that flips one bit of a value, once, at or after a step: of a value that is not zero, and so that it
// stays finite.
func flip(seed uint64, from int64) (hook func(step int64, shard int, values []float32), done *atomic.Pointer[string]) {
	r, done, mu := rand.New(rand.NewPCG(seed, 9)), &atomic.Pointer[string]{}, &sync.Mutex{}
	return func(step int64, shard int, values []float32) {
		mu.Lock()
		defer mu.Unlock()
		if step < from || done.Load() != nil {
			return
		}
		for range 1000 {
			i, bit := r.IntN(len(values)), 12+r.IntN(20) // a lower one may vanish in the rounding of what follows
			x := math.Float32frombits(math.Float32bits(values[i]) ^ 1<<bit)
			if values[i] == 0 || x-x != 0 {
				continue
			}
			text := fmt.Sprintf("step %d, shard %d, value %d, bit %d: %v became %v", step, shard, i, bit, values[i], x)
			values[i] = x
			done.Store(&text)
			return
		}
	}, done
}

// faulty opens an office with good workers and one, named odd, that change makes faulty; it returns the odd one.
func faulty(t *testing.T, o *office, good int, change func(*toy)) *person {
	o.open()
	for i := range good {
		o.hire(fmt.Sprint("good-", i))
	}
	return o.hire("odd", change)
}

// named checks that the odd worker, and nobody else, was sent away for what reason says, and is refused since.
func (o *office) named(odd *person, reason string) {
	o.t.Helper()
	if got := o.node.State().Quarantined; !slices.Equal(got, []string{"odd"}) {
		o.t.Errorf("quarantined are %v, want the odd one", got)
	}
	o.mu.Lock()
	found := slices.ContainsFunc(o.events, func(e coordinator.Event) bool {
		return e.Kind == coordinator.WorkerLost && strings.HasPrefix(e.Worker, "odd") && strings.Contains(e.Reason, reason)
	})
	o.mu.Unlock()
	if !found {
		o.t.Errorf("no event says that the odd one was lost because %q", reason)
	}
	select {
	case err := <-odd.done:
		odd.done <- err
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "quarantine") {
			o.t.Errorf("Run of the odd one = %v, want a refusal that says quarantine", err)
		}
	case <-time.After(10 * time.Second):
		o.t.Error("the odd one goes on")
	}
}

// outcome waits for the end of a run that does not finish.
func (o *office) outcome() string {
	o.t.Helper()
	select {
	case err := <-o.done:
		o.done <- err
		return fmt.Sprint(err)
	case <-time.After(30 * time.Second):
		o.t.Fatal("no end after 30 s")
		return ""
	}
}

func TestFlippedGradientIsAudited(t *testing.T) {
	leaks(t)
	seed := seeded(t)
	o := newOffice(t, 20)
	o.options.Run.Settings.Audit = 1
	hook, done := flip(seed, 4)
	odd := faulty(t, o, 2, func(t *toy) { t.Flip = hook })
	o.check()
	if done.Load() == nil {
		t.Fatal("nothing was flipped: this test sees nothing")
	}
	t.Log(*done.Load())
	o.named(odd, "(audit)")
}

// With a share of the shards audited, a worker that is wrong throughout is found soon, and one that is wrong once is
// found when that shard is drawn.
func TestShareOfShardsIsAudited(t *testing.T) {
	leaks(t)
	o := newOffice(t, 20)
	o.options.Run.Settings.Audit = 0.25
	audited, all := 0, 0
	var mu sync.Mutex
	o.adapt = func(c *Config) {
		link := c.Link
		c.Link = reports{link, func(m *wire.Report) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case m.Phase == 3:
				audited++
			case m.Phase == 2:
				all++
			}
		}}
	}
	o.open()
	for i := range 3 {
		o.hire(fmt.Sprint("w", i))
	}
	o.check()
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d of %d shards were computed a second time", audited, all)
	if audited < all/8 || audited > all/2 {
		t.Errorf("%d of %d shards were computed a second time, want about a quarter", audited, all)
	}
	if q := o.node.State().Quarantined; len(q) > 0 {
		t.Errorf("quarantined are %v, want none", q)
	}
}

// reports lets a test see reports.
type reports struct {
	Link
	see func(*wire.Report)
}

func (r reports) Report(ctx context.Context, m *wire.Report) (*wire.Verdict, error) {
	r.see(m)
	return r.Link.Report(ctx, m)
}

// Of two workers nobody can tell which is wrong: the run pauses and names both.
func TestFlippedGradientOfTwo(t *testing.T) {
	leaks(t)
	seed := seeded(t)
	o := newOffice(t, 20)
	o.options.Run.Settings.Audit = 1
	hook, done := flip(seed, 4)
	faulty(t, o, 1, func(t *toy) { t.Flip = hook })
	waitFor(t, func() bool { return o.node.State().Runs != nil && o.node.State().Runs[0].State == fsm.Paused })
	for _, part := range []string{"different gradients", "odd-", "good-0-", "paused"} {
		if got := o.outcome(); !strings.Contains(got, part) {
			t.Errorf("the run ended with %q, want %q in it", got, part)
		}
	}
	t.Log(*done.Load())
	for _, p := range o.people { // resumed, it is executed again from the checkpoint, and the flip does not come back
		o.fire(p)
	}
	o.people = nil
	o.close()
	o.options.Resume = true
	o.open()
	o.hire("good-0")
	o.hire("good-1")
	o.check()
}

// Without an audit nobody notices: the step is committed with the wrong gradient, in order and by all. RELIABILITY.md says
// so, and this is what it says it of.
func TestFlippedGradientWithoutAudit(t *testing.T) {
	leaks(t)
	seed := seeded(t)
	o := newOffice(t, 20)
	hook, done := flip(seed, 4)
	faulty(t, o, 2, func(t *toy) { t.Flip = hook })
	if got := o.outcome(); got != "<nil>" {
		t.Fatalf("the run ended with %s", got)
	}
	if done.Load() == nil {
		t.Skip("the odd worker computed no shard in time")
	}
	want, _ := alone(t, 20)
	var step int
	if _, err := fmt.Sscanf(*done.Load(), "step %d,", &step); err != nil {
		t.Fatal(err)
	}
	ledger := &o.node.State().Runs[0].Ledger
	for s := range want {
		if same := ledger.At(int64(s)).Parameters == want[s].Parameters; same != (s < step) {
			t.Errorf("after step %d the parameters are those of a clean run: %v; the flip was in step %d", s, same, step)
		}
	}
	if q := o.node.State().Quarantined; len(q) > 0 {
		t.Errorf("quarantined are %v, want none", q)
	}
}

// A flipped parameter shows in the digest after the step. What the odd worker computed with it is in everybody's
// parameters, so the step is executed again without it.
func TestFlippedParameter(t *testing.T) {
	leaks(t)
	seed := seeded(t)
	o := newOffice(t, 20)
	hook, done := flip(seed, 8)
	odd := faulty(t, o, 2, func(t *toy) { t.Touch = func(step int64, w []float32) { hook(step, -1, w) } })
	o.check()
	if done.Load() == nil {
		t.Fatal("nothing was flipped: this test sees nothing")
	}
	t.Log(*done.Load())
	o.named(odd, "odd one out")
}

// guarded is a toy with frozen weights that go bad.
type guarded struct {
	*toy
	spoiled *atomic.Bool
}

func (guarded) FrozenDigest() string { return "frozen" }

func (g guarded) CheckFrozen(context.Context) error {
	if g.spoiled.Load() {
		return errors.New("the frozen weights layers.0.up changed in memory since they were loaded (MiB 1 of 3)")
	}
	return nil
}

// Frozen weights that change spoil everything that their worker computes, and all agree about it. The next checkpoint's
// check names the worker; what was committed since its last one is taken back and executed anew.
func TestFlippedFrozenWeights(t *testing.T) {
	leaks(t)
	o := newOffice(t, 24)
	var spoiled atomic.Bool
	o.adapt = func(c *Config) {
		build, bad := c.Build, &atomic.Bool{}
		if c.Name == "odd" {
			bad = &spoiled
		}
		c.Build = func(ctx context.Context, run Run) (Trainer, error) {
			tr, err := build(ctx, run)
			if err != nil {
				return nil, err
			}
			return guarded{tr.(*toy), bad}, nil
		}
	}
	odd := faulty(t, o, 2, func(t *toy) {
		t.Flip = func(step int64, _ int, g []float32) {
			if step == 8 {
				spoiled.Store(true)
			}
			if spoiled.Load() {
				for i := range g {
					g[i] *= 1.25
				}
			}
		}
	})
	o.check()
	if !spoiled.Load() {
		t.Fatal("nothing was spoiled: this test sees nothing")
	}
	o.named(odd, "frozen weights layers.0.up changed in memory")
	run := o.node.State().Runs[0]
	if len(run.Rewinds) != 1 || run.Rewinds[0].From > 8 || run.Rewinds[0].To < 9 || !strings.Contains(run.Rewinds[0].Reason, "odd-") {
		t.Errorf("rewinds %+v, want one, from at most 8 steps to more, which names the odd one", run.Rewinds)
	}
}

// Messages that lose a bit on their way are dropped and asked for again: nothing of them is counted.
func TestFlippedMessages(t *testing.T) {
	leaks(t)
	seed := seeded(t)
	o := newOffice(t, 20)
	flips := &noise{r: rand.New(rand.NewPCG(seed, 10))}
	o.adapt = func(c *Config) { c.Link = noisy{c.Link, flips} }
	o.open()
	for i := range 3 {
		o.hire(fmt.Sprint("w", i))
	}
	o.check()
	flips.mu.Lock()
	defer flips.mu.Unlock()
	t.Logf("flipped: %v", flips.count)
	for _, kind := range []string{"rows", "chunk"} {
		if flips.count[kind] == 0 {
			t.Errorf("no %s were flipped: this test sees nothing of them", kind)
		}
	}
}

// noise flips a bit of every few values.
type noise struct {
	mu    sync.Mutex
	r     *rand.Rand
	count map[string]int
}

func (n *noise) now(kind string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.r.IntN(8) > 0 {
		return false
	}
	if n.count == nil {
		n.count = map[string]int{}
	}
	n.count[kind]++
	return true
}

func (n *noise) bit(size int) (at int, mask byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.r.IntN(size), 1 << n.r.IntN(8)
}

// noisy is a Link on which the large values, which have digests of their own, lose bits.
type noisy struct {
	Link
	*noise
}

func (l noisy) Publish(ctx context.Context, m *wire.Rows) error {
	return l.Link.Publish(ctx, l.rows(m))
}

func (l noisy) Send(ctx context.Context, to string, m *wire.Rows) error {
	return l.Link.Send(ctx, to, l.rows(m))
}

func (l noisy) rows(m *wire.Rows) *wire.Rows {
	if !l.now("rows") {
		return m
	}
	c := *m
	c.Values = slices.Clone(m.Values)
	at, mask := l.bit(4 * len(c.Values))
	c.Values[at/4] = math.Float32frombits(math.Float32bits(c.Values[at/4]) ^ uint32(mask)<<(8*(at%4)))
	return &c
}

func (l noisy) Ask(ctx context.Context, worker string, m *wire.ChunkRequest) (*wire.Chunk, error) {
	c, err := l.Link.Ask(ctx, worker, m)
	if err == nil && len(c.Payload) > 0 && l.now("chunk") {
		at, mask := l.bit(len(c.Payload))
		c.Payload[at] ^= mask
	}
	return c, err
}

// Embeddings that are wrong reach everybody, and whoever computes gradients computes them from the same wrong ones. Who
// audits a shard embeds it too.
func TestFlippedEmbeddingIsAudited(t *testing.T) {
	leaks(t)
	seed := seeded(t)
	o := newOffice(t, 20)
	o.options.Run.Settings.Audit = 1
	hook, done := flip(seed, 4)
	odd := faulty(t, o, 2, func(t *toy) { t.Smudge = hook })
	o.check()
	if done.Load() == nil {
		t.Fatal("nothing was flipped: this test sees nothing")
	}
	t.Log(*done.Load())
	o.named(odd, "(audit)")
}
