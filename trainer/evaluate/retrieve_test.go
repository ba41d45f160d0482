package evaluate

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data"
)

// One query at 0 degrees; documents a to e at growing angles, so that a is nearest and e has a negative score.
func pointing(sheet data.Sheet) (data.Sheet, []float32) {
	sheet.Name, sheet.Queries, sheet.Documents = "fan", []string{"q"}, []string{"a", "b", "c", "d", "e"}
	return sheet, []float32{1, 0, 1, 0, 0.8, 0.6, 0.6, 0.8, 0, 1, -0.6, 0.8}
}

func TestRetrieveOfPoolsAndExclusions(t *testing.T) {
	for _, c := range []struct {
		name  string
		sheet data.Sheet
		want  string
	}{
		{"all", data.Sheet{}, "a b c d e"},
		{"removed", data.Sheet{Excluded: map[string][]string{"q": {"a", "nowhere"}}}, "b c d e"},
		{"all removed", data.Sheet{Excluded: map[string][]string{"q": {"a", "b", "c", "d", "e"}}}, ""},
		{"zero", data.Sheet{Excluded: map[string][]string{"q": {"a", "b"}}, Exclusion: data.ZeroExcluded}, "c d b a e"},
		{"kept", data.Sheet{Excluded: map[string][]string{"q": {"a"}}, Exclusion: data.KeepExcluded}, "a b c d e"},
		{"pool", data.Sheet{Pools: map[string][]string{"q": {"d", "b"}}}, "b d"},
		{"pool that lists a document twice", data.Sheet{Pools: map[string][]string{"q": {"b", "d", "b"}}}, "b d"},
		{"pool with strangers", data.Sheet{Pools: map[string][]string{"q": {"x", "c"}}}, "c"},
		{"excluded from a pool", data.Sheet{Pools: map[string][]string{"q": {"a", "b", "c"}}, Excluded: map[string][]string{"q": {"b"}}}, "a c"},
		{"kept in a pool", data.Sheet{Pools: map[string][]string{"q": {"a", "b"}}, Excluded: map[string][]string{"q": {"b"}}, Exclusion: data.KeepExcluded}, "a b"},
		{"pools without the query's", data.Sheet{Pools: map[string][]string{"r": {"a"}}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			sheet, rows := pointing(c.sheet)
			run, err := Retrieve(&sheet, rows, 2)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, h := range Rank(run["q"], Single) {
				got = append(got, h.Document)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("Retrieve = %v, want %s", got, c.want)
			}
		})
	}
}

// What a comparison says of the queries has the mean that the table says, whatever metric stands for the suite.
func TestPerQueryIsTheMean(t *testing.T) {
	sheet := data.Sheet{
		Name: "News-21", Queries: []string{"1-og", "1-changed", "2-og", "2-changed"}, Documents: []string{"a", "b"},
		Qrels:   data.Qrels{"1-og": {"a": 1}, "1-changed": {"b": 1}, "2-og": {"a": 1, "b": 2}, "2-changed": {"a": 1}},
		Changed: map[string][]string{"1": {"a"}, "2": {"b"}},
	}
	run := Run{}
	for i, q := range sheet.Queries {
		run[q] = []Hit{{"a", float64(i % 2)}, {"b", 0.5}}
	}
	names := append(Metrics(), "p-mrr", "score")
	for _, main := range names {
		sheet.Main = main
		scores, err := ScoreSheet(&sheet, run)
		if err != nil {
			t.Fatal(err)
		}
		each, err := PerQuery(&sheet, run)
		if err != nil {
			t.Fatalf("PerQuery(%s): %v", main, err)
		}
		sum := 0.0
		for _, q := range sortedKeys(each) {
			sum += each[q]
		}
		if got := fmt.Sprintf("%.12f", sum/float64(len(each))); got != fmt.Sprintf("%.12f", scores[MainScore]) {
			t.Errorf("%s: the mean over %d queries is %s, want %v", main, len(each), got, scores[MainScore])
		}
	}
	if sheet.Main = "score"; followScore(&sheet) != "ndcg@5" || !slices.Contains(names, followScore(&sheet)) {
		t.Errorf("the score of %s is %s, want ndcg@5", sheet.Name, followScore(&sheet))
	}
}

// Suites that are subsets or splits of one task of mteb's share its file.
func TestWriteResultsOfSubsets(t *testing.T) {
	score := func(v float64) map[string]float64 { return map[string]float64{MainScore: v} }
	folder, err := WriteResults(t.TempDir(), ModelMeta{Name: "me/m", Revision: "r"}, []TaskResult{
		{Task: "Bright", Split: "standard", Subset: "pony", Scores: score(0.25), Seconds: 1},
		{Task: "STS", Scores: score(1)},
		{Task: "Bright", Split: "standard", Subset: "aops", Scores: score(0.5), Seconds: 2},
		{Task: "Bright", Split: "long", Subset: "pony", Scores: score(0.75)},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Scores map[string][]struct {
			Subset string  `json:"hf_subset"`
			Main   float64 `json:"main_score"`
		}
		Seconds float64 `json:"evaluation_time"`
	}
	text, err := os.ReadFile(filepath.Join(folder, "Bright.json"))
	if err == nil {
		err = json.Unmarshal(text, &got)
	}
	if want := "map[long:[{pony 0.75}] standard:[{pony 0.25} {aops 0.5}]]"; err != nil || fmt.Sprint(got.Scores) != want || got.Seconds != 3 {
		t.Errorf("Bright.json = %v in %v s, %v, want %s in 3 s", got.Scores, got.Seconds, err, want)
	}
	if _, err := os.Stat(filepath.Join(folder, "STS.json")); err != nil {
		t.Error(err)
	}
}
