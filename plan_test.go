package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/trainer/optim"
)

func TestDryRun(t *testing.T) {
	for name, c := range map[string]struct {
		lines string
		want  []string
	}{
		"lora": {testLoRA, []string{
			"LoRA of rank 4, alpha 8, dropout 0.1 on all linears", "bidirectional attention, mean pooling",
			"31 negatives a query: 15 in-batch and 16 hard (1 a row)", "InfoNCE, temperature 0.05", "no second forward pass",
		}},
		"full": {testFull, []string{"all train", "causal attention, last token pooling", "both directions"}},
		"annealed": {
			"model: {preset: tiny-causal, attention: annealed, anneal_steps: 2}\nloss: {matryoshka: [128, 32], matryoshka_weights: [1, 0.5], mask_margin: 0.1}\n",
			[]string{
				"causal attention, opened to bidirectional over 2 steps (evaluation: bidirectional), mean pooling", "more similar than the positive by 0.1 masked",
				"summed over the first 128, 32 dimensions with weights 1, 0.5",
			},
		},
		"explicit": {"model: {preset: tiny-causal}\nloss: {kind: explicit}\n", []string{"explicit negatives", "1 hard negatives a query, its own alone"}},
		"mntp": {"model: {preset: tiny-diffusion}\nloss: {kind: mntp, mask_token: _}\n", []string{
			"masked next-token prediction (mntp): each token masked with probability 0.2", `mask token "_"`,
		}},
		"language": {testLM, []string{"masked diffusion", "activations of the largest shard"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := testRun(t, c.lines)
			code, out, errs := command(t, "train", file, "--dry-run")
			if code != 0 {
				t.Fatalf("train --dry-run = %d: %s", code, errs)
			}
			wants(t, "the plan", out, c.want...)
			wants(t, "the plan", out, "small, identity ", "pairs: 40 rows", "0 lines skipped", "rises to 0.001 over 1 step, then falls linearly to 0",
				"dev: 10 queries, 40 documents", "every 2 steps and at the end", "tokens/s", "replaced after 1s")
			if n := strings.Count(out, "\n"); n < 15 || n > 25 {
				t.Errorf("the plan has %d lines, want about 20:\n%s", n, out)
			}
			for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
				if len(line) > 12 && line[12] != ' ' {
					t.Errorf("line %q is not aligned", line)
				}
			}
			left, err := os.ReadDir(filepath.Join(filepath.Dir(file), "run"))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range left {
				if e.Name() != "cache" && e.Name() != "log.txt" {
					t.Errorf("a dry run left %s", e.Name())
				}
			}
		})
	}
}

// The format is told from the rows and shown; naming it changes neither data nor identity.
func TestDryRunNamesFormat(t *testing.T) {
	file := testRun(t, testLoRA)
	pairs := filepath.Join(filepath.Dir(file), "pairs.jsonl")
	text, err := os.ReadFile(pairs)
	if err != nil {
		t.Fatal(err)
	}
	echo := strings.ReplaceAll(string(text), `"negatives"`, `"negative"`)
	write(t, pairs, echo)
	var runs []string
	for _, data := range []string{"{path: pairs.jsonl}", "{path: pairs.jsonl, format: echo}"} {
		code, out, errs := command(t, "train", file, "--dry-run", "--set", "data=["+data+"]")
		if code != 0 {
			t.Fatalf("train --dry-run = %d: %s", code, errs)
		}
		wants(t, "the plan", out, "rows in the format echo, ")
		first, _, _ := strings.Cut(out, "\n")
		runs = append(runs, first)
	}
	if runs[0] != runs[1] {
		t.Errorf("the run is %q with the format told and %q with it named", runs[0], runs[1])
	}
}

// Lines that are skipped are counted and shown.
func TestDryRunNamesFaults(t *testing.T) {
	file := testRun(t, testLoRA)
	pairs := filepath.Join(filepath.Dir(file), "pairs.jsonl")
	text, err := os.ReadFile(pairs)
	if err != nil {
		t.Fatal(err)
	}
	write(t, pairs, string(text)+"{\n")
	code, out, errs := command(t, "train", file, "--dry-run", "--set", "data=[{path: pairs.jsonl, on_error: skip}]")
	if code != 0 {
		t.Fatalf("train --dry-run = %d: %s", code, errs)
	}
	wants(t, "the plan", out, "1 line skipped", "pairs.jsonl:41")
}

func TestWords(t *testing.T) {
	for _, c := range []struct {
		schedule optim.Schedule
		want     string
	}{
		{optim.Schedule{Peak: 1e-4, Warmup: 100, Decay: optim.Linear}, "rises to 0.0001 over 100 steps, then falls linearly to 0"},
		{optim.Schedule{Peak: 0.01, Decay: optim.Cosine, Floor: 0.1}, "0.01, then falls along a cosine to 0.001"},
		{optim.Schedule{Peak: 0.01, Warmup: 1, Decay: optim.Constant}, "rises to 0.01 over 1 step, then stays"},
	} {
		if got := words(c.schedule, 1000); got != c.want {
			t.Errorf("words(%+v) = %q, want %q", c.schedule, got, c.want)
		}
	}
}

func TestUnits(t *testing.T) {
	for _, c := range [][2]string{
		{count(0), "0"},
		{count(999), "999"},
		{count(1234), "1.23 k"},
		{count(918144), "918 k"},
		{count(1_500_000_000), "1.50 G"},
		{size(0), "0 B"},
		{size(999), "999 B"},
		{size(3.67e6), "3.67 MB"},
		{size(45e9), "45.0 GB"},
		{grouped(1234567), "1,234,567"},
		{grouped(-1000), "-1,000"},
		{grouped(12), "12"},
		{span(0.421), "0.42 s"},
		{span(200), "3 min 20 s"},
		{span(18600), "5 h 10 min"},
		{span(270000), "3.12 days"},
		{plural(1, "row", "rows"), "1 row"},
		{plural(2000, "row", "rows"), "2,000 rows"},
	} {
		if c[0] != c[1] {
			t.Errorf("got %q, want %q", c[0], c[1])
		}
	}
	if got := evaluations(150, 50, true); got != 4 {
		t.Errorf("evaluations(150, 50, true) = %d, want 4", got)
	}
}
