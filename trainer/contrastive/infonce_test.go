package contrastive

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
)

func random(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 2))
}

// rows returns unit rows of a batch with ragged negatives, some documents equal.
func randomRows(r *rand.Rand, queries, negatives, d int) ([]float64, Batch) {
	b := Batch{Queries: queries, Docs: make([]uint64, queries+negatives)}
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
	l := NewInfoNCE(dev, o)
	defer l.Free()
	if loss, grad, err = l.Loss(rows, d, b); err != nil {
		t.Fatal(err)
	}
	return loss, grad
}

func TestReferenceAgainstFiniteDifferences(t *testing.T) {
	r := random(t)
	const d, h = 5, 1e-6
	for _, symmetric := range []bool{false, true} {
		for _, mask := range []bool{false, true} {
			rows, b := randomRows(r, 4, 3, d)
			o := Options{Temperature: 0.1, Symmetric: symmetric, MaskDuplicates: mask}
			_, grad := Reference(rows, d, b, o)
			for i := range rows {
				up, down := slices.Clone(rows), slices.Clone(rows)
				up[i] += h
				down[i] -= h
				a, _ := Reference(up, d, b, o)
				c, _ := Reference(down, d, b, o)
				if want := (a - c) / (2 * h); math.Abs(grad[i]-want) > 1e-7*max(1, math.Abs(want)) {
					t.Errorf("symmetric %v, masked %v: gradient %d = %v, finite difference %v", symmetric, mask, i, grad[i], want)
				}
			}
		}
	}
}

// Sizes beyond one block of anchors, against the reference.
func TestInfoNCEAgainstReference(t *testing.T) {
	r := random(t)
	for _, c := range []struct{ queries, negatives, d int }{{1, 0, 3}, {1, 2, 8}, {127, 130, 16}, {128, 0, 32}, {300, 77, 24}} {
		for _, o := range []Options{{0.05, false, true}, {0.05, true, true}, {0.02, true, false}} {
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
			within(t, "loss", []float64{loss}, []float64{want}, bound)
			within(t, "gradient", wide, wantGrad, 2e-6)
		}
	}
}

func TestInfoNCEDoesNotDependOnThreads(t *testing.T) {
	r := random(t)
	unit, b := randomRows(r, 200, 150, 48)
	rows := make([]float32, len(unit))
	for i, x := range unit {
		rows[i] = float32(x)
	}
	o := Options{0.03, true, true}
	want, wantGrad := onDevice(t, 1, rows, 48, b, o)
	for _, threads := range []int{2, 5} {
		loss, grad := onDevice(t, threads, rows, 48, b, o)
		if loss != want || !slices.Equal(grad, wantGrad) {
			t.Errorf("%d threads: other bits than one thread", threads)
		}
	}
}

func BenchmarkInfoNCE(b *testing.B) {
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
	l := NewInfoNCE(dev, Options{0.05, false, true})
	defer l.Free()
	for b.Loop() {
		if _, _, err := l.Loss(rows, d, batch); err != nil {
			b.Fatal(err)
		}
	}
}
