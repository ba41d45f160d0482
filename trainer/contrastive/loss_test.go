package contrastive

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

func random(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 2))
}

// rows returns unit rows of a batch with ragged negatives, some documents equal.
func randomRows(r *rand.Rand, queries, negatives, d int) ([]float64, Batch) {
	b := Batch{Queries: queries, Docs: make([]uint64, queries+negatives), Negatives: make([]int32, queries)}
	for range negatives {
		b.Negatives[r.IntN(queries)]++
	}
	raw := make([]float64, b.Rows()*d)
	for i := range raw {
		raw[i] = r.NormFloat64()
	}
	for j := range b.Docs {
		b.Docs[j] = uint64(j) + 100
		if j > 0 && r.IntN(4) == 0 {
			k := r.IntN(j)
			b.Docs[j] = b.Docs[k]
			copy(raw[(queries+j)*d:(queries+j+1)*d], raw[(queries+k)*d:])
		}
	}
	u, _ := Unit(raw, d)
	return u, b
}

// onDevice is the graph form on the CPU device.
func onDevice(t testing.TB, threads int, rows []float32, d int, b Batch, o Options) (loss float64, grad []float32) {
	t.Helper()
	dev, err := cpu.New(threads)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	l := NewLoss(dev, o)
	defer l.Free()
	if loss, grad, err = l.Loss(rows, d, b); err != nil {
		t.Fatal(err)
	}
	return loss, grad
}

func TestReferenceAgainstFiniteDifferences(t *testing.T) {
	r := random(t)
	const d, h = 5, 1e-6
	for _, o := range []Options{
		{Temperature: 0.1},
		{Temperature: 0.1, MaskDuplicates: true},
		{Temperature: 0.1, Symmetric: true, MaskDuplicates: true},
		{Temperature: 0.1, Symmetric: true, Margin: ops.Margin{On: true, Value: 0.1}},
		{Temperature: 0.1, MaskDuplicates: true, Margin: ops.Margin{On: true, Value: 0.5, Relative: true}},
		{Temperature: 0.1, Symmetric: true, Dimensions: []int{2, 5, 3}, Weights: []float64{1, 0.5, 2}},
		{Temperature: 0.2, MaskDuplicates: true, Dimensions: []int{3}, Margin: ops.Margin{On: true}},
		{Explicit: true},
		{Explicit: true, Dimensions: []int{5, 1, 2}},
	} {
		rows, b := randomRows(r, 4, 3, d)
		_, grad := Reference(rows, d, b, o)
		for i := range rows {
			up, down := slices.Clone(rows), slices.Clone(rows)
			up[i] += h
			down[i] -= h
			a, _ := Reference(up, d, b, o)
			c, _ := Reference(down, d, b, o)
			if want := (a - c) / (2 * h); math.Abs(grad[i]-want) > 1e-7*max(1, math.Abs(want)) {
				t.Errorf("%+v: gradient %d = %v, finite difference %v", o, i, grad[i], want)
			}
		}
	}
}

// What each mask leaves out, by hand: query 0 has its positive at similarity 0.6, and negatives at 0.9, 0.65 and -1, the
// last of which is another query's positive too.
func TestMargin(t *testing.T) {
	at := func(x float64) []float64 { return []float64{x, math.Sqrt(1 - x*x)} }
	rows := slices.Concat(at(1), at(-1), at(0.6), at(-1), at(0.9), at(0.65)) // query 1 and its positive are alike
	b := Batch{Queries: 2, Docs: []uint64{1, 2, 3, 4}}
	s := func(kept ...float64) float64 { // the loss of query 0 with the negatives that are kept
		sum := math.Exp(0.6)
		for _, x := range kept {
			sum += math.Exp(x)
		}
		return math.Log(sum) - 0.6
	}
	of1 := math.Log(math.Exp(1)+math.Exp(-0.6)+math.Exp(-0.9)+math.Exp(-0.65)) - 1
	for name, tt := range map[string]struct {
		margin ops.Margin
		want   float64
	}{
		"none":          {ops.Margin{}, s(0.9, 0.65, -1)},
		"0":             {ops.Margin{On: true}, s(-1)},
		"0.1":           {ops.Margin{On: true, Value: 0.1}, s(0.65, -1)},
		"0.1 of itself": {ops.Margin{On: true, Value: 0.1, Relative: true}, s(0.65, -1)},
		"0.06 and less": {ops.Margin{On: true, Value: 0.05, Relative: true}, s(-1)},
		"-2":            {ops.Margin{On: true, Value: -2}, s()},
	} {
		want := (tt.want + of1) / 2
		if tt.margin.Value == -2 {
			want = 0
		}
		o := Options{Temperature: 1, Margin: tt.margin}
		if got, _ := Reference(rows, 2, b, o); math.Abs(got-want) > 1e-12 {
			t.Errorf("%s: Reference = %v, want %v", name, got, want)
		}
		narrow := make([]float32, len(rows))
		for i, x := range rows {
			narrow[i] = float32(x)
		}
		if got, _ := onDevice(t, 1, narrow, 2, b, o); math.Abs(got-want) > 1e-6 {
			t.Errorf("%s: loss = %v, want %v", name, got, want)
		}
	}
}

// Matryoshka by the loss alone: each entry is the loss of rows that were cut and normalised before.
func TestMatryoshka(t *testing.T) {
	r := random(t)
	const d = 24
	unit, b := randomRows(r, 20, 30, d)
	rows := make([]float32, len(unit))
	for i, x := range unit {
		rows[i] = float32(x)
	}
	o := Options{Temperature: 0.1, MaskDuplicates: true, Dimensions: []int{24, 4, 8}, Weights: []float64{1, 0.25, 3}}
	want := 0.0
	for k, short := range o.Dimensions {
		var cut []float64
		for at := 0; at < len(unit); at += d {
			cut = append(cut, unit[at:at+short]...)
		}
		u, _ := Unit(cut, short)
		l, _ := infoNCE(u, short, b, o)
		want += o.Weights[k] * l
	}
	got, grad := onDevice(t, 2, rows, d, b, o)
	within(t, "loss", []float64{got}, []float64{want}, 1e-6)
	_, wantGrad := Reference(unit, d, b, o)
	wide := make([]float64, len(grad))
	for i, g := range grad {
		wide[i] = float64(g)
	}
	within(t, "gradient", wide, wantGrad, 2e-6)
}

// Settings that do not fit are named.
func TestCheck(t *testing.T) {
	for want, c := range map[string]Config{
		"loss.temperature":        {Kind: InfoNCEKind},
		"loss.margin_strategy":    {Kind: InfoNCEKind, Temperature: 1, MarginStrategy: "some"},
		"loss.matryoshka_weights": {Kind: ExplicitKind, Matryoshka: []int{1}, MatryoshkaWeights: []float64{1, 2}},
		"loss.matryoshka: 9":      {Kind: ExplicitKind, Matryoshka: []int{8, 9}},
	} {
		if err := c.Check(8); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check(8) = %v, want %q in it", err, want)
		}
	}
	if err := (Config{Kind: InfoNCEKind, Temperature: 0.1, Matryoshka: []int{8, 2}}).Check(8); err != nil {
		t.Error(err)
	}
}

// Counts of negatives that are not those of the documents are refused, not read past.
func TestExplicitRefuses(t *testing.T) {
	dev, err := cpu.New(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	l := NewLoss(dev, Options{Explicit: true})
	defer l.Free()
	for _, counts := range [][]int32{nil, {1}, {1, 1}, {3, -1}} {
		if _, _, err := l.Loss(make([]float32, 2*7), 2, Batch{Queries: 2, Docs: make([]uint64, 5), Negatives: counts}); err == nil {
			t.Errorf("negatives %v of 2 queries with 5 documents: no error", counts)
		}
	}
}

// Sizes beyond one block of anchors, against the reference.
func TestLossAgainstReference(t *testing.T) {
	r := random(t)
	for _, c := range []struct{ queries, negatives, d int }{{1, 0, 3}, {1, 2, 8}, {127, 130, 16}, {128, 0, 32}, {300, 77, 24}} {
		for _, o := range []Options{
			{Temperature: 0.05, MaskDuplicates: true},
			{Temperature: 0.05, Symmetric: true, MaskDuplicates: true},
			{Temperature: 0.02, Symmetric: true},
			{Temperature: 0.05, Symmetric: true, Margin: ops.Margin{On: true, Value: 0.05}},
			{Temperature: 0.05, MaskDuplicates: true, Margin: ops.Margin{On: true, Value: -0.1, Relative: true}},
			{Temperature: 0.05, Symmetric: true, Dimensions: []int{c.d, c.d/2 + 1, 2}},
			{Explicit: true},
			{Explicit: true, Dimensions: []int{2, c.d}, Weights: []float64{0.5, 1}},
		} {
			unit, b := randomRows(r, c.queries, c.negatives, c.d)
			rows := make([]float32, len(unit))
			for i, x := range unit {
				rows[i], unit[i] = float32(x), float64(float32(x))
			}
			want, wantGrad := Reference(unit, c.d, b, o)
			loss, grad := onDevice(t, 1, rows, c.d, b, o)
			wide := make([]float64, len(grad))
			for i, g := range grad {
				wide[i] = float64(g)
			}
			bound := 5e-7 // of a mean over many queries
			if c.queries == 1 {
				// The loss of one query is the difference of two float32 numbers as large as a logit, up to 1/tau:
				// half a unit in the last place of each is 2^-24/tau, and nothing averages it away.
				bound = 2 * math.Ldexp(1, -24) / o.Temperature
			}
			what := fmt.Sprintf("%d+%d, %d wide, %+v: ", c.queries, c.negatives, c.d, o)
			within(t, what+"loss", []float64{loss}, []float64{want}, bound)
			within(t, what+"gradient", wide, wantGrad, 2e-6)
		}
	}
}

func TestLossDoesNotDependOnThreads(t *testing.T) {
	r := random(t)
	unit, b := randomRows(r, 200, 150, 48)
	rows := make([]float32, len(unit))
	for i, x := range unit {
		rows[i] = float32(x)
	}
	for _, o := range []Options{
		{Temperature: 0.03, Symmetric: true, MaskDuplicates: true, Margin: ops.Margin{On: true, Value: 0.01}},
		{Temperature: 0.03, Dimensions: []int{48, 16}},
		{Explicit: true},
	} {
		want, wantGrad := onDevice(t, 1, rows, 48, b, o)
		for _, threads := range []int{2, 5} {
			loss, grad := onDevice(t, threads, rows, 48, b, o)
			if loss != want || !slices.Equal(grad, wantGrad) {
				t.Errorf("%+v: %d threads: other bits than one thread", o, threads)
			}
		}
	}
}

func BenchmarkLoss(b *testing.B) {
	r := random(b)
	const queries, d = 1024, 128
	batch := Batch{Queries: queries, Docs: make([]uint64, 2*queries)}
	rows := make([]float32, batch.Rows()*d)
	for i := range rows {
		rows[i] = float32(r.NormFloat64() / math.Sqrt(d))
	}
	for i := range batch.Docs {
		batch.Docs[i] = uint64(i)
	}
	dev, err := cpu.New(2)
	if err != nil {
		b.Fatal(err)
	}
	defer dev.Close()
	l := NewLoss(dev, Options{Temperature: 0.05, MaskDuplicates: true})
	defer l.Free()
	for b.Loop() {
		if _, _, err := l.Loss(rows, d, batch); err != nil {
			b.Fatal(err)
		}
	}
}
