package evaluate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The files in testdata/trec_eval are what the real programs printed for run.txt and qrels.txt (10.0 without the query
// 999, since it stops at judged queries that are not in the run).
func TestReportIsTrecEvals(t *testing.T) {
	dir := filepath.Join("testdata", "trec_eval")
	run, tag, err := OpenRun(filepath.Join(dir, "run.txt"))
	if err != nil {
		t.Fatal(err)
	}
	qrels, err := OpenJudgments(filepath.Join(dir, "qrels.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for file, c := range map[string]struct {
		Evaluation
		measures string
		queries  bool
	}{
		"9.0.8-q-all.txt": {Evaluation{}, "all_trec", true},
		"9.0.8-c-M10.txt": {Evaluation{Complete: true, Depth: 10}, "official", false},
		"9.0.8-l2-J.txt":  {Evaluation{Level: 2, JudgedOnly: true}, "official", false},
		"10.0-q-all.txt":  {Evaluation{Precision: Double}, "all_trec", true},
	} {
		want, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		measures, err := c.ParseMeasures(c.measures)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		if err := c.Score(run, qrels, measures).Write(&got, tag, c.queries, true); err != nil {
			t.Fatal(err)
		}
		ours, theirs := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
		if len(ours) != len(theirs) {
			t.Errorf("%s: %d lines, want %d", file, len(ours), len(theirs))
		}
		for i := range min(len(ours), len(theirs)) {
			if ours[i] != theirs[i] {
				t.Errorf("%s:%d: %q, want %q", file, i+1, ours[i], theirs[i])
			}
		}
	}
}
