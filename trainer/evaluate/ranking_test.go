package evaluate

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data"
	"pgregory.net/rapid"
)

// drawHits draws hits of which many tie, some in float32 only.
func drawHits(t *rapid.T) []Hit {
	n := rapid.IntRange(1, 60).Draw(t, "hits")
	order := rapid.Permutation(sequence(n)).Draw(t, "order")
	score := rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1, 1 + 1e-9, 1 - 1e-9, -1, 2e39, 3e39, -2e39, 1e-50, -1e-50, 0.5, 1e-45})
	hits := make([]Hit, n)
	for i, d := range order {
		hits[i] = Hit{Document: fmt.Sprint("d", d), Score: score.Draw(t, "score")}
	}
	return hits
}

func sequence(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func TestRankAgainstComparisons(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hits := drawHits(t)
		for _, p := range []Precision{Single, Double} {
			want := slices.Clone(hits)
			slices.SortFunc(want, p.compare)
			before := slices.Clone(hits)
			if got := Rank(hits, p); !slices.Equal(got, want) {
				t.Fatalf("Rank(%v, %d) = %v, want %v", hits, p, got, want)
			}
			if !slices.Equal(hits, before) {
				t.Fatal("Rank changed its argument")
			}
			if again := Rank(want, p); !slices.Equal(again, want) || &again[0] == &want[0] {
				t.Fatalf("Rank of ranked hits = %v, want a copy", again)
			}
		}
	})
}

// Measures from the definitions, each by itself, in float64.
func reference(ranked []Hit, judged map[string]int, k int) map[string]float64 {
	var grades []int
	for _, g := range judged {
		grades = append(grades, g)
	}
	slices.Sort(grades)
	slices.Reverse(grades)
	dcg := func(g []int) float64 {
		sum := 0.0
		for i, v := range g {
			sum += math.Max(float64(v), 0) / math.Log2(float64(i)+2)
		}
		return sum
	}
	var own []int
	for _, h := range ranked {
		own = append(own, judged[h.Document]) // 0 where there is none
	}
	first := own[:min(k, len(own))]
	relevant := func(g []int) float64 {
		n := 0.0
		for _, v := range g {
			if v > 0 {
				n++
			}
		}
		return n
	}
	all := relevant(grades)
	ap, rr := 0.0, 0.0
	for i := range first {
		if own[i] > 0 {
			ap += relevant(own[:i+1]) / float64(i+1)
			if rr == 0 {
				rr = 1 / float64(i+1)
			}
		}
	}
	return map[string]float64{
		"ndcg_cut": ratio(dcg(first), dcg(grades[:min(k, len(grades))])), "map_cut": ratio(ap, all), "recall": ratio(relevant(first), all),
		"P": relevant(first) / float64(k), "mrr": rr, "success": math.Min(1, relevant(first)),
	}
}

func TestMeasureProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hits := drawHits(t)
		judged := map[string]int{"missing": rapid.IntRange(0, 3).Draw(t, "missing")}
		for i := range hits {
			if g := rapid.IntRange(-3, 4).Draw(t, "grade"); g > -3 {
				judged[hits[i].Document] = g
			}
		}
		k := rapid.IntRange(1, 70).Draw(t, "k")
		ranked := Rank(hits, Single)
		r := Judge(ranked, judged)
		for name, want := range reference(ranked, judged, k) {
			got, err := r.Measure(fmt.Sprintf("%s.%d", name, k))
			if err != nil || math.Abs(got-want) > 1e-12 {
				t.Fatalf("%s.%d = %v, %v, want %v", name, k, got, err, want)
			}
		}
		measures, err := ParseMeasures("all_trec", "mrr.5", "recall_cap.5")
		if err != nil {
			t.Fatal(err)
		}
		run, qrels := Run{"q": hits}, data.Qrels{"q": judged}
		shuffled := Run{"q": rapid.Permutation(hits).Draw(t, "shuffled")}
		a, b := Evaluation{}.Score(run, qrels, measures), Evaluation{}.Score(shuffled, qrels, measures)
		for i, m := range measures {
			v := a.Values[0][i]
			if !(v == b.Values[0][i] || math.IsNaN(v) && math.IsNaN(b.Values[0][i])) {
				t.Fatalf("%s = %v, of the same hits in another order %v", m.Name, v, b.Values[0][i])
			}
			switch m.define.name {
			case "utility", "num_q", "num_ret", "num_rel", "num_rel_ret", "num_nonrel_judged_ret", "G", "Rndcg", "ndcg_rel":
				continue // not shares
			}
			if v < 0 || v > 1+1e-12 {
				t.Fatalf("%s = %v, want 0 to 1", m.Name, v)
			}
		}
		// A relevant document that changes places with the one above, which is not, lowers no measure.
		for i := 1; i < len(ranked); i++ {
			if judged[ranked[i].Document] < 1 || judged[ranked[i-1].Document] > 0 {
				continue
			}
			better := slices.Clone(ranked)
			better[i], better[i-1] = better[i-1], better[i]
			up := Judge(better, judged)
			for _, name := range []string{"map", "ndcg", "recip_rank", "bpref", "Rprec", fmt.Sprintf("ndcg_cut.%d", k), fmt.Sprintf("P.%d", k)} {
				was, _ := r.Measure(name)
				if is, _ := up.Measure(name); is < was-1e-12 {
					t.Fatalf("%s = %v after rank %d moved up, %v before", name, is, i+1, was)
				}
			}
		}
	})
}

func TestParseMeasures(t *testing.T) {
	names := func(list []Measure) (out []string) {
		for _, m := range list {
			out = append(out, m.Name)
		}
		return out
	}
	for text, want := range map[string][]string{
		"map":                     {"map"},
		"P.10,5":                  {"P_5", "P_10"},
		"ndcg_cut_10":             {"ndcg_cut_10"},
		"iprec_at_recall.0.1,.25": {"iprec_at_recall_0.10", "iprec_at_recall_0.25"},
		"iprec_at_recall_0.50":    {"iprec_at_recall_0.50"},
		"success":                 {"success_1", "success_5", "success_10"},
		"set_F.0.5":               {"set_F_0.5"},
		"ndcg.1=3,2=4":            {"ndcg_1=3,2=4"},
	} {
		if got, err := ParseMeasures(text); err != nil || !slices.Equal(names(got), want) {
			t.Errorf("ParseMeasures(%q) = %v, %v, want %v", text, names(got), err, want)
		}
	}
	if got, err := ParseMeasures("P.5", "map", "P.5"); err != nil || !slices.Equal(names(got), []string{"map", "P_5"}) {
		t.Errorf("ParseMeasures of P.5, map, P.5 = %v, %v, want map and P_5", names(got), err)
	}
	for text, want := range map[string]string{
		"ndgc_cut.10": `"ndcg_cut"`, "P.0": `"0"`, "P.x": `"x"`, "map.3": `"3"`, "ndcg.1": `"1"`, "utility.1,2": "4 are needed", "zzzzzzzzzzzzzz": "official",
	} {
		if got, err := ParseMeasures(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseMeasures(%q) = %v, %v, want an error with %s", text, names(got), err, want)
		}
	}
}

// What is written in any form is read back.
func TestRunFilesRoundTrip(t *testing.T) {
	dir := t.TempDir()
	run := Run{"q1": {{"a", 2}, {"b", -0.1}, {"é", 1e-7}}, "q2": {{"a", 1}}}
	qrels := data.Qrels{"q1": {"a": 2, "b": 0}, "q2": {"c": -1, "é": 1}}
	for _, ending := range []string{"txt", "tsv", "json", "txt.gz", "tsv.gz", "json.gz"} {
		path := filepath.Join(dir, "run."+ending)
		if err := WriteRunFile(path, run, Single, "tag"); err != nil {
			t.Fatal(err)
		}
		got, tag, err := OpenRun(path)
		if err != nil {
			t.Fatal(err)
		}
		for query, hits := range run {
			if !slices.Equal(Rank(got[query], Single), Rank(hits, Single)) {
				t.Errorf("%s: %s = %v, want %v", path, query, got[query], hits)
			}
		}
		if len(got) != len(run) || strings.HasPrefix(ending, "txt") && tag != "tag" {
			t.Errorf("%s: %d queries, tag %q", path, len(got), tag)
		}
		path = filepath.Join(dir, "qrels."+ending)
		if err := WriteJudgmentsFile(path, qrels); err != nil {
			t.Fatal(err)
		}
		if got, err := OpenJudgments(path); err != nil || !reflect.DeepEqual(got, qrels) {
			t.Errorf("%s = %v, %v, want %v", path, got, err, qrels)
		}
	}
	left, _ := filepath.Glob(filepath.Join(dir, ".tmp*"))
	if blank := (Run{"q": {{"a b", 1}}}); WriteRunFile(filepath.Join(dir, "x.txt"), blank, Single, "t") == nil || len(left) > 0 {
		t.Errorf("an id with a blank was written to a TREC file, or temporary files are left: %v", left)
	}
}

func TestRunFileErrors(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"q Q0 a 1 1 t\nr Q0 a 1 1 t\nq Q0 a 2 0 t\n":     `:3: the document "a" of the query "q" is in line 1`,
		"q Q0 a 1 1 t\n\nq Q0 b 1 nan t\n":               `:3: found the score "nan"`,
		"query-id\tcorpus-id\tscore\nq\ta\t1\nq\ta\n":    ":3: found 2 columns",
		"query-id\tcorpus-id\tscore\nq\ta\t1\nq\ta\t2\n": ":3: the document",
		"{\"q\": {\"a\": 1,\n \"b\": \"x\"}}":            ":2: found x",
		"{\"q\": {\"a\": 1,\n \"a\": 2}}":                ":2: the document",
		"{\"q\": {\"a\": 1}":                             "ends early",
		"{\"q\": [1]}":                                   "an object of documents is needed",
		"{}":                                             "an empty run",
		"":                                               "an empty run",
		"{\"q\": {\"a\": 1}} 2":                          "more after",
	} {
		path := filepath.Join(dir, "run")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if run, _, err := OpenRun(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("OpenRun of %q = %v, %v, want an error with %q", text, run, err, want)
		}
	}
}

func FuzzOpenRun(f *testing.F) {
	for _, text := range []string{"q Q0 d 1 0.5 t\n", "q Q0 d 1 0.5 t\nr Q0 d 1 1 t\nq Q0 e 2 0.25 t", "query-id\tcorpus-id\tscore\nq\td\t1\n", `{"q": {"d": 1.5}}`, "\ufeffq Q0 d 1 1e400 t\r\n", "\x1f\x8b"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "run")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		run, _, err := OpenRun(path)
		if (err == nil) != (len(run) > 0) {
			t.Fatalf("OpenRun(%q) = %v, %v", text, run, err)
		}
		for query, hits := range run { // what was read has one place for each document
			seen := map[string]bool{}
			for _, h := range Rank(hits, Single) {
				if seen[h.Document] || math.IsNaN(h.Score) {
					t.Fatalf("OpenRun(%q): %s of %s = %v", text, h.Document, query, h.Score)
				}
				seen[h.Document] = true
			}
		}
		if qrels, err := OpenJudgments(path); (err == nil) != (len(qrels) > 0) {
			t.Fatalf("OpenJudgments(%q) = %v, %v", text, qrels, err)
		}
	})
}
