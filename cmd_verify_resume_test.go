package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/coordinator"
)

func TestVerifyResume(t *testing.T) {
	file := testRun(t, testLoRA)
	dir := filepath.Join(filepath.Dir(file), "run")
	if code, out, errs := command(t, "train", file, "--set", "cluster.workers=2", "--set", "train.steps=6", "--set", "checkpoint.every=2", "--set", "checkpoint.keep=2"); code != 0 {
		t.Fatalf("train = %d\n%s%s", code, out, errs)
	}
	for _, c := range []struct {
		step string
		want []string
	}{
		{"4", []string{"checkpoint of step 4", "step 5: gradient", "1 step executed again"}},
		{"5", []string{"checkpoint of step 4", "step 5: gradient", "step 6: gradient", "2 steps executed again"}},
		{"1", []string{"initial parameters", "step 1: gradient", "step 2: gradient"}}, // that of step 2 is not kept any more
	} {
		code, out, errs := command(t, "verify", "resume", dir, c.step)
		if code != 0 {
			t.Fatalf("verify resume %s = %d\n%s%s", c.step, code, out, errs)
		}
		wants(t, "verify resume "+c.step, out, c.want...)
	}
	if code, _, errs := command(t, "verify", "resume", dir, "6"); code != 1 || !strings.Contains(errs, "STEP is from 0 to 5") {
		t.Errorf("of the last step = %d, %s", code, errs)
	}
	// A damaged checkpoint is passed over, by name.
	damage(t, filepath.Join(dir, "checkpoints", checkpoints.Name(4), checkpoints.OptimizerName))
	code, out, errs := command(t, "verify", "resume", dir, "4")
	if code != 0 {
		t.Errorf("with a damaged checkpoint = %d\n%s%s", code, out, errs)
	}
	wants(t, "verify resume of a damaged checkpoint", out, "skipped: checkpoint of step 4", "initial parameters", "5 steps executed again")
	code, out, _ = command(t, "verify", "resume", dir, "0", "--json")
	var r resumeResult
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 || !r.OK || len(r.Steps) != 1 || r.Steps[0].Step != 1 {
		t.Errorf("verify resume --json = %d, %v\n%s", code, err, out)
	}
}

// One flipped bit of any file of a checkpoint is found, and the file is named.
func TestFlippedCheckpointFiles(t *testing.T) {
	store := testCheckpoints(t, testRun(t, testLoRA))
	dir := filepath.Join(store, checkpoints.Name(2))
	s := seed(t)
	random := rand.New(rand.NewPCG(s, 12))
	n := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil || len(text) == 0 {
			return err
		}
		n++
		for range 3 {
			bit := random.IntN(8 * len(text))
			damaged := append([]byte(nil), text...)
			damaged[bit/8] ^= 1 << (bit % 8)
			if err := os.WriteFile(path, damaged, 0o644); err != nil {
				return err
			}
			code, out, errs := command(t, "verify", dir)
			if code != 1 || !strings.Contains(out+errs, filepath.Base(path)) && !strings.Contains(out+errs, "manifest") {
				t.Errorf("seed %d: bit %d of %s flipped: exit %d, want 1 and the file named\n%s%s", s, bit, filepath.Base(path), code, out, errs)
			}
		}
		return os.WriteFile(path, text, 0o644)
	})
	if err != nil || n < 5 {
		t.Fatalf("%d files, %v", n, err)
	}
	if code, out, _ := command(t, "verify", dir); code != 0 {
		t.Errorf("put back = %d\n%s", code, out)
	}
	t.Logf("seed %d: %d files", s, n)
}

// A flipped bit in the newest checkpoint, found when everything starts again: it is dropped by name, the one before is
// taken, and the result is that of a run without any of it.
func TestFlippedCheckpoint(t *testing.T) {
	want, _ := undisturbed(t)
	s := seed(t)
	random := rand.New(rand.NewPCG(s, 13))
	dir := t.TempDir()
	file := chaosRun(t, dir)
	runDir := filepath.Join(dir, "run")
	p := start(t, "train", file, "--set", "log.dir="+runDir, "--set", "cluster.workers=2", "--set", "cluster.audit=1/2")
	reached(t, p, runDir, 14)
	p.kill()
	newest := ""
	for _, name := range []int64{24, 20, 16, 12, 8} {
		if _, err := os.Stat(filepath.Join(runDir, "checkpoints", checkpoints.Name(name), checkpoints.ManifestName)); err == nil {
			newest = filepath.Join(runDir, "checkpoints", checkpoints.Name(name))
			break
		}
	}
	names, err := filepath.Glob(filepath.Join(newest, "*.safetensors"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no tensors in %q: %v", newest, err)
	}
	path := names[random.IntN(len(names))]
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bit := random.IntN(8 * len(text))
	text[bit/8] ^= 1 << (bit % 8)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d: bit %d of %s", s, bit, filepath.Base(path))
	again := start(t, "train", file, "--set", "log.dir="+runDir, "--set", "cluster.workers=3", "--set", "cluster.audit=1/2") // an audit does not show
	if !again.wait(t, 2*time.Minute) {
		t.Fatalf("%v\n%s", again.err, again.out.String())
	}
	if got := committedLedger(t, runDir, 24); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
	events, err := os.ReadFile(filepath.Join(runDir, "events.jsonl"))
	if err != nil || !strings.Contains(string(events), "damaged: ") {
		t.Errorf("no event names the damage (%v)", err)
	}
	if code, out, errs := command(t, "verify", "ledger", runDir); code != 0 {
		t.Errorf("verify ledger = %d\n%s%s", code, out, errs)
	}
}

func TestCompareFleet(t *testing.T) {
	member := func(name, parameters, frozen string) coordinator.WorkerStatus {
		return coordinator.WorkerStatus{Worker: name, State: 5, Parameters: parameters, Committed: "p5", Frozen: frozen, Numerics: "n"}
	}
	for name, c := range map[string]struct {
		workers []coordinator.WorkerStatus
		odd     string
		absent  string
	}{
		"all the same":     {[]coordinator.WorkerStatus{member("a", "p5", "f"), member("b", "p5", "f"), member("c", "p5", "f")}, "[]", "[]"},
		"other parameters": {[]coordinator.WorkerStatus{member("a", "p5", "f"), member("b", "x", "f"), member("c", "p5", "f")}, "[b]", "[]"},
		"other weights":    {[]coordinator.WorkerStatus{member("a", "p5", "f"), member("b", "p5", "f"), member("c", "p5", "g")}, "[c]", "[]"},
		"two weights":      {[]coordinator.WorkerStatus{member("a", "p5", "f"), member("b", "p5", "g")}, "[a b]", "[]"},
		"nothing frozen":   {[]coordinator.WorkerStatus{member("a", "p5", ""), member("b", "p5", "")}, "[]", "[]"},
		"one joins":        {[]coordinator.WorkerStatus{member("a", "p5", "f"), {Worker: "b", State: -1, Numerics: "n"}}, "[]", "[b]"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := compareFleet(t.Context(), 0, func(context.Context) (*coordinator.Status, error) {
				return &coordinator.Status{Run: "r", Workers: c.workers}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(f.Odd) != c.odd || fmt.Sprint(f.Absent) != c.absent {
				t.Errorf("odd %v, absent %v, want %s and %s", f.Odd, f.Absent, c.odd, c.absent)
			}
		})
	}
	fail := errors.New("gone")
	if _, err := compareFleet(t.Context(), 0, func(context.Context) (*coordinator.Status, error) { return nil, fail }); !errors.Is(err, fail) {
		t.Errorf("without a coordinator = %v", err)
	}
}

// The fleet of a run that goes on is compared with its log, over the network.
func TestVerifyFleet(t *testing.T) {
	dir := t.TempDir()
	address := freeAddress(t)
	runDir := filepath.Join(dir, "run")
	leader := start(t, "coordinator", "--config", chaosRun(t, dir), "--dir", runDir, "--set", "cluster.listen="+address, "--set", "train.steps=3000")
	for i := range 2 {
		start(t, "worker", "--join", "nats://"+address, "--name", fmt.Sprintf("w%d", i))
	}
	reached(t, leader, runDir, 2)
	code, out, errs := command(t, "verify", "fleet", "--join", "nats://"+address)
	if code != 0 {
		t.Fatalf("verify fleet = %d\n%s%s", code, out, errs)
	}
	wants(t, "verify fleet", out, "w0-", "w1-", "all 2 workers hold what the log has committed")
	if strings.Contains(out, " none ") {
		t.Errorf("verify fleet shows no frozen weights, and the run has some:\n%s", out)
	}
	code, out, errs = command(t, "verify", "ledger", runDir) // while it is in use
	if code != 0 {
		t.Errorf("verify ledger of a run that goes on = %d\n%s%s", code, out, errs)
	}
}
