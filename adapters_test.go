package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
)

// firstCheckpoint returns a checkpoint of a short LoRA run, and the run's file.
func firstCheckpoint(t *testing.T) (dir, file string) {
	t.Helper()
	file = testRun(t, testLoRA)
	dir, err := checkpoints.Find(context.Background(), testCheckpoints(t, file), nil)
	if err != nil {
		t.Fatal(err)
	}
	return dir, file
}

// identityOf prepares a run and returns its identity.
func identityOf(t *testing.T, file string, sets ...string) (string, error) {
	t.Helper()
	config, err := configs.Load(file, configs.Layers{Set: sets})
	if err != nil {
		t.Fatal(err)
	}
	p, err := prepare(config, slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	defer p.close()
	_, digest, err := p.identity()
	return digest, err
}

// What a run begins with is part of its identity by content: a folder may move, and an adapter of another base is refused.
func TestAdaptersOfARun(t *testing.T) {
	first, file := firstCheckpoint(t)
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.CopyFS(moved, os.DirFS(first)); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, set := range []string{"train.clip=1", "model.merge=[" + first + "]", "model.adapter=" + first} {
		digest, err := identityOf(t, file, set)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[digest]; ok {
			t.Errorf("%s and %s have the same identity", set, other)
		}
		seen[digest] = set
		if again, err := identityOf(t, file, strings.Replace(set, first, moved, 1)); err != nil || again != digest {
			t.Errorf("%s, moved: identity %.12s, %v, want %.12s", set, again, err, digest)
		}
	}
	for set, want := range map[string]string{
		"model.adapter=" + first + " train.seed=43":         "random weights are those of train.seed",
		"model.merge=[" + first + "] train.seed=43":         "model.merge[0]",
		"model.adapter=" + filepath.Dir(filepath.Dir(file)): "adapter_config.json",
	} {
		if _, err := identityOf(t, file, strings.Fields(set)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", set, err, want)
		}
	}
	code, _, errs := command(t, "train", file, "--dry-run", "--set", "model.adapter="+first, "--set", "model.lora.rank=8")
	if code == 0 || !strings.Contains(errs, "model.lora.rank: layers.0") {
		t.Errorf("an adapter of another rank: exit %d, %q", code, errs)
	}
}

// A worker takes adapters that are here with the right content as they are, and fetches all others.
func TestAdaptersAreFetched(t *testing.T) {
	golden.Dir(t, "backbones")
	root := golden.Dir(t, "lora")
	local, other := filepath.Join(root, "qwen2-all"), filepath.Join(root, "llama-all")
	digests := make([]string, 2)
	for i, dir := range []string{local, other} {
		c, err := readChain(dir)
		if err != nil {
			t.Fatal(err)
		}
		digests[i] = c.digest()
	}
	spec := func() *runSpec {
		s := &runSpec{Adapters: digests}
		s.Trainer.Model = backbone.Config{Preset: "tiny-causal", Merge: []string{local}, Adapter: "/nowhere/on/this/machine"}
		return s
	}
	var asked []string
	serve := func(dir string) func(string) (string, error) {
		return func(name string) (string, error) { asked = append(asked, name); return dir, nil }
	}
	s := spec()
	if err := fetchModel(serve(other), s); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(asked, s.Trainer.Model.Merge, s.Trainer.Model.Adapter); got != fmt.Sprint([]string{"adapters/1/"}, []string{local}, other) {
		t.Errorf("fetched and used %s", got)
	}
	if err := fetchModel(serve(local), spec()); err == nil || !strings.Contains(err.Error(), "is not the one that the run began with") {
		t.Errorf("another adapter from the coordinator: %v, want an error", err)
	}
}
