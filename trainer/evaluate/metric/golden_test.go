package metric

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
)

// number is a float64 that may be written "NaN", "+Inf" or "-Inf".
type number float64

func (n *number) UnmarshalJSON(raw []byte) error {
	f, err := strconv.ParseFloat(strings.Trim(string(raw), `"`), 64)
	*n = number(f)
	return err
}

func (n number) near(got, tolerance float64) bool {
	want := float64(n)
	return math.Abs(got-want) <= tolerance || got == want || math.IsNaN(got) && math.IsNaN(want)
}

// decode reads a file of the similarity goldens, gzipped or not.
func decode(t *testing.T, name string, into any) {
	t.Helper()
	f, err := os.Open(filepath.Join(golden.Dir(t, "metrics"), "similarity", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := json.NewDecoder(r).Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// vectors decode as float32, which is how they were written.
type vectors [][]float32

func (v vectors) rows() Rows {
	var r Rows
	for _, row := range v {
		r.Width = len(row)
		r.Data = append(r.Data, row...)
	}
	return r
}

func TestCorrelationGolden(t *testing.T) {
	var cases []struct {
		X, Y              []float64
		RankX             []float64 `json:"rank_x"`
		RankY             []float64 `json:"rank_y"`
		Pearson, Spearman number
		Kendall           number `json:"kendall_tau_b"`
	}
	decode(t, "correlation.json", &cases)
	for i, c := range cases {
		if got := Ranks(c.X); !slices.Equal(got, c.RankX) {
			t.Errorf("case %d: Ranks(x) = %v, want %v", i, got, c.RankX)
		}
		if got := Ranks(c.Y); !slices.Equal(got, c.RankY) {
			t.Errorf("case %d: Ranks(y) = %v, want %v", i, got, c.RankY)
		}
		for _, m := range []struct {
			name string
			got  float64
			want number
		}{{"Pearson", Pearson(c.X, c.Y), c.Pearson}, {"Spearman", Spearman(c.X, c.Y), c.Spearman}, {"Kendall", Kendall(c.X, c.Y), c.Kendall}} {
			if !m.want.near(m.got, 1e-12) {
				t.Errorf("case %d: %s = %v, want %v", i, m.name, m.got, m.want)
			}
		}
	}
}

// expectation are the values of one case in three computations, and the range of those that depend on ties.
type expectation struct {
	Float64   map[string]number   `json:"float64"`
	MTEB      map[string]number   `json:"mteb_float32"`
	Sensitive map[string][]number `json:"tie_sensitive"`
}

func (e expectation) compare(t *testing.T, name string, scores Scores) {
	t.Helper()
	if len(e.Float64) == 0 {
		t.Errorf("%s: nothing is expected", name)
	}
	for key := range e.Float64 {
		got, ok := scores[key]
		if !ok {
			t.Errorf("%s: no score %s", name, key)
			continue
		}
		if span, ok := e.Sensitive[key]; ok {
			if lo, hi := float64(span[0])-0.02, float64(span[1])+0.02; !(got >= lo && got <= hi) {
				t.Errorf("%s: %s = %v, want %v to %v", name, key, got, lo, hi)
			}
			continue
		}
		if want := e.Float64[key]; !want.near(got, 1e-9) {
			t.Errorf("%s: %s = %v, want %v", name, key, got, want)
		}
		if want := e.MTEB[key]; !want.near(got, 1e-5) {
			t.Errorf("%s: %s = %v, mteb has %v", name, key, got, want)
		}
	}
}

func TestSTSGolden(t *testing.T) {
	var cases []struct {
		Case     string
		X, Y     vectors
		Gold     []float64
		Expected struct {
			expectation
			Pairs map[string][]number `json:"pair_values_float64"`
		}
	}
	decode(t, "sts.json.gz", &cases)
	compared := 0
	for _, c := range cases {
		x, y := c.X.rows(), c.Y.rows()
		scores, err := STS{X: x, Y: y, Gold: c.Gold}.Score()
		if err != nil {
			t.Fatal(err)
		}
		c.Expected.compare(t, c.Case, scores)
		for name, of := range map[string]Similarity{"cosine_scores": Cosine, "manhattan_distances": Manhattan, "euclidean_distances": Euclidean, "dot_scores": Dot} {
			want := c.Expected.Pairs[name]
			compared += len(want)
			for i, got := range of.paired(x, y)[:len(want)] {
				if strings.HasSuffix(name, "distances") {
					got = -got
				}
				if !want[i].near(got, 1e-9) {
					t.Errorf("%s: %s of pair %d = %v, want %v", c.Case, name, i, got, want[i])
				}
			}
		}
	}
	if compared == 0 {
		t.Error("sts.json.gz has no pair values")
	}
}

func TestPairsGolden(t *testing.T) {
	var cases []struct {
		Case     string
		X, Y     vectors
		Labels   []int
		Expected expectation
	}
	decode(t, "pair-classification.json.gz", &cases)
	for _, c := range cases {
		scores, err := Pairs{X: c.X.rows(), Y: c.Y.rows(), Labels: c.Labels}.Score()
		if err != nil {
			t.Fatal(err)
		}
		c.Expected.compare(t, c.Case, scores)
	}
}

func TestDivideGolden(t *testing.T) {
	var cases []struct {
		Scores    []float64
		Labels    []int
		High, Low map[string]float64
		HighWant  map[string]float64 `json:"high_is_similar"`
		LowWant   map[string]float64 `json:"low_is_similar"`
	}
	decode(t, "pair-small.json", &cases)
	for i, c := range cases {
		for direction, want := range map[float64]map[string]float64{1: c.HighWant, -1: c.LowWant} {
			scores := slices.Clone(c.Scores)
			if direction < 0 {
				scores = negated(scores)
			}
			d := Divide(scores, c.Labels)
			got := map[string]float64{
				"accuracy": d.Accuracy, "f1": d.F1, "precision": d.Precision, "recall": d.Recall, "ap": d.AP,
				"accuracy_threshold": d.AccuracyThreshold, "f1_threshold": d.F1Threshold,
			}
			for name, w := range want {
				g := got[name]
				if strings.HasSuffix(name, "threshold") && (name == "f1_threshold" || d.Accuracy > 0) {
					g *= direction // a threshold of distances
				}
				if math.Abs(g-w) > 1e-12 {
					t.Errorf("case %d, direction %v: %s = %v, want %v", i, direction, name, g, w)
				}
			}
		}
	}
}

func TestAgreeGolden(t *testing.T) {
	var cases []struct {
		Case                      string
		Labels                    []string
		Assignment                []int
		V                         number `json:"v_measure"`
		Homogeneity, Completeness number
		NMI                       number `json:"nmi"`
		AMI                       number `json:"ami"`
		ARI                       number `json:"ari"`
	}
	decode(t, "v-measure.json", &cases)
	for _, c := range cases {
		g, err := Agree(c.Labels, c.Assignment)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []struct {
			name      string
			got       float64
			want      number
			tolerance float64
		}{
			{"V", g.V, c.V, 1e-9},
			{"homogeneity", g.Homogeneity, c.Homogeneity, 1e-9},
			{"completeness", g.Completeness, c.Completeness, 1e-9},
			{"NMI", g.NMI, c.NMI, 1e-9},
			{"AMI", g.AMI, c.AMI, 1e-7},
			{"ARI", g.ARI, c.ARI, 1e-9},
		} {
			if !m.want.near(m.got, m.tolerance) {
				t.Errorf("%s: %s = %v, want %v", c.Case, m.name, m.got, m.want)
			}
		}
	}
}

func TestIndexListsGolden(t *testing.T) {
	var want struct {
		Shuffle []struct {
			Seed   uint32
			N      int
			Result []int
		} `json:"numpy_shuffle"`
		Sample, Choices []struct {
			Seed   uint32
			N, K   int
			Result []int
		}
		PythonSample []struct {
			Seed   uint32
			N, K   int
			Result []int
		} `json:"python_sample"`
		PythonChoices []struct {
			Seed   uint32
			N, K   int
			Result []int
		} `json:"python_choices"`
		Both []struct {
			Seed      uint32
			Documents int
			Sampled   []int
			Rounds    [][]int `json:"first_16_of_rounds_of_16"`
		} `json:"python_sample_then_choices"`
	}
	decode(t, "index-lists.json.gz", &want)
	if len(want.Shuffle) == 0 || len(want.PythonSample) == 0 || len(want.PythonChoices) == 0 || len(want.Both) == 0 {
		t.Fatal("index-lists.json.gz lacks a list")
	}
	for _, c := range want.Shuffle {
		if got := NewNumpy(c.Seed).Permutation(c.N); !slices.Equal(got, c.Result) {
			t.Errorf("RandomState(%d).shuffle of %d = %v, want %v", c.Seed, c.N, got, c.Result)
		}
	}
	for _, c := range want.PythonSample {
		if got := NewPython(c.Seed).Sample(c.N, c.K); !slices.Equal(got, c.Result) {
			t.Errorf("Random(%d).sample(%d, %d) = %v, want %v", c.Seed, c.N, c.K, got, c.Result)
		}
	}
	for _, c := range want.PythonChoices {
		if got := NewPython(c.Seed).Choices(c.N, c.K); !slices.Equal(got, c.Result) {
			t.Errorf("Random(%d).choices(%d, %d) = %v, want %v", c.Seed, c.N, c.K, got, c.Result)
		}
	}
	for _, c := range want.Both {
		r := NewPython(c.Seed)
		got := Sampled(r, c.Documents, float64(len(c.Sampled))/float64(c.Documents))
		if !slices.Equal(got, c.Sampled) {
			t.Errorf("sample of %d = %v, want %v", c.Documents, got, c.Sampled)
		}
		for n, round := range c.Rounds {
			if got := r.Choices(len(c.Sampled), len(round)); !slices.Equal(got, round) {
				t.Errorf("round %d of %d = %v, want %v", n, c.Documents, got, round)
			}
		}
	}
}

func TestBitextGolden(t *testing.T) {
	var cases []struct {
		Case     string
		X, Y     vectors
		Nearest  []int
		Expected map[string]number
	}
	decode(t, "bitext.json.gz", &cases)
	for _, c := range cases {
		task := Bitext{X: c.X.rows(), Y: c.Y.rows()}
		if got, err := task.Nearest(); err != nil || !slices.Equal(got, c.Nearest) {
			t.Errorf("%s: Nearest = %v, %v, want %v", c.Case, got, err, c.Nearest)
		}
		scores, err := task.Score()
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range c.Expected {
			if !want.near(scores[name], 1e-9) {
				t.Errorf("%s: %s = %v, want %v", c.Case, name, scores[name], want)
			}
		}
	}
}

func TestSummariesGolden(t *testing.T) {
	var c struct {
		Documents []struct {
			Human, Machine vectors
			Gold           []float64
			Skipped        bool
		}
		Expected map[string]number
	}
	decode(t, "summarisation.json.gz", &c)
	var task, kept Summaries
	for _, d := range c.Documents {
		s := Summary{Human: d.Human.rows(), Machine: d.Machine.rows(), Gold: d.Gold}
		task.Documents = append(task.Documents, s)
		if !d.Skipped {
			kept.Documents = append(kept.Documents, s)
		}
	}
	for _, task := range []Summaries{task, kept} {
		scores, err := task.Score()
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range c.Expected { // computed from float32 cosines
			if !want.near(scores[name], 1e-5) {
				t.Errorf("%s = %v, want %v", name, scores[name], want)
			}
		}
	}
}
