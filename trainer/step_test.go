package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
	"github.com/counterpoint-ml/counterpoint/trainer/optim"
)

const vocabulary = 40 // the last id is the mask

func testConfig(kind string) Config {
	return Config{
		Loss:  contrastive.Config{Kind: kind, Temperature: 0.1, Symmetric: true},
		Steps: 6, Seed: 11,
		Optimizer: optim.Config{Schedule: optim.Schedule{Peak: 0.05, Warmup: 2}, Clip: 1, WeightDecay: 0.01},
	}
}

func newTest(t testing.TB, kind string, o Options) (*Trainer, *toy) {
	t.Helper()
	m := newToy(vocabulary, 8)
	dev, err := cpu.New(1)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := newTrainer(testConfig(kind), m, dev, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tr.Free()
		dev.Close()
	})
	return tr, m
}

func threads(t *testing.T, n int) *pool.Pool {
	p := pool.New(n)
	t.Cleanup(p.Close)
	return p
}

// stepBatch is the batch of a step: the same for every run of a test.
func stepBatch(seed uint64, kind string, step int64) (data.Header, []*data.Shard) {
	header, shards := batch(rand.New(rand.NewPCG(seed, uint64(step))), kind, 6, vocabulary-1, 24)
	if c := testConfig(kind); kind == contrastive.MNTP {
		header.Divisor = 0
		for _, s := range shards {
			for _, t := range s.Texts {
				n, _ := c.Loss.Terms(c.Seed, step, uint32(t.Slot), len(t.Tokens))
				header.Divisor += float64(n)
			}
		}
	}
	return header, shards
}

// alone trains a run by one worker and returns every step's outcome.
func alone(t testing.TB, tr *Trainer, seed uint64, kind string) (outcomes []Outcome) {
	t.Helper()
	for step := tr.Steps(); step < tr.config.Steps; step++ {
		header, shards := stepBatch(seed, kind, step)
		o, err := tr.Step(t.Context(), header, step, NewSolo(tr, shards, header.Slots))
		if err != nil {
			t.Fatal(err)
		}
		outcomes = append(outcomes, o)
	}
	return outcomes
}

func compare(t *testing.T, what string, got, want Outcome) {
	t.Helper()
	if got.Loss != want.Loss || got.Norm != want.Norm || got.Gradient != want.Gradient || got.Parameters != want.Parameters ||
		got.Rate != want.Rate || got.Tokens != want.Tokens || got.Step != want.Step || got.Attempt != want.Attempt || !slices.Equal(got.Maxima, want.Maxima) {
		t.Fatalf("%s: outcome = %+v, want %+v", what, got, want)
	}
}

var kinds = []string{contrastive.InfoNCEKind, contrastive.ExplicitKind, contrastive.MaskedDiffusion, contrastive.MNTP, contrastive.CausalLM}

func seeded(t testing.TB) uint64 {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return seed
}

// The promise: any number of workers, any order of leases, re-leases, lost answers, withdrawn closings and deaths
// give the bits of one undisturbed worker.
func TestFleetDoesNotShowInTheResult(t *testing.T) {
	events := map[string]int{}
	for _, kind := range kinds {
		for _, workers := range []int{1, 2, 3, 5} {
			t.Run(fmt.Sprintf("%s/%d", kind, workers), func(t *testing.T) {
				for range 4 {
					seed := seeded(t)
					one, _ := newTest(t, kind, Options{})
					want := alone(t, one, seed, kind)
					if first, last := want[0].Loss, want[len(want)-1].Loss; math.IsNaN(last) || first == last {
						t.Fatalf("loss %v to %v: not training", first, last)
					}
					fleet := make([]*Trainer, workers)
					for w := range fleet {
						fleet[w], _ = newTest(t, kind, Options{Pool: threads(t, 1+w%2), Keep: []int64{0, 1 << 20, 1000}[w%3]})
					}
					trainWithHub(t, seed, kind, fleet, want, events)
				}
			})
		}
	}
	t.Logf("events: %v", events)
	for _, e := range []string{"refused", "lost", "withdrawn", "killed", "repeated", "subtracted"} {
		if events[e] == 0 {
			t.Errorf("no shard, closing or worker was ever %s: the test does not test it", e)
		}
	}
}

// trainWithHub trains a run by several workers that are disturbed and compares every outcome with the wanted one.
func trainWithHub(t *testing.T, seed uint64, kind string, trainers []*Trainer, want []Outcome, events map[string]int) {
	t.Helper()
	r, workers := rand.New(rand.NewPCG(seed, 99)), len(trainers)
	for step := range int64(len(want)) {
		header, shards := stepBatch(seed, kind, step)
		maxima, _ := trainers[0].Maxima()
		h := newHub(r, shards, header.Slots, trainers[0].Width(), workers, len(trainers[0].Params()), maxima)
		victim := r.IntN(2 * workers)
		last := r.IntN(12)
		outcomes, errs := make([]Outcome, workers), make([]error, workers)
		var wg sync.WaitGroup
		for w, tr := range trainers {
			m := &member{hub: h, w: w, calls: -1}
			if w == victim && workers > 1 {
				m.calls = last
			}
			wg.Go(func() { outcomes[w], errs[w] = tr.Step(context.Background(), header, step, m) })
		}
		wg.Wait()
		alive := slices.Index(h.alive, true)
		for w, tr := range trainers {
			if !h.alive[w] { // joins again, with a peer's state
				if !errors.Is(errs[w], errKilled) || tr.Steps() != step {
					t.Fatalf("killed worker: %v after %d steps, want %v after %d", errs[w], tr.Steps(), errKilled, step)
				}
				if err := tr.Restore(trainers[alive].State()); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if errs[w] != nil {
				t.Fatalf("step %d, worker %d of %d: %v", step, w, workers, errs[w])
			}
			compare(t, fmt.Sprintf("step %d, worker %d of %d", step, w, workers), outcomes[w], want[step])
		}
		events["refused"] += h.refused
		events["lost"] += h.lost
		events["withdrawn"] += h.withdrawn
		events["killed"] += h.killed
		events["repeated"] += h.repeated
		for _, tr := range trainers {
			events["subtracted"] += tr.subtracted
			tr.subtracted = 0
		}
	}
}

func TestThreadsAndKeptActivationsDoNotShow(t *testing.T) {
	seed := seeded(t)
	for _, kind := range kinds {
		one, _ := newTest(t, kind, Options{})
		want := alone(t, one, seed, kind)
		for _, o := range []Options{{Pool: threads(t, 2)}, {Keep: 1 << 30}, {Keep: 900, Pool: threads(t, 3)}} {
			tr, m := newTest(t, kind, o)
			for i, got := range alone(t, tr, seed, kind) {
				compare(t, fmt.Sprintf("%s, keeping %d bytes, step %d", kind, o.Keep, i), got, want[i])
			}
			if !(contrastive.Config{Kind: kind}).Embeds() {
				continue
			}
			if (o.Keep > 1000) != (m.second == 0) || (o.Keep > 0) != (m.saved > 0) {
				t.Errorf("keeping %d bytes: %d backward passes with kept activations, %d with a second forward pass", o.Keep, m.saved, m.second)
			}
		}
	}
}

// An attempt that overflows is repeated with the observed maxima.
func TestOverflowRepeatsTheAttempt(t *testing.T) {
	tr, _ := newTest(t, contrastive.InfoNCEKind, Options{})
	for i, o := range alone(t, tr, seeded(t), contrastive.InfoNCEKind) {
		if i == inflated && o.Attempt != 1 {
			t.Errorf("step %d: attempt %d, want 1", i, o.Attempt)
		}
	}
}

func TestRestoreIsNeverStopped(t *testing.T) {
	seed := seeded(t)
	for _, kind := range kinds {
		one, _ := newTest(t, kind, Options{})
		want := alone(t, one, seed, kind)
		stopped, _ := newTest(t, kind, Options{})
		stopped.config.Steps = 3
		alone(t, stopped, seed, kind)
		state := stopped.State()
		again, _ := newTest(t, kind, Options{})
		if err := again.Restore(state); err != nil {
			t.Fatal(err)
		}
		if again.Digest() != want[2].Parameters {
			t.Errorf("%s: digest after Restore = %s, want that of step 3, %s", kind, again.Digest(), want[2].Parameters)
		}
		for i, got := range alone(t, again, seed, kind) {
			compare(t, fmt.Sprintf("%s, step %d after Restore", kind, 3+i), got, want[3+i])
		}
	}
	tr, _ := newTest(t, contrastive.InfoNCEKind, Options{})
	before := tr.Digest()
	if err := tr.Restore(State{Parameters: make([]float32, 3)}); err == nil || tr.Digest() != before {
		t.Errorf("Restore of another model's state = %v, want an error and nothing changed", err)
	}
}

// A follower that only applies totals holds the same bits.
func TestApplyFollows(t *testing.T) {
	seed := seeded(t)
	leader, _ := newTest(t, contrastive.InfoNCEKind, Options{})
	follower, _ := newTest(t, contrastive.InfoNCEKind, Options{})
	for step := range int64(4) {
		header, shards := stepBatch(seed, contrastive.InfoNCEKind, step)
		want, err := leader.Step(t.Context(), header, step, NewSolo(leader, shards, header.Slots))
		if err != nil {
			t.Fatal(err)
		}
		got, err := follower.Apply(header, step, leader.spare, want.Loss, want.Maxima, want.Attempt)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, fmt.Sprintf("step %d applied", step), got, want)
	}
	header, shards := stepBatch(seed, contrastive.InfoNCEKind, 9)
	if _, err := leader.Step(t.Context(), header, 9, NewSolo(leader, shards, header.Slots)); err == nil {
		t.Error("Step(9) after 4 steps = nil, want an error")
	}
}

func TestNonFiniteNamesStepShardAndRows(t *testing.T) {
	seed := seeded(t)
	for _, kind := range kinds {
		for _, bad := range []float64{math.NaN(), math.Inf(1)} {
			tr, m := newTest(t, kind, Options{})
			header, shards := stepBatch(seed, kind, 0)
			text := shards[1].Texts[0]
			for _, s := range shards { // a token that occurs in one shard only
				for _, x := range s.Texts {
					for i, id := range x.Tokens {
						if id == 7 {
							x.Tokens[i] = 8
						}
					}
				}
			}
			text.Tokens[0] = 7
			m.w[7*m.d] = float32(bad)
			before := tr.Digest()
			_, err := tr.Step(t.Context(), header, 0, NewSolo(tr, shards, header.Slots))
			var e *NonFiniteError
			if !errors.As(err, &e) || !errors.Is(err, ErrNonFinite) || e.Step != 0 {
				t.Fatalf("%s, a parameter is %v: error %v, want a NonFiniteError of step 0", kind, bad, err)
			}
			if kind == contrastive.InfoNCEKind && bad != bad && (e.Shard != 1 || len(e.Texts) != len(shards[1].Texts)) {
				t.Errorf("%s: %v, want shard 1 and its rows", kind, err)
			}
			if tr.Digest() != before || tr.Steps() != 0 {
				t.Errorf("%s: the parameters changed by a step that failed", kind)
			}
		}
	}
}

// tampered is a Solo that tells a worker something impossible.
type tampered struct {
	*Solo
	shards  int
	closing []int
}

func (f tampered) Attempt(ctx context.Context) (Attempt, error) {
	a, err := f.Solo.Attempt(ctx)
	a.Shards = f.shards
	return a, err
}

func (f tampered) Close(ctx context.Context) (Closing, error) {
	c, err := f.Solo.Close(ctx)
	c.Shards = append(c.Shards, f.closing...)
	return c, err
}

// What comes from the network and cannot be is an error that says so, never a panic, and changes nothing.
func TestImpossibleMessagesAreErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		want string
		edit func(h *data.Header, shards []*data.Shard, f *tampered)
	}{
		{"an attempt of no shards", "0 shards", func(_ *data.Header, _ []*data.Shard, f *tampered) { f.shards = 0 }},
		{"a closing of an unknown shard", "shard 99", func(_ *data.Header, _ []*data.Shard, f *tampered) { f.closing = []int{99} }},
		{"a slot beyond the batch", "slot 1000000", func(_ *data.Header, s []*data.Shard, _ *tampered) { s[0].Texts[0].Slot = 1000000 }},
		{"fewer documents than queries", "documents", func(h *data.Header, _ []*data.Shard, _ *tampered) { h.Docs = h.Docs[:2] }},
		{"no queries", "0 queries", func(h *data.Header, _ []*data.Shard, _ *tampered) { h.Queries = 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr, _ := newTest(t, contrastive.InfoNCEKind, Options{})
			header, shards := stepBatch(1, contrastive.InfoNCEKind, 0)
			f := tampered{Solo: NewSolo(tr, shards, header.Slots), shards: len(shards)}
			c.edit(&header, shards, &f)
			before := tr.Digest()
			if _, err := tr.Step(t.Context(), header, 0, f); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Step = %v, want an error with %q", err, c.want)
			}
			if tr.Digest() != before || tr.Steps() != 0 {
				t.Error("the parameters changed")
			}
		})
	}
}
