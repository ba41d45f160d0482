package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/worker"
)

const (
	testLoRA = "model: {preset: tiny-diffusion, lora: {rank: 4, alpha: 8, dropout: 0.1}}\nloss: {temperature: 0.05}\n"
	testFull = "model: {preset: tiny-causal, pooling: last_token}\nloss: {temperature: 0.05, symmetric: true}\n"
	testLM   = "model: {preset: tiny-diffusion}\nloss: {kind: masked-diffusion}\n"
)

// command runs counterpoint in this process and returns its exit code and what it printed.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	err := run(t.Context(), args, &out, &errs)
	var exit exitError
	switch {
	case errors.As(err, &exit):
		code = exit.code
	case err != nil:
		code = 1
		fmt.Fprintln(&errs, "counterpoint:", err)
	}
	return code, out.String(), errs.String()
}

// testRun writes pairs, a suite and a run file of the given model and loss. Its log folder is in the test's.
func testRun(t *testing.T, lines string) (file string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache")) // suites' indexes
	var pairs, corpus, queries, qrels strings.Builder
	qrels.WriteString("query-id\tcorpus-id\tscore\n")
	for i := range 40 {
		fmt.Fprintf(&pairs, `{"query":"what is item %d of the list","positive":"item %d is described by these words and the number %d","negatives":["something else, number %d"]}`+"\n", i, i, i*i, i+7)
		fmt.Fprintf(&corpus, `{"_id":"d%d","title":"","text":"thing %d of the shop, with some %s words about it"}`+"\n", i, i, strings.Repeat("more ", i%7))
		if i < 10 {
			fmt.Fprintf(&queries, `{"_id":"q%d","text":"thing %d"}`+"\n", i, i)
			fmt.Fprintf(&qrels, "q%d\td%d\t1\n", i, i)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "dev", "qrels"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "pairs.jsonl"), pairs.String())
	write(t, filepath.Join(dir, "dev", "corpus.jsonl"), corpus.String())
	write(t, filepath.Join(dir, "dev", "queries.jsonl"), queries.String())
	write(t, filepath.Join(dir, "dev", "qrels", "dev.tsv"), qrels.String())
	file = filepath.Join(dir, "run.yaml")
	write(t, file, "name: small\n"+lines+`data: [{path: pairs.jsonl, instruction: find it}]
train: {batch: 16, steps: 4, max_length: 16, shard_tokens: 256, schedule: {peak: 1e-3, warmup: 1}}
evaluate: {every: 2, suites: [{path: dev}]}
log: {dir: `+filepath.Join(dir, "run")+"}\n")
	return file
}

// testCheckpoints trains a run of testRun for two steps as one worker does, writes a checkpoint of each and returns
// their folder.
func testCheckpoints(t *testing.T, file string) string {
	t.Helper()
	config, err := configs.Load(file, configs.Layers{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := prepare(config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	sub, err := p.submission()
	if err != nil {
		t.Fatal(err)
	}
	dev, err := cpu.New(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	info := worker.Run{RunInfo: wire.RunInfo{Name: sub.Name, Identity: sub.Identity, Spec: sub.Spec, Store: p.store}}
	c := newCrew(1, 0, slog.New(slog.DiscardHandler))
	built, err := c.build(t.Context(), info, dev)
	if err != nil {
		t.Fatal(err)
	}
	tr := built.(alone)
	for step := range int64(2) {
		header, err := p.set.Header(step)
		if err != nil {
			t.Fatal(err)
		}
		var shards []*data.Shard
		for i := range header.Tokens {
			read, err := p.set.Shards(step, []int{i})
			if err != nil {
				t.Fatal(err)
			}
			shards = append(shards, &read[0])
		}
		o, err := tr.Step(context.Background(), header, step, tr.Solo(shards, header.Slots))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.write(t.Context(), info, tr.State(), o.Parameters); err != nil {
			t.Fatal(err)
		}
	}
	return p.store
}

// wants reports each part that text lacks.
func wants(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s lacks %q:\n%s", what, part, text)
		}
	}
}
