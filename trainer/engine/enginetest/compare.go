package enginetest

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// array is a leaf or a result in float64.
type array struct {
	f     []float64
	i     []int32
	shape []int
}

func (p *problem) arrays() []array {
	out := make([]array, len(p.leaves))
	for i, l := range p.leaves {
		a := array{i: l.i}
		for _, v := range l.f {
			a.f = append(a.f, float64(v))
		}
		for _, n := range l.shape {
			a.shape = append(a.shape, actual(n, p.at))
		}
		out[i] = a
	}
	return out
}

func (p *problem) compareForward(t *testing.T, got []float32, tolerance float64) {
	t.Helper()
	closeTo(t, "output", got, p.want(func() []float64 { return p.ref(p.arrays()).f }), tolerance)
}

func closeTo(t *testing.T, what string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d values, want %d", what, len(got), len(want))
		return
	}
	top, worst, at := 0.1, 0.0, 0 // inputs are of the order of 1: results below 0.1 come from cancellation
	for i := range want {
		top = max(top, math.Abs(want[i]))
		if d := math.Abs(float64(got[i]) - want[i]); !(d <= worst) {
			worst, at = d, i
		}
	}
	if !(worst <= tolerance*top) {
		t.Errorf("%s: value %d = %v, want %v within %g of %g", what, at, got[at], want[at], tolerance, top)
	}
}

// cost is the sum of the reference's output * random, or the output itself if it is a scalar.
func (p *problem) cost(x []array) float64 {
	out := p.ref(x).f
	if len(p.outShape) == 0 {
		return out[0]
	}
	sum := 0.0
	for i, v := range out {
		sum += v * float64(p.random[i])
	}
	return sum
}

// compareGradients compares with central differences of the float64 reference: single entries, and the derivative in
// one random direction, which sees every entry.
func (p *problem) compareGradients(t *testing.T, grads [][]float32, tolerance float64, r *rand.Rand) {
	t.Helper()
	d, ok := p.spec.(ops.Differentiable)
	if !ok {
		return
	}
	const step = 1e-5
	n := 0
	for i, wants := range d.Wants() {
		if !wants {
			continue
		}
		g := grads[n]
		n++
		x := p.arrays()
		v := x[i].f
		if len(g) != len(v) {
			t.Errorf("gradient of input %d: %d values, want %d", i, len(g), len(v))
			continue
		}
		top := 0.1
		for _, w := range g {
			top = max(top, math.Abs(float64(w)))
		}
		difference := func(move func(h float64)) float64 {
			return p.want(func() []float64 {
				move(step)
				up := p.cost(x)
				move(-2 * step)
				down := p.cost(x)
				move(step)
				return []float64{(up - down) / (2 * step)}
			})[0]
		}
		entries := 24
		if len(v) > 10_000 {
			entries = 2
		}
		for range min(entries, len(v)) {
			j := r.IntN(len(v))
			want := difference(func(h float64) { v[j] += h })
			if diff := math.Abs(float64(g[j]) - want); !(diff <= tolerance*top) {
				t.Errorf("gradient of input %d, value %d = %v, want %v within %g of %g", i, j, g[j], want, tolerance, top)
			}
		}
		direction := make([]float64, len(v))
		got, size := 0.0, 0.0
		for j := range direction {
			direction[j] = r.NormFloat64() / math.Sqrt(float64(len(v)))
			got += float64(g[j]) * direction[j]
			size += float64(g[j]) * float64(g[j])
		}
		want := difference(func(h float64) {
			for j := range v {
				v[j] += h * direction[j]
			}
		})
		if diff := math.Abs(got - want); !(diff <= tolerance*max(0.1, math.Sqrt(size))) {
			t.Errorf("gradient of input %d in a random direction = %v, want %v", i, got, want)
		}
	}
}

// oracle remembers what the reference said of one case, in the order of the questions: they do not depend on the
// device, and the suite runs on many.
type oracle struct{ answers [][]float64 }

var oracles = struct {
	sync.Mutex
	of map[string]*oracle
}{of: map[string]*oracle{}}

// want returns the answer to the problem's next question.
func (p *problem) want(compute func() []float64) []float64 {
	oracles.Lock()
	defer oracles.Unlock()
	o := oracles.of[p.name]
	if o == nil {
		o = &oracle{}
		oracles.of[p.name] = o
	}
	if p.asked == len(o.answers) {
		o.answers = append(o.answers, compute())
	}
	p.asked++
	return o.answers[p.asked-1]
}
