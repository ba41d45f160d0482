package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPortable(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("pairs.jsonl", "")
	write("dev/x", "")
	file := filepath.Join(dir, "run.yaml")
	text := `# a run
name: small
model: {preset: tiny-causal}
data:
  - {path: pairs.jsonl, instruction: "pairs.jsonl"} # ours
  - path: "far/more.jsonl"
  - path: /data/third.jsonl
train: {steps: 4, schedule: {peak: 1e-3}}
evaluate: {every: 2, suites: [{path: dev}, {path: 'sts:dev/x'}]}
checkpoint: {dir: ./ckpt}
`
	out, moved, err := Portable(file, []byte(text), Layers{})
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	want := strings.NewReplacer(
		"{path: pairs.jsonl,", `{path: "`+at("pairs.jsonl")+`",`, `"far/more.jsonl"`, `"`+at("far/more.jsonl")+`"`,
		"{path: dev}", `{path: "`+at("dev")+`"}`, "'sts:dev/x'", `"sts:`+at("dev/x")+`"`, "./ckpt", `"`+at("ckpt")+`"`,
	).Replace(text)
	if string(out) != want {
		t.Errorf("Portable =\n%s\nwant\n%s", out, want)
	}
	missing := map[string]bool{}
	for _, m := range moved {
		missing[m.Key] = m.Missing
	}
	if len(moved) != 5 || missing["data[0].path"] || !missing["data[1].path"] {
		t.Errorf("moved %+v", moved)
	}

	again, moved, err := Portable("other.yaml", out, Layers{})
	if err != nil || string(again) != string(out) || len(moved) != 0 {
		t.Errorf("Portable of what is portable changes it, %v:\n%s%+v", err, again, moved)
	}

	// Layers are written into the file, which then means the same without them.
	t.Chdir(dir)
	layers := Layers{Env: []string{"COUNTERPOINT_TRAIN_SEED=7"}, Set: []string{"train.steps=9", "data[0].path=pairs.jsonl", "data[1].path=pairs.jsonl", "data[2].path=pairs.jsonl"}}
	out, _, err = Portable(file, []byte(text), layers)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode("elsewhere/run.yaml", out, Layers{})
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got.Train.Steps != 9 || got.Train.Seed != 7 || got.Data[2].Path != at("pairs.jsonl") || got.Evaluate.Suites[0].Path != at("dev") || got.Data[0].Instruction != "pairs.jsonl" {
		t.Errorf("steps %d, seed %d, data %+v, suites %+v\n%s", got.Train.Steps, got.Train.Seed, got.Data, got.Evaluate.Suites, out)
	}
}

// The run that a portable file describes is the run of the file: every example stays what it is.
func TestPortableExamples(t *testing.T) {
	files, err := filepath.Glob("examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out, moved, err := Portable(file, text, Layers{})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		var other []Moved
		if _, _, err = read("run.yaml", out, Layers{}, &other); err != nil || len(other) > 0 {
			t.Errorf("%s is not portable: %v, %+v", file, err, other)
		}
		if len(moved) == 0 {
			t.Errorf("%s: no path was moved", file)
		}
	}
}
