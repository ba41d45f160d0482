package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SIGTERM at a random moment, of runs whose first steps overflow their bounds, with both kinds of objective: the process
// ends in order and soon, and the run that goes on has the digest of the undisturbed one.
func TestChaosStop(t *testing.T) {
	random := rand.New(rand.NewPCG(seed(t), 3))
	for _, loss := range []string{
		"{kind: infonce, temperature: 0.0005, hard_negatives: 1}",
		"{kind: masked-diffusion}",
	} {
		train := func(dir string, workers int, resume bool) *process {
			file := chaosRun(t, dir)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(text), "{kind: infonce, temperature: 0.05, hard_negatives: 1}", loss, 1)
			if changed == string(text) && !strings.Contains(changed, loss) {
				t.Fatal("the run file has no such loss to replace")
			}
			write(t, file, changed)
			args := []string{"train", file, "--set", "log.dir=" + filepath.Join(dir, "run"), "--set", fmt.Sprintf("cluster.workers=%d", workers)}
			if resume {
				args = append(args, "--resume")
			}
			return start(t, args...)
		}
		plain := t.TempDir()
		began := time.Now()
		if p := train(plain, 1, false); !p.wait(t, 2*time.Minute) {
			t.Fatalf("%s, undisturbed: %v\n%s", loss, p.err, p.out.String())
		}
		took := time.Since(began)
		want := committedLedger(t, filepath.Join(plain, "run"), 24)
		events, err := os.ReadFile(filepath.Join(plain, "run", "events.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d attempts repeated, %v", loss, strings.Count(string(events), `"kind":"attempt"`), took)

		for round := range (*chaosRounds + 1) / 2 {
			dir := t.TempDir()
			stops := 0
			for life := 0; ; life++ {
				p := train(dir, 1+random.IntN(3), life > 0)
				if life < 3 {
					select {
					case <-p.done:
					case <-time.After(500*time.Millisecond + time.Duration(random.Int64N(int64(took)))): // not before the program listens
						stops++
						_ = p.cmd.Process.Signal(syscall.SIGTERM)
					}
				}
				if !p.wait(t, 30*time.Second) {
					t.Fatalf("%s, round %d, after %d stops: %v\n%s", loss, round, stops, p.err, p.out.String())
				}
				if life == 3 {
					break
				}
			}
			if got := committedLedger(t, filepath.Join(dir, "run"), 24); got != want {
				t.Errorf("%s, round %d, %d stops: digest %s, want %s", loss, round, stops, got, want)
			}
		}
	}
}

// A run that none of the local workers may compute, here with kernels of other numerics, ends and says why.
func TestEveryLocalWorkerRefused(t *testing.T) {
	dir := t.TempDir()
	args := []string{"train", chaosRun(t, dir), "--resume", "--set", "log.dir=" + filepath.Join(dir, "run"), "--set", "cluster.workers=2"}
	p := start(t, args...)
	waitForStep(t, p, filepath.Join(dir, "run"), 2)
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	if !p.wait(t, 30*time.Second) {
		t.Fatalf("the first life ended with %v\n%s", p.err, p.out.String())
	}
	p = start(t, append(args, "--set", "cluster.kernels=portable")...)
	if p.wait(t, 60*time.Second) {
		t.Skip("this machine's best kernels are the portable ones")
	}
	if out := p.out.String(); !strings.Contains(out, "every local worker ended") || !strings.Contains(out, "numerics") {
		t.Errorf("it printed\n%s\nwant that every local worker ended, and why", out)
	}
}
