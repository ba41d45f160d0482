package main

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data"
)

func TestMTEBTask(t *testing.T) {
	bright := func(name, exclusion string) evalResult {
		return evalResult{Suite: name, Task: "BrightRetrieval", sheet: data.Sheet{Name: "BrightRetrieval-" + name, Group: data.BrightTask, Exclusion: exclusion}}
	}
	for _, c := range []struct {
		r                  evalResult
		split              string
		long               bool
		name, part, subset string
	}{
		{evalResult{Suite: "dev"}, "", false, "dev", "", ""},
		{evalResult{Suite: "x", Task: "SciFact"}, "dev", false, "SciFact", "dev", ""},
		{bright("biology", ""), "", false, "BrightBiologyRetrieval", "standard", ""},
		{bright("earth_science", ""), "earth_science", true, "BrightEarthScienceLongRetrieval", "long", ""},
		{bright("theoremqa_questions", ""), "", false, "BrightTheoremQAQuestionsRetrieval", "standard", ""},
		{bright("pony-excluded-keep", data.KeepExcluded), "", false, "BrightRetrieval", "standard", "pony"},
		{bright("pony-excluded-keep", data.KeepExcluded), "", true, "BrightLongRetrieval", "long", "pony"},
		{bright("pony-excluded-zero", data.ZeroExcluded), "", false, "pony-excluded-zero", "standard", ""},
	} {
		if name, part, subset := mtebTask(&c.r, c.split, c.long); name != c.name || part != c.part || subset != c.subset {
			t.Errorf("mtebTask(%s, %q, %t) = %s, %s, %s, want %s, %s, %s", c.r.Suite, c.split, c.long, name, part, subset, c.name, c.part, c.subset)
		}
	}
}

// The sets of BRIGHT by mteb's name of the benchmark, and by themselves, under both of mteb's rules.
func TestResultsOfBright(t *testing.T) {
	file := testRun(t, testFull)
	store := testCheckpoints(t, file)
	dir := t.TempDir()
	for _, set := range []string{"pony", "aops"} {
		write(t, filepath.Join(dir, "documents", set+".jsonl"), `{"id":"d1","content":"a red fox"}`+"\n"+`{"id":"d2","content":"the sea"}`)
		write(t, filepath.Join(dir, "examples", set+".jsonl"), `{"id":"1","query":"fox","gold_ids":["d1"],"excluded_ids":["d2"]}`)
	}
	for _, c := range []struct {
		name  string
		args  []string
		files []string
	}{
		{"published", []string{"mteb:BrightRetrieval:" + dir}, []string{"BrightAopsRetrieval.json", "BrightPonyRetrieval.json"}},
		{"by itself", []string{"bright:" + dir}, []string{"BrightAopsRetrieval.json", "BrightPonyRetrieval.json"}},
		{"kept", []string{"mteb:BrightRetrieval:" + dir, "--excluded", "keep"}, []string{"BrightRetrieval.json"}},
		{"zero", []string{"bright:" + dir, "--excluded", "zero"}, []string{"aops-excluded-zero.json", "pony-excluded-zero.json"}},
	} {
		results := filepath.Join(t.TempDir(), "results")
		code, out, errs := command(t, append([]string{"eval", store, "--results", results, "--model-name", "m", "--revision", "r"}, c.args...)...)
		if code != 0 {
			t.Fatalf("eval %s = %d: %s", c.name, code, errs)
		}
		wants(t, c.name, out, "excluded documents")
		found, err := filepath.Glob(filepath.Join(results, "m", "r", "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range found {
			if filepath.Base(f) != "model_meta.json" {
				names = append(names, filepath.Base(f))
			}
		}
		if !slices.Equal(names, c.files) {
			t.Errorf("%s: results are %v, want %v", c.name, names, c.files)
		}
	}
}

// Only what was generated has a length at its end.
func TestSuffix(t *testing.T) {
	for _, c := range []struct {
		suite, group string
		want         int
	}{{"passkey-256", "passkey", 256}, {"passkey-256-2", "passkey", 0}, {"news-21", data.FollowIRTask, 0}, {"STSBenchmark-2", "MTEB, the paper's tasks", 0}, {"dev-3", "", 0}} {
		if got, ok := suffix(evalResult{Suite: c.suite, Group: c.group}); got != c.want || ok != (c.want > 0) {
			t.Errorf("suffix(%s of %s) = %d, %t, want %d", c.suite, c.group, got, ok, c.want)
		}
	}
}
