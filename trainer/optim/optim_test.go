package optim

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// trajectory is golden/steps/optimizer.json.
type trajectory struct {
	Betas       [2]float64
	Eps, Clip   float64
	Warmup      int64
	Steps       int64
	Peak        float64
	WeightDecay map[string]float64         `json:"weight_decay"`
	Initial     map[string]json.RawMessage `json:"initial"`
	Trajectory  []struct {
		Rate       float64                    `json:"learning_rate"`
		Norm       float64                    `json:"grad_norm"`
		Gradients  map[string]json.RawMessage `json:"gradients"`
		Parameters map[string]json.RawMessage `json:"parameters"`
	}
}

func readTrajectory(t *testing.T) (f trajectory, names []string, c Config) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(golden.Dir(t, "steps"), "optimizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	for n := range f.Initial {
		names = append(names, n)
		c.WeightDecay = max(c.WeightDecay, f.WeightDecay[n])
	}
	slices.Sort(names)
	c.Schedule = Schedule{Peak: f.Peak, Warmup: f.Warmup, Decay: Linear}
	c.Beta1, c.Beta2, c.Epsilon, c.Clip = f.Betas[0], f.Betas[1], f.Eps, f.Clip
	return f, names, c
}

// flat reads a vector or a matrix as one row of numbers.
func flat(t *testing.T, raw json.RawMessage) []float64 {
	t.Helper()
	var v []float64
	if json.Unmarshal(raw, &v) == nil {
		return v
	}
	var m [][]float64
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return slices.Concat(m...)
}

func TestReferenceGolden(t *testing.T) {
	f, names, c := readTrajectory(t)
	r := Reference{Config: c, Steps: f.Steps}
	for _, n := range names {
		r.Weights = append(r.Weights, flat(t, f.Initial[n]))
		r.Decay = append(r.Decay, f.WeightDecay[n] > 0)
	}
	const tolerance = 1e-12 // the README's, relative to max(1, value)
	for s, want := range f.Trajectory {
		var g [][]float64
		for _, n := range names {
			g = append(g, flat(t, want.Gradients[n]))
		}
		norm, rate := r.Step(g)
		if !near(norm, want.Norm, tolerance) || !near(rate, want.Rate, tolerance) {
			t.Errorf("step %d: norm, rate = %v, %v, want %v, %v", s, norm, rate, want.Norm, want.Rate)
		}
		for i, n := range names {
			for j, w := range flat(t, want.Parameters[n]) {
				if !near(r.Weights[i][j], w, tolerance) {
					t.Fatalf("step %d: %s[%d] = %v, want %v", s, n, j, r.Weights[i][j], w)
				}
			}
		}
	}
}

func TestAdamWGolden(t *testing.T) {
	f, names, c := readTrajectory(t)
	var weights []float32
	var sizes []int
	var decay []bool
	for _, n := range names {
		v := flat(t, f.Initial[n])
		for _, x := range v {
			weights = append(weights, float32(x))
		}
		sizes, decay = append(sizes, len(v)), append(decay, f.WeightDecay[n] > 0)
	}
	o := fixed.NewOffsets(sizes...)
	a := New(c, f.Steps, weights, o, decay, nil)
	const tolerance = 1e-6 // the README's for float32
	var maxima []float32
	for s, want := range f.Trajectory {
		var g []float32
		for _, n := range names {
			for _, x := range flat(t, want.Gradients[n]) {
				g = append(g, float32(x))
			}
		}
		observed := make([]float32, o.Tensors())
		fixed.Maxima(observed, g, o, nil)
		e := fixed.Exponents(maxima, o.Tensors(), 1)
		if _, over := fixed.Exceeds(observed, e, 1); over {
			e = fixed.Exponents(observed, o.Tensors(), 1)
		}
		maxima = observed
		total := fixed.NewSum(e, o.Size())
		total.Quantise(g, o, 1)
		u, rate := a.Update(int64(s), total), a.Rate(int64(s))
		norm := u.Norm
		if u.Gradient != total.Digest(nil) || u.Parameters != a.Digest() {
			t.Fatalf("step %d: Update's digests are %s and %s, want %s and %s", s, u.Gradient, u.Parameters, total.Digest(nil), a.Digest())
		}
		if !near(norm, want.Norm, tolerance) || !near(rate, want.Rate, 1e-12) {
			t.Errorf("step %d: norm, rate = %v, %v, want %v, %v", s, norm, rate, want.Norm, want.Rate)
		}
		at := 0
		for _, n := range names {
			for j, w := range flat(t, want.Parameters[n]) {
				if !near(float64(weights[at]), w, tolerance) {
					t.Fatalf("step %d: %s[%d] = %v, want %v", s, n, j, weights[at], w)
				}
				at++
			}
		}
	}
}

func near(got, want, tolerance float64) bool {
	return math.Abs(got-want) <= tolerance*max(1, math.Abs(want))
}

func TestSchedule(t *testing.T) {
	for _, c := range []struct {
		name     string
		schedule Schedule
		s, steps int64
		want     float64
	}{
		{"first step is not zero", Schedule{Peak: 1, Warmup: 4}, 0, 10, 0.25},
		{"end of warm-up", Schedule{Peak: 1, Warmup: 4}, 3, 10, 1},
		{"linear", Schedule{Peak: 2, Warmup: 4}, 7, 10, 1},
		{"linear, last", Schedule{Peak: 1, Warmup: 4, Decay: Linear}, 9, 10, 1. / 6},
		{"linear to a floor", Schedule{Peak: 1, Warmup: 0, Floor: 0.5}, 5, 10, 0.75},
		{"no warm-up", Schedule{Peak: 1}, 0, 10, 1},
		{"cosine, start", Schedule{Peak: 1, Warmup: 2, Decay: Cosine}, 2, 10, 1},
		{"cosine, middle", Schedule{Peak: 1, Warmup: 2, Decay: Cosine}, 6, 10, 0.5},
		{"cosine, floor", Schedule{Peak: 1, Warmup: 2, Decay: Cosine, Floor: 0.1}, 6, 10, 0.55},
		{"constant", Schedule{Peak: 3, Warmup: 2, Decay: Constant}, 9, 10, 3},
		{"all warm-up", Schedule{Peak: 1, Warmup: 10}, 9, 10, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.schedule.Rate(c.s, c.steps); !near(got, c.want, 1e-15) {
				t.Errorf("Rate(%d of %d) = %v, want %v", c.s, c.steps, got, c.want)
			}
		})
	}
}

// goroutines runs every body at once, in no order.
func goroutines(n int, body func(i int)) {
	var wg sync.WaitGroup
	for i := n - 1; i >= 0; i-- {
		wg.Go(func() { body(i) })
	}
	wg.Wait()
}

func TestUpdateDoesNotDependOnThreads(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	o := fixed.NewOffsets(fixed.Block-3, 10, 2*fixed.Block, 5)
	g, w := make([]float32, o.Size()), make([]float32, o.Size())
	for i := range g {
		g[i], w[i] = float32(r.NormFloat64()), float32(r.NormFloat64())
	}
	var digests []string
	for _, run := range []Run{nil, goroutines} {
		a := New(Config{Schedule: Schedule{Peak: 1e-3}, Clip: 1, WeightDecay: 0.1}, 10, slices.Clone(w), o, []bool{true, false, true, false}, run)
		total := fixed.NewSum(fixed.Exponents([]float32{8, 8, 8, 8}, 4, 1), o.Size())
		total.Quantise(g, o, 1)
		for s := range int64(3) {
			a.Update(s, total)
		}
		digests = append(digests, a.Digest())
		if got := Digest(a.Weights, a.First, a.Second, nil); got != a.Digest() {
			t.Errorf("Digest() of the state = %s, want the optimizer's %s", got, a.Digest())
		}
		a.Second[o.Size()-1] *= 2
		if a.Digest() == digests[len(digests)-1] {
			t.Error("another second moment has the same digest")
		}
	}
	if digests[0] != digests[1] {
		t.Errorf("digests of the same steps with and without goroutines = %v", digests)
	}
}

// A tensor whose gradient was always zero is only decayed: m/(0 + eps) with m = 0 is 0, not NaN.
func TestZeroGradientOnlyDecays(t *testing.T) {
	w := []float32{2, -3}
	o := fixed.NewOffsets(2)
	a := New(Config{Schedule: Schedule{Peak: 0.5, Decay: Constant}, WeightDecay: 0.5, Clip: 1}, 1, w, o, []bool{true}, nil)
	if norm := a.Update(0, fixed.NewSum(fixed.Exponents(nil, 1, 1), 2)).Norm; norm != 0 {
		t.Errorf("norm = %v, want 0", norm)
	}
	if w[0] != 1.5 || w[1] != -2.25 {
		t.Errorf("weights = %v, want [1.5 -2.25]", w)
	}
}

func BenchmarkUpdate(b *testing.B) {
	o := fixed.NewOffsets(1 << 20)
	a := New(Config{Schedule: Schedule{Peak: 1e-3}, Clip: 1, WeightDecay: 0.1}, 1000, make([]float32, o.Size()), o, []bool{true}, nil)
	total := fixed.NewSum(fixed.Exponents(nil, 1, 1), o.Size())
	for i := range total.Values {
		total.Values[i] = int64(i) << 20
	}
	b.Run("update", func(b *testing.B) {
		b.SetBytes(int64(4 * o.Size()))
		for b.Loop() {
			a.Update(0, total)
		}
	})
	b.Run("digest", func(b *testing.B) {
		b.SetBytes(int64(4 * o.Size()))
		for b.Loop() {
			a.Digest()
		}
	})
}
