package metric

import (
	"errors"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// rows draws n embeddings of few distinct values, so that many similarities tie.
func rows(t *rapid.T, name string, n, width int) Rows {
	values := rapid.SliceOfN(rapid.SampledFrom([]float32{-1, -0.5, 0, 0.25, 1, 2}), n*width, n*width).Draw(t, name)
	return Rows{Data: values, Width: width}
}

func TestCorrelationProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 40).Draw(t, "n")
		value := rapid.Float64Range(-5, 5)
		x := rapid.SliceOfN(value, n, n).Draw(t, "x")
		y := rapid.SliceOfN(value, n, n).Draw(t, "y")
		for name, of := range map[string]func(a, b []float64) float64{"Pearson": Pearson, "Spearman": Spearman, "Kendall": Kendall} {
			r := of(x, y)
			if math.IsNaN(r) {
				continue // a side is constant
			}
			if math.Abs(r) > 1+1e-12 {
				t.Fatalf("%s = %v, want -1 to 1", name, r)
			}
			if back := of(y, x); math.Abs(back-r) > 1e-12 {
				t.Fatalf("%s the other way = %v, want %v", name, back, r)
			}
			order := rapid.Permutation(sequence(n)).Draw(t, "order")
			a, b := make([]float64, n), make([]float64, n)
			for i, j := range order {
				a[i], b[i] = x[j], y[j]
			}
			if again := of(a, b); math.Abs(again-r) > 1e-9 {
				t.Fatalf("%s in another order = %v, want %v", name, again, r)
			}
			if turned := of(negated(x), y); math.Abs(turned+r) > 1e-9 {
				t.Fatalf("%s of -x = %v, want %v", name, turned, -r)
			}
		}
		// Ranks do not see a monotone map.
		cubes := make([]float64, n)
		for i, v := range x {
			cubes[i] = math.Cbrt(v)
		}
		if a, b := Spearman(x, y), Spearman(cubes, y); !(math.Abs(a-b) <= 1e-12) && !math.IsNaN(a) && len(distinctFloats(x)) == len(distinctFloats(cubes)) {
			t.Fatalf("Spearman of cube roots = %v, want %v", b, a)
		}
	})
}

func distinctFloats(x []float64) []float64 {
	out := slices.Clone(x)
	slices.Sort(out)
	return slices.Compact(out)
}

// Divide against every threshold tried one by one.
func TestDivideIsTheBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "n")
		scores := rapid.SliceOfN(rapid.SampledFrom([]float64{0, 0.5, 1, 1.5, 2, 3}), n, n).Draw(t, "scores")
		labels := rapid.SliceOfN(rapid.IntRange(0, 1), n, n).Draw(t, "labels")
		d := Divide(scores, labels)
		cuts := distinctFloats(scores)
		var accuracy, f1 float64
		for i := 1; i < len(cuts); i++ {
			var tp, fp, fn, tn float64
			for j, s := range scores {
				switch above := s >= cuts[i]; {
				case above && labels[j] == 1:
					tp++
				case above:
					fp++
				case labels[j] == 1:
					fn++
				default:
					tn++
				}
			}
			accuracy = max(accuracy, (tp+tn)/float64(n))
			f1 = max(f1, ratio(2*tp, 2*tp+fp+fn))
		}
		if math.Abs(d.Accuracy-accuracy) > 1e-12 || math.Abs(d.F1-f1) > 1e-12 {
			t.Fatalf("Divide = accuracy %v, F1 %v, want %v and %v", d.Accuracy, d.F1, accuracy, f1)
		}
		if d.AP < 0 || d.AP > 1+1e-12 {
			t.Fatalf("Divide: AP = %v, want 0 to 1", d.AP)
		}
		// A positive that moves up never lowers AP.
		i := rapid.IntRange(0, n-1).Draw(t, "raised")
		if labels[i] == 1 {
			raised := slices.Clone(scores)
			raised[i] = 4
			if up := Divide(raised, labels).AP; up < d.AP-1e-12 {
				t.Fatalf("Divide: AP = %v after a positive has moved up, want at least %v", up, d.AP)
			}
		}
	})
}

func TestAgreeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "n")
		a := rapid.SliceOfN(rapid.IntRange(0, 5), n, n).Draw(t, "a")
		b := rapid.SliceOfN(rapid.IntRange(0, 5), n, n).Draw(t, "b")
		g, err := Agree(a, b)
		if err != nil {
			t.Fatal(err)
		}
		h, _ := Agree(b, a)
		if math.Abs(g.V-h.V) > 1e-9 || math.Abs(g.Homogeneity-h.Completeness) > 1e-9 || math.Abs(g.ARI-h.ARI) > 1e-9 || math.Abs(g.AMI-h.AMI) > 1e-6 {
			t.Fatalf("Agree the other way = %+v, want %+v turned round", h, g)
		}
		if g.V < 0 || g.V > 1+1e-12 || g.AMI > 1+1e-9 || g.ARI > 1+1e-12 {
			t.Fatalf("Agree = %+v, want at most 1", g)
		}
		names := make([]string, n) // other names change nothing
		for i, v := range b {
			names[i] = string(rune('z' - v))
		}
		if renamed, _ := Agree(a, names); math.Abs(renamed.V-g.V) > 1e-9 || math.Abs(renamed.AMI-g.AMI) > 1e-9 {
			t.Fatalf("Agree with other names = %+v, want %+v", renamed, g)
		}
		if same, _ := Agree(a, a); math.Abs(same.V-1) > 1e-9 || math.Abs(same.AMI-1) > 1e-9 || same.ARI != 1 {
			t.Fatalf("Agree with itself = %+v, want 1", same)
		}
	})
}

func TestLabelScoresProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "n")
		labels := rapid.SliceOfN(rapid.IntRange(0, 3), n, n).Draw(t, "labels")
		predictions := rapid.SliceOfN(rapid.IntRange(0, 3), n, n).Draw(t, "predictions")
		scores, err := LabelScores(labels, predictions)
		if err != nil {
			t.Fatal(err)
		}
		for name, v := range scores {
			if v < 0 || v > 1+1e-12 {
				t.Fatalf("LabelScores: %s = %v, want 0 to 1", name, v)
			}
		}
		if math.Abs(scores["recall_weighted"]-scores["accuracy"]) > 1e-12 {
			t.Fatalf("LabelScores: weighted recall %v, accuracy %v, want them equal", scores["recall_weighted"], scores["accuracy"])
		}
		perfect, _ := LabelScores(labels, labels)
		if perfect["accuracy"] != 1 || math.Abs(perfect["f1"]-1) > 1e-12 {
			t.Fatalf("LabelScores of the truth = %v, want 1", perfect)
		}
	})
}

// Every centre is nearest to its own rows, inertia is what they say, and the seed decides everything.
func TestMiniBatchProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 80).Draw(t, "n")
		width := rapid.IntRange(1, 4).Draw(t, "width")
		x := rows(t, "x", n, width)
		k := MiniBatch{Clusters: rapid.IntRange(1, min(n, 6)).Draw(t, "k"), Batch: rapid.IntRange(1, 100).Draw(t, "batch"), Seed: rapid.Uint32().Draw(t, "seed")}
		a, err := k.Fit(x)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := k.Fit(x); !slices.Equal(a.Clusters, b.Clusters) || !slices.Equal(a.Centers, b.Centers) {
			t.Fatal("Fit twice gives two clusterings")
		}
		sum := 0.0
		for i, c := range a.Clusters {
			least, own := math.Inf(1), 0.0
			for j := range k.Clusters {
				d := 0.0
				for f, v := range x.Row(i) {
					e := float64(v) - a.Centers[j*width+f]
					d += e * e
				}
				least = min(least, d)
				if j == c {
					own = d
				}
			}
			if own > least+1e-9 {
				t.Fatalf("row %d: %v from its centre, %v from another", i, own, least)
			}
			sum += own
		}
		if math.Abs(sum-a.Inertia) > 1e-9*(1+sum) {
			t.Fatalf("inertia = %v, want %v", a.Inertia, sum)
		}
	})
}

// The gradient vanishes where FitLogistic stops, and no direction from there lowers the objective.
func TestFitLogisticIsAMinimum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 30).Draw(t, "n")
		width := rapid.IntRange(1, 4).Draw(t, "width")
		x := rows(t, "x", n, width)
		labels := rapid.SliceOfN(rapid.IntRange(0, 3), n, n).Draw(t, "labels")
		if len(distinct(labels)) < 2 {
			return
		}
		m, err := FitLogistic(x, labels, LogisticOptions{Tolerance: 1e-9, Iterations: 1000, Decrease: 1e-300})
		if err != nil {
			t.Fatal(err)
		}
		at := func(shift float64) float64 {
			sum := 0.0
			for _, w := range m.Weights {
				for j, v := range w {
					sum += (v + shift*float64(j+1)) * (v + shift*float64(j+1)) / 2
				}
			}
			for i := range n {
				logits := m.Decision(x.Row(i))
				for h := range logits {
					for j, v := range x.Row(i) {
						logits[h] += shift * float64(j+1) * float64(v)
					}
					logits[h] += shift * float64(h)
				}
				c, _ := slices.BinarySearch(m.Classes, labels[i])
				sum += logLoss(logits, c)
			}
			return sum
		}
		here := at(0)
		if math.Abs(here-m.Objective) > 1e-9*(1+here) {
			t.Fatalf("objective = %v, want %v", m.Objective, here)
		}
		for _, shift := range []float64{-1e-3, 1e-3, 0.1, -0.1} {
			if there := at(shift); there < here-1e-9 {
				t.Fatalf("objective %v at the fit, %v beside it (%v)", here, there, shift)
			}
		}
	})
}

func TestBadInput(t *testing.T) {
	good := Rows{Data: []float32{1, 2, 3, 4}, Width: 2}
	nan := Rows{Data: []float32{1, 2, 3, float32(math.NaN())}, Width: 2}
	for name, task := range map[string]Task{
		"no pairs":           STS{},
		"rows and gold":      STS{X: good, Y: good, Gold: []float64{1}},
		"widths":             STS{X: good, Y: Rows{Data: []float32{1, 2}, Width: 1}, Gold: []float64{1, 2}},
		"label 2":            Pairs{X: good, Y: good, Labels: []int{0, 2}},
		"one label":          Classification{Train: good, Test: good, TrainLabels: []int{1, 1}, TestLabels: []int{0, 1}},
		"no levels":          Clustering{X: good},
		"level without rows": Clustering{X: good, Levels: [][]int{{None, None}}},
		"no sets":            ClusteringSets{},
		"bitext widths":      Bitext{X: good, Y: Rows{Data: []float32{1, 2, 3}, Width: 3}},
		"no summaries":       Summaries{},
		"too few rows":       Clustering{X: good, Levels: [][]int{{0, 1}}, RoundSize: 1},
	} {
		if scores, err := task.Score(); err == nil {
			t.Errorf("%s: Score = %v, want an error", name, scores)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	for name, task := range map[string]Task{
		"STS": STS{X: good, Y: nan, Gold: []float64{1, 2}}, "Pairs": Pairs{X: good, Y: nan, Labels: []int{0, 1}},
		"Bitext": Bitext{X: good, Y: nan}, "Clustering": Clustering{X: nan, Levels: [][]int{{0, 1}}},
		"Summaries":      Summaries{Documents: []Summary{{Human: good, Machine: nan, Gold: []float64{1, 2}}}},
		"Classification": Classification{Train: nan, Test: good, TrainLabels: []int{0, 1}, TestLabels: []int{0, 1}},
	} {
		_, err := task.Score()
		if finite := (*NonFiniteError)(nil); !errors.As(err, &finite) || finite.Row != 1 {
			t.Errorf("%s: Score of NaN = %v, want a NonFiniteError of row 1", name, err)
		}
	}
}
