package metric

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
)

func TestLabelScoresGolden(t *testing.T) {
	var cases []struct {
		Labels, Predictions []int
		Scores              map[string]*number
	}
	decode(t, "classification-scores.json", &cases)
	for i, c := range cases {
		got, err := LabelScores(c.Labels, c.Predictions)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range c.Scores {
			value, ok := got[name]
			if want == nil {
				if ok {
					t.Errorf("case %d: %s = %v, want none", i, name, value)
				}
				continue
			}
			if !ok || !want.near(value, 1e-12) {
				t.Errorf("case %d: %s = %v, want %v", i, name, value, *want)
			}
		}
	}
}

// labelsOf reads the labels of a JSONL file in order.
func labelsOf(t *testing.T, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for lines := bufio.NewScanner(z); lines.Scan(); {
		var row struct {
			Label json.RawMessage `json:"label"`
		}
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		out = append(out, string(row.Label))
	}
	return out
}

func TestUndersampleGolden(t *testing.T) {
	var cases []struct {
		Case        string
		Labels      []string
		Rows        int
		Seed        uint32
		PerLabel    int `json:"samples_per_label"`
		Experiments [][]int
	}
	decode(t, "undersampling.json.gz", &cases)
	for _, c := range cases {
		t.Run(c.Case, func(t *testing.T) {
			if c.Labels == nil {
				c.Labels = labelsOf(t, filepath.Join(golden.Data(t, "banking77"), "train.jsonl.gz"))
			}
			if len(c.Labels) != c.Rows {
				t.Fatalf("%d labels, want %d", len(c.Labels), c.Rows)
			}
			labels, _ := numbered(c.Labels)
			got := Undersample(labels, c.Seed, c.PerLabel, len(c.Experiments))
			for e, want := range c.Experiments {
				if !slices.Equal(got[e], want) {
					t.Errorf("experiment %d = %v, want %v", e, got[e], want)
				}
			}
		})
	}
}

func TestClassificationGolden(t *testing.T) {
	var cases []struct {
		Case        string
		TrainX      vectors `json:"train_x"`
		TrainLabels []int   `json:"train_labels"`
		TestX       vectors `json:"test_x"`
		TestLabels  []int   `json:"test_labels"`
		Experiments []struct {
			Rows        []int `json:"train_rows"`
			Predictions []int
			Scores      map[string]*number
			Iterations  int
			Differ      int     `json:"predictions_that_differ_when_converged"`
			Margin      float64 `json:"smallest_margin_converged"`
			Converged   *struct {
				Objective float64
				Decision  json.RawMessage `json:"decision_function"`
				Intercept []float64
				Coef      [][]float64
			}
		}
		Mean map[string]*number
	}
	decode(t, "classification.json.gz", &cases)
	for _, c := range cases {
		t.Run(c.Case, func(t *testing.T) {
			task := Classification{Train: c.TrainX.rows(), Test: c.TestX.rows(), TrainLabels: c.TrainLabels, TestLabels: c.TestLabels}
			early, err := task.Run()
			if err != nil {
				t.Fatal(err)
			}
			task.Logistic = LogisticOptions{Tolerance: 1e-10, Iterations: 10000, Decrease: 1e-300}
			converged, err := task.Run()
			if err != nil {
				t.Fatal(err)
			}
			accuracy := 0.0
			for i, e := range c.Experiments {
				if !slices.Equal(early[i].Rows, e.Rows) {
					t.Errorf("experiment %d: rows %v, want %v", i, early[i].Rows, e.Rows)
				}
				// Stopped as scikit-learn stops, the path is the same: the iterations, but for the last bits' say, and the
				// predictions.
				if d := early[i].Iterations - e.Iterations; d < -1 || d > 1 {
					t.Errorf("experiment %d: %d iterations, want %d", i, early[i].Iterations, e.Iterations)
				}
				unit := 1 / float64(len(c.TestLabels))
				if got, want := early[i].Scores["accuracy"], float64(*e.Scores["accuracy"]); math.Abs(got-want) > unit*float64(e.Differ)+1e-9 {
					t.Errorf("experiment %d: accuracy %v, want %v", i, got, want)
				}
				accuracy += early[i].Scores["accuracy"] / float64(len(c.Experiments))
				differ := 0
				for j, p := range converged[i].Predictions {
					if p != e.Predictions[j] {
						differ++
					}
				}
				if differ != e.Differ && e.Margin > 1e-4 {
					t.Errorf("experiment %d: %d predictions differ at the optimum, want %d", i, differ, e.Differ)
				}
				if e.Converged == nil {
					continue
				}
				labels := make([]int, len(e.Rows))
				for j, row := range e.Rows {
					labels[j] = c.TrainLabels[row]
				}
				m, err := FitLogistic(task.Train.Select(e.Rows), labels, task.Logistic)
				if err != nil {
					t.Fatal(err)
				}
				if m.Objective > e.Converged.Objective+1e-6 {
					t.Errorf("experiment %d: objective %v, want %v", i, m.Objective, e.Converged.Objective)
				}
				largest := 0.0
				for j, want := range decisions(t, e.Converged.Decision) {
					for h, z := range m.Decision(task.Test.Row(j)) {
						largest = max(largest, math.Abs(z-want[h]))
					}
				}
				if !(largest <= 1e-4) {
					t.Errorf("experiment %d: decisions differ by %v, want 1e-4", i, largest)
				}
				t.Logf("experiment %d: objective %.3g above the optimum after %d iterations, decisions within %.3g", i, m.Objective-e.Converged.Objective, m.Iterations, largest)
			}
			if want := float64(*c.Mean["accuracy"]); math.Abs(accuracy-want) > 1e-3 {
				t.Errorf("mean accuracy %v, want %v", accuracy, want)
			}
			t.Logf("mean accuracy %v, scikit-learn %v", accuracy, *c.Mean["accuracy"])
		})
	}
}

// decisions are rows of logits, written as a plain list where there is one a row.
func decisions(t *testing.T, raw json.RawMessage) [][]float64 {
	t.Helper()
	var rows [][]float64
	if json.Unmarshal(raw, &rows) == nil {
		return rows
	}
	rows = nil
	var flat []float64
	if err := json.Unmarshal(raw, &flat); err != nil {
		t.Fatal(err)
	}
	for _, v := range flat {
		rows = append(rows, []float64{v})
	}
	return rows
}

// Averages over a few seeds lie within four standard deviations + 0.01 of scikit-learn's over thirty; with the draws
// of scikit-learn the rounds of its seed agree one by one, as long as no draw falls between float32 and float64.
func TestKMeansGolden(t *testing.T) {
	var cases []struct {
		Separation float64
		X          vectors
		Labels     []string
		Boot       struct {
			Rounds    int
			RoundSize int       `json:"round_size"`
			Batch     int       `json:"batch_size"`
			Seed42    []float64 `json:"seed_42_v_measures"`
			V         float64   `json:"v_measure_mean"`
			VStd      float64   `json:"v_measure_std"`
			AMI       float64   `json:"ami_mean"`
			AMIStd    float64   `json:"ami_std"`
		} `json:"bootstrapped"`
		Single struct {
			Batch int     `json:"batch_size"`
			V     float64 `json:"v_measure_mean"`
			VStd  float64 `json:"v_measure_std"`
		} `json:"single_fit"`
		Best struct {
			Inertia float64
		} `json:"best_of_50_kmeans"`
	}
	decode(t, "k-means.json.gz", &cases)
	const seeds = 10
	same, all := 0, 0
	for _, c := range cases {
		labels, k := numbered(c.Labels)
		x := c.X.rows()
		var v, ami, single float64
		least := math.Inf(1)
		for seed := uint32(42); seed < 42+seeds; seed++ {
			rounds, err := Clustering{X: x, Levels: [][]int{labels}, Rounds: c.Boot.Rounds, RoundSize: c.Boot.RoundSize, Batch: c.Boot.Batch, Seed: seed}.Run()
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range rounds {
				v += r.V / float64(seeds*len(rounds))
				ami += r.AMI / float64(seeds*len(rounds))
				if seed == 42 {
					all++
					if math.Abs(r.V-c.Boot.Seed42[i]) < 1e-9 {
						same++
					}
				}
			}
			scores, err := ClusteringSets{Sets: []Rows{x}, Labels: [][]int{labels}, Batch: c.Single.Batch, Seed: seed}.Score()
			if err != nil {
				t.Fatal(err)
			}
			single += scores["v_measure"] / seeds
		}
		for seed := range uint32(50) {
			fitted, err := MiniBatch{Clusters: k, Batch: c.Single.Batch, Seed: seed + 1}.Fit(x)
			if err != nil {
				t.Fatal(err)
			}
			least = min(least, fitted.Inertia)
		}
		for _, m := range []struct {
			name            string
			got, want, span float64
		}{{"V", v, c.Boot.V, c.Boot.VStd}, {"AMI", ami, c.Boot.AMI, c.Boot.AMIStd}, {"V of single fits", single, c.Single.V, c.Single.VStd}} {
			if !(math.Abs(m.got-m.want) <= 4*m.span+0.01) {
				t.Errorf("separation %v: %s = %v over %d seeds, want %v within %v", c.Separation, m.name, m.got, seeds, m.want, 4*m.span+0.01)
			}
		}
		if !(least >= c.Best.Inertia*(1-1e-6) && least <= c.Best.Inertia*1.01) {
			t.Errorf("separation %v: inertia %v, want %v to 1 %% above", c.Separation, least, c.Best.Inertia)
		}
		t.Logf("separation %v: V %.4f (scikit-learn %.4f), single %.4f (%.4f), inertia %.6g (%.6g)", c.Separation, v, c.Boot.V, single, c.Single.V, least, c.Best.Inertia)
	}
	t.Logf("%d of %d rounds of seed 42 agree with scikit-learn's to 1e-9", same, all)
	if 2*same < all {
		t.Errorf("%d of %d rounds of seed 42 agree with scikit-learn's, want at least half", same, all)
	}
}
