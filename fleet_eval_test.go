package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/coordinator"
)

// suiteScores returns the metrics of every evaluation of a run by step and suite.
func suiteScores(t *testing.T, dir string) map[string]map[string]float64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]float64{}
	for line := range strings.Lines(string(text)) {
		var e coordinator.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Kind == coordinator.SuiteEvaluated {
			out[fmt.Sprintf("%s at %d", e.Suite, e.Step)] = e.Metrics
		}
	}
	return out
}

// Suites of every kind, evaluated by 1, 2 and 3 workers of a run, give the same numbers to the last bit, and those of
// eval to rounding: the run computes adapters beside the weights as eval does.
func TestSuitesOfAFleet(t *testing.T) {
	file := testRun(t, testFull)
	dir := filepath.Dir(file)
	write(t, filepath.Join(dir, "sts.jsonl"), `{"sentence1":"a red fox","sentence2":"a fox","score":4}`+"\n"+`{"sentence1":"a red fox","sentence2":"the sea","score":1}`+"\n"+`{"sentence1":"one","sentence2":"two three","score":2}`+"\n")
	write(t, filepath.Join(dir, "intents", "train.jsonl"), strings.Repeat(`{"text":"pay the bill","label":"money"}`+"\n"+`{"text":"walk home","label":"way"}`+"\n", 8))
	write(t, filepath.Join(dir, "intents", "test.jsonl"), `{"text":"pay","label":"money"}`+"\n"+`{"text":"home","label":"way"}`+"\n")
	write(t, filepath.Join(dir, "rerank.jsonl"), `{"query":"fox","positive":["a red fox"],"negative":["the sea","a bill"]}`+"\n")
	suites := fmt.Sprintf("evaluate.suites=[{path: %s/dev}, {path: 'sts:%[1]s/sts.jsonl'}, {path: 'classification:%[1]s/intents'}, {path: 'rerank:%[1]s/rerank.jsonl'}, {path: 'longembed:needle', lengths: [64], max_length: 64}]", dir)
	var want map[string]map[string]float64
	for workers := 1; workers <= 3; workers++ {
		out := filepath.Join(dir, fmt.Sprint("run", workers))
		code, _, errs := command(t, "train", file, "--quiet", "--set", suites, "--set", "log.dir="+out, "--set", fmt.Sprint("cluster.workers=", workers), "--set", "checkpoint.best=main_score")
		if code != 0 {
			t.Fatalf("train with %d workers = %d: %s", workers, code, errs)
		}
		got := suiteScores(t, out)
		if len(got) != 2*5 {
			t.Fatalf("%d evaluations, want 5 after step 2 and 5 at the end: %v", len(got), got)
		}
		if want == nil {
			want = got
		}
		for suite, metrics := range got {
			if !maps.Equal(metrics, want[suite]) {
				t.Errorf("%d workers: %s = %v, 1 worker: %v", workers, suite, metrics, want[suite])
			}
		}
	}
	store := filepath.Join(dir, "run1", "checkpoints")
	_, sts := evalJSON(t, store, "sts:"+filepath.Join(dir, "sts.jsonl"), "--instruction", "find it")
	if sts.Metrics["cosine_spearman"] != want["sts at 4"]["cosine_spearman"] {
		t.Errorf("eval: cosine_spearman %v, the run's own %v", sts.Metrics["cosine_spearman"], want["sts at 4"]["cosine_spearman"])
	}
}

func TestBestOfNoSuite(t *testing.T) {
	file := testRun(t, testFull)
	code, _, errs := command(t, "train", file, "--dry-run", "--set", "checkpoint.best=cosine_spearman")
	if code != 1 || !strings.Contains(errs, `"cosine_spearman" is a metric of none of the suites; main_score or ndcg@10 of dev`) {
		t.Errorf("train with the best of another kind = %d, %s", code, errs)
	}
}
