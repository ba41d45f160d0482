package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/checkpoints/object"
	"github.com/counterpoint-ml/counterpoint/checkpoints/object/s3test"
)

// s3Run starts the chaos run with its checkpoints at a URL.
func s3Run(t *testing.T, dir, where string) *process {
	t.Helper()
	return start(t, "train", chaosRun(t, dir), "--set", "log.dir="+filepath.Join(dir, "run"), "--set", "checkpoint.store="+where)
}

// inBucket returns the checkpoints of a store, sorted.
func inBucket(t *testing.T, where string) []string {
	t.Helper()
	store, err := object.Open(where, object.Options{Cache: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	all, err := store.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// A run whose checkpoints are in a bucket is killed with all that is on its machine but its log, and resumed: the same
// digest, the checkpoints that retention keeps, and every command reads them by their URL.
func TestS3KilledAndResumed(t *testing.T) {
	server := s3test.Start(t, t.TempDir())
	want, _ := undisturbed(t)
	dir := t.TempDir()
	where := server.URL("runs/chaos", "")
	t.Setenv("COUNTERPOINT_CACHE", t.TempDir())
	p := s3Run(t, dir, where)
	waitForStep(t, p, filepath.Join(dir, "run"), 10)
	for began := time.Now(); len(inBucket(t, where)) == 0 && time.Since(began) < time.Minute; {
		time.Sleep(10 * time.Millisecond)
	}
	p.kill()
	before := inBucket(t, where)
	t.Setenv("COUNTERPOINT_CACHE", t.TempDir())
	p = s3Run(t, dir, where)
	if !p.wait(t, 2*time.Minute) {
		t.Fatalf("the resumed run ended with %v:\n%s", p.err, p.out.String())
	}
	if got := committedLedger(t, filepath.Join(dir, "run"), 24); got != want {
		t.Errorf("digest %s, want the undisturbed run's %s", got, want)
	}
	after := inBucket(t, where)
	t.Logf("in the bucket when it was killed: %v; at the end: %v", before, after)
	if len(before) == 0 || len(after) != 3 || !slices.Contains(after, checkpoints.Name(24)) {
		t.Errorf("in the bucket are %v, want 3 with the last", after)
	}
	var told strings.Builder
	told.WriteString(p.out.String())
	for _, name := range []string{"events.jsonl", "plan.txt", "run.yaml"} {
		text, err := os.ReadFile(filepath.Join(dir, "run", name))
		if err != nil && name == "events.jsonl" {
			t.Fatal(err)
		}
		told.Write(text)
	}
	if strings.Contains(told.String(), server.Secret) || !strings.Contains(told.String(), object.Join(where, checkpoints.Name(24))) {
		t.Error("the run's output and events tell the secret, or not the checkpoint's URL")
	}

	t.Setenv("COUNTERPOINT_CACHE", t.TempDir())
	last := object.Join(where, checkpoints.Name(24))
	code, out, errs := command(t, "verify", last)
	if code != 0 || !strings.Contains(out, "every object in the bucket") {
		t.Errorf("verify %s = %d\n%s%s", last, code, out, errs)
	}
	if code, out, errs := command(t, "verify", where); code != 0 || strings.Count(out, "\nok ")+1 != len(after) {
		t.Errorf("verify %s = %d\n%s%s\nwant %d lines", where, code, out, errs, len(after))
	}
	texts := filepath.Join(dir, "texts.jsonl")
	write(t, texts, "\"a text\"\n")
	for _, args := range [][]string{
		{"embed", where, texts}, {"export", last, "--format", "peft", "--out", filepath.Join(dir, "exported")},
	} {
		if code, out, errs := command(t, args...); code != 0 {
			t.Errorf("%v = %d\n%s%s", args, code, out, errs)
		}
	}
	storeFile := server.Path("runs/chaos", checkpoints.Name(24), checkpoints.OptimizerName)
	damage(t, storeFile)
	if code, out, _ := command(t, "verify", last); code != 1 || !strings.Contains(out, checkpoints.OptimizerName) || !strings.Contains(out, "damaged") {
		t.Errorf("verify of a damaged object = %d\n%s\nwant exit 1 that names it, though a sound copy is on this machine", code, out)
	}
}

// The server dies before the first checkpoint and comes back after the last step: no step waits for it, and the last
// checkpoint is in the bucket at the end.
func TestS3Away(t *testing.T) {
	server := s3test.Start(t, t.TempDir())
	want, took := undisturbed(t)
	dir := t.TempDir()
	where := server.URL("runs/away", "")
	p := s3Run(t, dir, where)
	waitForStep(t, p, filepath.Join(dir, "run"), 1)
	server.Kill()
	began := time.Now()
	waitForStep(t, p, filepath.Join(dir, "run"), 24)
	t.Logf("the steps took %v without the store; the undisturbed run %v in all", time.Since(began), took)
	server.Restart()
	if !p.wait(t, 3*time.Minute) {
		t.Fatalf("the run ended with %v:\n%s", p.err, p.out.String())
	}
	if got := committedLedger(t, filepath.Join(dir, "run"), 24); got != want {
		t.Errorf("digest %s, want the undisturbed run's %s", got, want)
	}
	if all := inBucket(t, where); !slices.Contains(all, checkpoints.Name(24)) {
		t.Errorf("in the bucket are %v, want the last step among them", all)
	}
}
