package main

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/tokenize/tiny"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
)

// Two suites over one folder keep each its own name, instruction and length.
func TestSuitesOfOneFolder(t *testing.T) {
	tok, err := tiny.Open()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join("configs", "quickstart", "dev")
	config := &configs.Config{Evaluate: evaluate.Config{Suites: []evaluate.Suite{
		{Path: folder, Name: "plain", Instruction: "-"},
		{Path: folder, Name: "asked", Instruction: "find the package", MaxLength: 24},
	}}}
	config.Train.MaxLength = 96
	for i, prompted := range []bool{false, true} {
		s := config.Evaluate.Suites[i]
		suite, err := data.OpenSuite(s.Open(config.Train.MaxLength, "", ""), tok, t.TempDir(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		shard, err := suite.Shard(0)
		if err != nil {
			t.Fatal(err)
		}
		got := false
		for _, text := range shard.Texts {
			got = got || text.Prompt > 0
		}
		if suite.Name != s.Name || got != prompted {
			t.Errorf("suite %d: name %q, prompted %v; want %q, %v", i, suite.Name, got, s.Name, prompted)
		}
	}
}

// A mask token is one of the vocabulary, by its name there or by its text.
func TestMaskToken(t *testing.T) {
	for token, want := range map[string]string{"_": "", "<|mask|>": "", "two words": `loss.mask_token: "two words" is no token of the model's vocabulary`} {
		file := testRun(t, "model: {preset: tiny-diffusion}\nloss: {kind: mntp, mask_token: \""+token+"\"}\n")
		code, _, errs := command(t, "train", file, "--dry-run")
		if (code == 0) != (want == "") || !strings.Contains(errs, want) {
			t.Errorf("mask token %q: code %d, %s, want %q", token, code, errs, want)
		}
	}
}

// The plan says of every suite whose instruction its queries are under.
func TestAsked(t *testing.T) {
	for _, c := range []struct {
		suite evaluate.Suite
		usual string
		want  string
	}{
		{evaluate.Suite{Instruction: "find"}, "seek", `after "find" (its own)`},
		{evaluate.Suite{Instruction: "find", MTEB: "SciFact"}, "seek", `after "find" (of SciFact)`},
		{evaluate.Suite{}, "seek", `after "seek" (the data's, as it has none of its own)`},
		{evaluate.Suite{}, data.NoInstruction, "without instruction (the data's, as it has none of its own)"},
		{evaluate.Suite{Instruction: data.NoInstruction}, "seek", "without instruction (its own)"},
	} {
		if got := asked(c.suite, c.usual); got != c.want {
			t.Errorf("asked(%+v, %q) = %s, want %s", c.suite, c.usual, got, c.want)
		}
	}
	file := testRun(t, testFull)
	code, out, errs := command(t, "train", file, "--dry-run")
	if code != 0 {
		t.Fatalf("train --dry-run = %d: %s", code, errs)
	}
	wants(t, "plan", out, `after "find it" (the data's, as it has none of its own)`)
}
