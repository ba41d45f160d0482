package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/consensus"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

func TestCommandLine(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{commandLine("train", "run.yaml", "", nil), "counterpoint train run.yaml --resume"},
		{commandLine("train", "a b.yaml", "", []string{"train.batch=8", "model={preset: tiny-causal}"}), "counterpoint train 'a b.yaml' --set train.batch=8 --set 'model={preset: tiny-causal}' --resume"},
		{commandLine("coordinator --config", "run.yaml", "d", []string{"log.level=it's"}), `counterpoint coordinator --config run.yaml --dir d --set 'log.level=it'\''s' --resume`},
	} {
		if c.got != c.want {
			t.Errorf("commandLine = %s, want %s", c.got, c.want)
		}
	}
}

func TestArguments(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"train"}, "RUN.yaml is missing: counterpoint train RUN.yaml"},
		{[]string{"train", "a", "b"}, `unexpected argument "b"`},
		{[]string{"eval", "c"}, "SUITE is missing"},
		{[]string{"report"}, "RUN-FOLDER is missing"},
		{[]string{"worker", "--join", "nats://127.0.0.1:1", "--count", "0"}, "at least one worker"},
	} {
		if code, _, errs := command(t, c.args...); code != 1 || !strings.Contains(errs, c.want) {
			t.Errorf("%v: exit %d, %q, want 1 and %q", c.args, code, errs, c.want)
		}
	}
}

// A pause that nobody asked for is a failure to a script; one that was asked for is not.
func TestEnded(t *testing.T) {
	for _, c := range []struct {
		outcome coordinator.Outcome
		fails   bool
	}{
		{coordinator.Outcome{State: fsm.Finished}, false},
		{coordinator.Outcome{State: fsm.Paused, Reason: byUser}, false},
		{coordinator.Outcome{State: fsm.Paused, Reason: "the checkpoint of step 4 could not be written"}, true},
		{coordinator.Outcome{State: fsm.Failed}, true},
	} {
		if err := ended(c.outcome, nil); (err != nil) != c.fails {
			t.Errorf("ended(%+v) = %v, want an error: %v", c.outcome, err, c.fails)
		}
	}
}

// What stands in a run's folder about its plan is the plan of the run that is there, not of one that was refused.
func TestRefusedRunLeavesTheFolder(t *testing.T) {
	file := testRun(t, testLoRA)
	if code, out, errs := command(t, "train", file); code != 0 {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	dir := filepath.Join(filepath.Dir(file), "run")
	read := func() (all string) {
		for _, name := range []string{"plan.txt", "run.yaml", "identity.txt"} {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			all += string(text)
		}
		return all
	}
	was := read()
	code, _, errs := command(t, "train", file, "--set", "train.seed=99")
	if code != 1 || !strings.Contains(errs, "42 -> 99") {
		t.Errorf("other seed: exit %d, %q, want 1 and the difference", code, errs)
	}
	if now := read(); now != was {
		t.Errorf("the refused run left\n%s\nwant\n%s", now, was)
	}
	if code, out, errs := command(t, "train", file); code != 0 || !strings.Contains(out, "finished before") {
		t.Errorf("again: exit %d, %q, %q, want 0 and that it was finished before", code, out, errs)
	}

	lock, err := consensus.Acquire(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	code, _, errs = command(t, "train", file, "--fresh")
	if code != 1 || !strings.Contains(errs, fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("--fresh of a folder in use: exit %d, %q, want 1 and the owner", code, errs)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	read() // fails unless the folder is where it was
}

// A value that is not finite ends the run before its step is committed, and the message leads to the row.
func TestNonFinite(t *testing.T) {
	for _, c := range []struct{ name, loss string }{
		{"when a shard is embedded", "{temperature: 0.05}"},
		{"in the backward pass", "{kind: causal-lm}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := testRun(t, "model: {preset: tiny-causal}\nloss: {kind: causal-lm}\n")
			if code, out, errs := command(t, "train", base, "--quiet", "--set", "evaluate={every: 0}"); code != 0 {
				t.Fatalf("exit %d\n%s%s", code, out, errs)
			}
			model := filepath.Join(filepath.Dir(base), "run", "checkpoints", "step-00000004")
			poison(t, filepath.Join(model, "model.safetensors"), "model.norm.weight")
			file := testRun(t, "model: {path: "+model+", lora: {rank: 4, alpha: 8}}\nloss: "+c.loss+"\n")
			code, out, errs := command(t, "train", file, "--quiet", "--set", "evaluate={every: 0}", "--set", "cluster.workers=2")
			if code != 1 {
				t.Fatalf("exit %d, want 1\n%s%s", code, out, errs)
			}
			wants(t, "the error", errs, "step 1: shard ", "pairs.jsonl:", "not finite", "nothing of the step was committed")
			if strings.Contains(errs+out, "goroutine") {
				t.Errorf("a stack reaches the user:\n%s%s", out, errs)
			}
		})
	}
}

// poison makes the first value of a float32 tensor a NaN.
func poison(t *testing.T, path, name string) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size := binary.LittleEndian.Uint64(file)
	var header map[string]struct {
		Offsets []uint64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(file[8:8+size], &header); err != nil {
		t.Fatal(err)
	}
	if len(header[name].Offsets) != 2 {
		t.Fatalf("%s has no tensor %s", path, name)
	}
	binary.LittleEndian.PutUint32(file[8+size+header[name].Offsets[0]:], math.Float32bits(float32(math.NaN())))
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A worker that still waits for a coordinator leaves at once when asked to.
func TestWorkerLeavesWhileItWaits(t *testing.T) {
	drain := make(chan struct{})
	ended := make(chan error, 1)
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		ended <- newCrew(1, 0, log).joinAs(ctx, drain, "w", 1, bus.Options{URL: "nats://" + freeAddress(t)}, time.Second)
	}()
	time.Sleep(50 * time.Millisecond)
	close(drain)
	if err := <-ended; err != nil {
		t.Errorf("joinAs = %v, want none", err)
	}
}

func TestQuickstartRemovesOnlyItsOwn(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "thesis.tex")
	write(t, mine, "x")
	if code, _, errs := command(t, "quickstart", "--dir", dir); code != 1 || !strings.Contains(errs, "not empty") {
		t.Errorf("exit %d, %q, want 1: not empty", code, errs)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
}
