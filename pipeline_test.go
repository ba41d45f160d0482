package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/trainer/encode"
)

// stagedStages are the stages of stagedRun: pre-training of all weights, an adapter of a language objective, a new one
// over it, and that one again.
var stagedStages = []string{"language", "masked", "contrastive", "again"}

// stagedRun writes a pipeline of four short stages into dir and returns its file.
func stagedRun(t *testing.T, dir string) string {
	t.Helper()
	var pairs strings.Builder
	for i := range 120 {
		fmt.Fprintf(&pairs, `{"query":"what is item %d of the list","positive":"item %d is described by these words and the number %d","negatives":["something else, number %d, that is not asked for"]}`+"\n", i, i, i*i, i+7)
	}
	write(t, filepath.Join(dir, "pairs.jsonl"), pairs.String())
	file := filepath.Join(dir, "run.yaml")
	write(t, file, `name: staged
model: {preset: tiny-diffusion, lora: {rank: 4, alpha: 8, dropout: 0.1}}
data: [{path: pairs.jsonl, instruction: find it}]
train: {batch: 32, steps: 5, max_length: 32, seed: 7, shard_tokens: 512, schedule: {peak: 2e-3, warmup: 1}}
checkpoint: {every: 2, keep: 2}
stages:
  - {name: language, model: {lora: null}, loss: {kind: masked-diffusion}, train: {steps: 3}}
  - {name: masked, loss: {kind: masked-diffusion}}
  - {name: contrastive, previous: merged, loss: {temperature: 0.05}, model: {lora: {rank: 2, alpha: 4, targets: [q_proj, v_proj]}}}
  - {name: again, previous: continued, loss: {temperature: 0.02}, train: {steps: 4}, model: {lora: {rank: 2, alpha: 4, targets: [q_proj, v_proj]}}}
`)
	return file
}

// stagedDigests checks the ledgers of all stages and returns the digest of each one's last step.
func stagedDigests(t *testing.T, run string) string {
	t.Helper()
	var out []string
	for i, steps := range []int64{3, 5, 5, 4} {
		out = append(out, committedLedger(t, filepath.Join(run, stagedStages[i]), steps))
	}
	return strings.Join(out, " ")
}

// identity reads what decides the result of a stage, as its last checkpoint has it.
func stagedIdentity(t *testing.T, run, stage string) (settings map[string]any, identity string) {
	t.Helper()
	dir, err := checkpoints.Find(context.Background(), filepath.Join(run, stage), nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := encode.ReadRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(r.Spec, &settings); err != nil {
		t.Fatal(err)
	}
	return settings, r.Identity
}

// A staged run trains stage after stage; each takes what the one before has made into its identity.
func TestStages(t *testing.T) {
	dir := t.TempDir()
	file, run := stagedRun(t, dir), filepath.Join(dir, "run")
	code, out, errs := command(t, "train", file, "--dry-run", "--set", "log.dir="+run)
	if code != 0 || strings.Count(out, "== stage ") != 4 || !strings.Contains(out, "identity unknown before stage language is finished") ||
		!strings.Contains(out, "its weights are those that stage language makes") {
		t.Errorf("--dry-run: %d\n%s%s", code, out, errs)
	}
	code, out, errs = command(t, "train", file, "--quiet", "--set", "log.dir="+run)
	if code != 0 || !strings.Contains(out, "all 4 stages are finished") {
		t.Fatalf("train: %d\n%s%s", code, out, errs)
	}
	want := stagedDigests(t, run)

	model, _ := stagedIdentity(t, run, "masked")
	merged, _ := stagedIdentity(t, run, "contrastive")
	continued, _ := stagedIdentity(t, run, "again")
	if model["model_digest"] == nil || model["model_digest"] != merged["model_digest"] {
		t.Errorf("the stages over the weights of the first have the digests %v and %v", model["model_digest"], merged["model_digest"])
	}
	if n, ok := merged["merged_digests"].([]any); !ok || len(n) != 1 || merged["adapter_digest"] != nil {
		t.Errorf("merged: %v, continues from %v", merged["merged_digests"], merged["adapter_digest"])
	}
	if n, ok := continued["merged_digests"].([]any); !ok || len(n) != 1 || n[0] != merged["merged_digests"].([]any)[0] || continued["adapter_digest"] == nil {
		t.Errorf("continued: %v, continues from %v", continued["merged_digests"], continued["adapter_digest"])
	}

	// Again: nothing is done. The plan of every stage has an identity now.
	code, out, errs = command(t, "train", file, "--set", "log.dir="+run)
	if code != 0 || strings.Count(out, "was finished before: nothing was done") != 4 {
		t.Errorf("train again: %d\n%s%s", code, out, errs)
	}
	if code, out, errs = command(t, "train", file, "--dry-run", "--set", "log.dir="+run); code != 0 || strings.Contains(out, "identity unknown") || !strings.Contains(out, "1 adapter is merged into it") {
		t.Errorf("--dry-run afterwards: %d\n%s%s", code, out, errs)
	}
	// What takes a run's folder takes that of all stages; a report is of all of them.
	for _, args := range [][]string{{"verify", run}, {"report", run}, {"export", run, "--format", "peft", "--out", filepath.Join(dir, "peft")}} {
		if code, out, errs := command(t, args...); code != 0 {
			t.Errorf("%v: %d\n%s%s", args, code, out, errs)
		}
	}
	page, err := os.ReadFile(filepath.Join(run, "report.html"))
	if err != nil || strings.Count(string(page), "staged-") < 4 {
		t.Errorf("the report does not have all stages: %v", err)
	}

	// Three workers in other processes, one of which leaves between stages: the same numbers.
	other := filepath.Join(dir, "other")
	address := freeAddress(t)
	leader := start(t, "coordinator", "--config", file, "--dir", other, "--set", "cluster.listen="+address)
	for i := range 3 {
		start(t, "worker", "--join", "nats://"+address, "--name", fmt.Sprintf("w%d", i))
	}
	if !leader.wait(t, time.Minute) {
		t.Fatalf("coordinator: %v\n%s", leader.err, leader.out.String())
	}
	if got := stagedDigests(t, other); got != want {
		t.Errorf("three workers: digests\n%s, want\n%s", got, want)
	}

	// A final checkpoint that is damaged is not built upon.
	path := filepath.Join(run, "language", "checkpoints", checkpoints.Name(3), checkpoints.ModelName)
	flip(t, path)
	if code, out, errs = command(t, "train", file, "--set", "log.dir="+run); code == 0 || !strings.Contains(errs, "stage language is finished, but what it has made cannot be used") {
		t.Errorf("with a damaged first stage: %d\n%s%s", code, out, errs)
	}
}

// flip changes a bit in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Kill -9 of everything at a random moment of any stage: the pipeline that goes on has the digests of the undisturbed one.
func TestChaosStages(t *testing.T) {
	plain := t.TempDir()
	began := time.Now()
	if p := start(t, "train", stagedRun(t, plain), "--quiet", "--set", "log.dir="+filepath.Join(plain, "run")); !p.wait(t, time.Minute) {
		t.Fatalf("undisturbed: %v\n%s", p.err, p.out.String())
	}
	took := time.Since(began)
	want := stagedDigests(t, filepath.Join(plain, "run"))
	random := rand.New(rand.NewPCG(seed(t), 4))
	for round := range (*chaosRounds + 1) / 2 {
		dir := t.TempDir()
		file, kills := stagedRun(t, dir), 0
		for life := 0; ; life++ {
			p := start(t, "train", file, "--quiet", "--set", "log.dir="+filepath.Join(dir, "run"), "--set", fmt.Sprintf("cluster.workers=%d", 1+random.IntN(3)))
			if life < 3 {
				stage := filepath.Join(dir, "run", stagedStages[random.IntN(len(stagedStages))])
				if random.IntN(4) > 0 && reached(t, p, stage, int64(1+random.IntN(3))) { // most kills hit a stage, the others whatever goes on
					time.Sleep(time.Duration(random.Int64N(int64(50 * time.Millisecond))))
				} else {
					select {
					case <-p.done:
					case <-time.After(time.Duration(random.Int64N(int64(took)))):
					}
				}
				select {
				case <-p.done:
				default:
					kills++
				}
				p.kill()
				continue
			}
			if !p.wait(t, time.Minute) {
				t.Fatalf("round %d, after %d kills: %v\n%s", round, kills, p.err, p.out.String())
			}
			break
		}
		if got := stagedDigests(t, filepath.Join(dir, "run")); got != want {
			t.Errorf("round %d, %d kills: digests\n%s, want\n%s", round, kills, got, want)
		}
		t.Logf("round %d: %d kills, %v undisturbed, digests %.40s", round, kills, took, want)
	}
}

// A stage that was stopped stays so until --resume; then the pipeline goes on from there to its end.
func TestStagesStop(t *testing.T) {
	dir := t.TempDir()
	run := filepath.Join(dir, "run")
	args := []string{"train", stagedRun(t, dir), "--quiet", "--set", "log.dir=" + run, "--set", "stages[masked].train.steps=30"}
	p := start(t, args...)
	waitForStep(t, p, filepath.Join(run, "masked"), 2)
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	if !p.wait(t, time.Minute) || !strings.Contains(p.out.String(), "go on with: counterpoint train") {
		t.Fatalf("the stop ended with %v:\n%s", p.err, p.out.String())
	}
	code, out, errs := command(t, args...)
	if code != 1 || !strings.Contains(errs, "stage masked: the run is paused") || !strings.Contains(errs, "nothing was done; go on with: counterpoint train") {
		t.Errorf("without --resume: exit %d\n%s%s", code, out, errs)
	}
	if code, out, errs = command(t, append(args, "--resume")...); code != 0 || !strings.Contains(out, "all 4 stages are finished") {
		t.Errorf("with --resume: exit %d\n%s%s", code, out, errs)
	}
	committedLedger(t, filepath.Join(run, "masked"), 30)
}
