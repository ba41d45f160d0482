package main

import (
	"testing"

	"github.com/counterpoint-ml/counterpoint/data"
)

func TestMTEBTask(t *testing.T) {
	bright := func(name, exclusion string) evalResult {
		return evalResult{Suite: name, Task: "BrightRetrieval", sheet: data.Sheet{Name: name, Group: data.BrightTask, Exclusion: exclusion}}
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
