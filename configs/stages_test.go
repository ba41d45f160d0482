package configs

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestStages(t *testing.T) {
	c, err := Load("testdata/stages.good.yaml", Layers{Set: []string{"train.seed=9", "stages[more].train.batch=16", "stages[2].train.schedule.peak=1e-5", "stages[1].data[0].limit=7"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "both" || c.Log.Dir != "" || len(c.Stages) != 4 || c.Loss.Kind != "mntp" {
		t.Fatalf("loaded %+v", c)
	}
	mntp, more, whole, last := c.Stages[0].Config, c.Stages[1].Config, c.Stages[2].Config, c.Stages[3].Config
	for _, s := range c.Stages {
		if want := "both-" + s.Name; s.Config.Name != want || s.Config.Log.Dir != filepath.Join("runs", "both", s.Name) || s.Config.Train.Seed != 9 {
			t.Errorf("stage %s is the run %s in %s with seed %d", s.Name, s.Config.Name, s.Config.Log.Dir, s.Config.Train.Seed)
		}
	}
	for i, want := range []string{"", Continued, Merged, ""} {
		if got := c.Stages[i].Previous; got != want {
			t.Errorf("previous of %s = %q, want %q", c.Stages[i].Name, got, want)
		}
	}
	if mntp.Loss.Kind != "mntp" || mntp.Loss.Symmetric || mntp.Loss.MaskRate != 0.2 || mntp.Train.Batch != 32 || mntp.Train.Schedule.Peak != 1e-4 {
		t.Errorf("mntp: a loss of another kind replaces the file's: %+v %+v", mntp.Loss, mntp.Train)
	}
	if more.Loss.Temperature != 0.02 || more.Train.Batch != 16 || more.Train.Schedule.Peak != 1e-3 || more.Train.Schedule.Warmup != 2 || more.Data[0].Limit != 7 || more.Data[0].Weight != 0 || len(more.Data) != 1 {
		t.Errorf("more: %+v %+v %+v", more.Loss, more.Train, more.Data)
	}
	if whole.Model.LoRA != nil || whole.Train.Batch != 8 || whole.Train.Schedule.Peak != 1e-5 || whole.Data[0].Weight != 2 {
		t.Errorf("whole: %+v %+v", whole.Model, whole.Train)
	}
	if last.Model.LoRA.Rank != 4 || last.Model.LoRA.Alpha != 32 {
		t.Errorf("last: %+v", last.Model.LoRA)
	}
	for set, want := range map[string]string{
		"train.steps=3":              "the file has stages[0].train.steps, which this does not reach",
		"stages[none].train.batch=1": "unknown key",
		"stages[9].train.batch=1":    "the list has 4 elements",
		"stages[0].train.batch=x":    `--set stages[0].train.batch=x: stages[0].train.batch: found "x"`,
		"stages[0].train.bach=1":     `did you mean "stages[].train.batch"`,
		"stages[0]=1":                "unknown key",
	} {
		if _, err := Load("testdata/stages.good.yaml", Layers{Set: []string{set}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--set %s: error %v, want %q in it", set, err, want)
		}
	}
}
