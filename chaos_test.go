package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
)

var (
	chaosRounds = flag.Int("chaos.rounds", 2, "how often each kind of kill is tried; `make chaos` says 20")
	chaosSeed   = flag.Uint64("chaos.seed", 0, "seed of the moments; 0 draws one and prints it")
)

// TestMain lets the test binary be the program: with COUNTERPOINT_TEST_MAIN set it runs main.
func TestMain(m *testing.M) {
	if os.Getenv("COUNTERPOINT_TEST_MAIN") != "" {
		main()
		if path := os.Getenv("COUNTERPOINT_TEST_PEAK"); path != "" {
			status, err := os.ReadFile("/proc/self/status")
			if err == nil {
				err = os.WriteFile(path, status, 0o644)
			}
			if err != nil {
				panic(err)
			}
		}
		os.Exit(0)
	}
	if os.Getenv("COUNTERPOINT_CACHE") != "" {
		os.Exit(m.Run())
	}
	cache, err := os.MkdirTemp("", "counterpoint-cache-") // a user's own is none of the tests' business
	if err != nil {
		panic(err)
	}
	os.Setenv("COUNTERPOINT_CACHE", cache)
	code := m.Run()
	os.RemoveAll(cache)
	os.Exit(code)
}

// seed returns the chaos seed and prints the command that repeats it.
func seed(t *testing.T) uint64 {
	s := *chaosSeed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("seed %d: go test -run '%s' -chaos.seed %d -chaos.rounds %d .", s, t.Name(), s, *chaosRounds)
	return s
}

// process is a running counterpoint command.
type process struct {
	cmd  *exec.Cmd
	out  bytes.Buffer
	done chan struct{}
	err  error
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "COUNTERPOINT_TEST_MAIN=1")
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(p.kill)
	return p
}

// kill is kill -9.
func (p *process) kill() { _ = p.cmd.Process.Kill(); <-p.done }

// wait waits for the end and returns whether the exit code was 0; a hang fails the test with what was printed.
func (p *process) wait(t *testing.T, limit time.Duration) bool {
	t.Helper()
	select {
	case <-p.done:
		return p.err == nil
	case <-time.After(limit):
		p.kill()
		t.Fatalf("%v did not end within %v; it printed:\n%s", p.cmd.Args[1:], limit, p.out.String())
		return false
	}
}

// chaosRun writes a small run of 24 steps into dir and returns its file.
func chaosRun(t *testing.T, dir string) string {
	t.Helper()
	var pairs bytes.Buffer
	for i := range 300 {
		fmt.Fprintf(&pairs, `{"query":"what is item %d of the list","positive":"item %d is described by these words and the number %d","negatives":["something else, number %d, that is not asked for"]}`+"\n", i, i, i*i, i+7)
	}
	write(t, filepath.Join(dir, "pairs.jsonl"), pairs.String())
	file := filepath.Join(dir, "run.yaml")
	write(t, file, `name: chaos
model: {preset: tiny-diffusion, lora: {rank: 4, alpha: 8, dropout: 0.1}}
data: [{path: pairs.jsonl}]
loss: {kind: infonce, temperature: 0.05, hard_negatives: 1}
train: {batch: 64, steps: 24, max_length: 48, seed: 7, shard_tokens: 512, schedule: {peak: 1e-3, warmup: 4}}
checkpoint: {every: 4, keep: 3}
`)
	return file
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// committedLedger reads the committed steps of a run's events and checks that each was committed exactly once, in order.
// It returns the parameters' digest after the last.
func committedLedger(t *testing.T, dir string, steps int64) string {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	digests := map[int64]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var e coordinator.Event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Kind != coordinator.StepCommitted {
			continue // a line that a kill cut short
		}
		if old, ok := digests[e.Step]; ok && old != e.Parameters {
			t.Errorf("step %d has two digests: %s and %s", e.Step, old, e.Parameters)
		}
		digests[e.Step] = e.Parameters
	}
	for s := int64(1); s <= steps; s++ {
		if digests[s] == "" {
			t.Errorf("step %d is not in the ledger", s)
		}
	}
	return digests[steps]
}

// undisturbed is the digest of the run with one worker and no faults.
func undisturbed(t *testing.T) (digest string, took time.Duration) {
	t.Helper()
	dir := t.TempDir()
	began := time.Now()
	p := start(t, "train", chaosRun(t, dir), "--set", "log.dir="+filepath.Join(dir, "run"))
	if !p.wait(t, 2*time.Minute) {
		t.Fatalf("the undisturbed run ended with %v:\n%s", p.err, p.out.String())
	}
	return committedLedger(t, filepath.Join(dir, "run"), 24), time.Since(began)
}

// Kill -9 of everything at a random moment, resume: the same final digest as the undisturbed run.
func TestChaosKillEverything(t *testing.T) {
	want, took := undisturbed(t)
	random := rand.New(rand.NewPCG(seed(t), 1))
	for round := range *chaosRounds {
		kills, digest := 0, ""
		for window := took; kills == 0; window /= 2 { // a run that was over before its kill proves nothing
			if window < took/64 {
				t.Fatalf("round %d: no kill came in time", round)
			}
			kills, digest = killEverything(t, random, window)
		}
		if digest != want {
			t.Errorf("round %d, %d kills: digest %s, want %s", round, kills, digest, want)
		}
		t.Logf("round %d: %d kills, digest %.16s", round, kills, want)
	}
}

// killEverything runs with one to three workers, killed up to three times at a moment within window, until it ends.
func killEverything(t *testing.T, random *rand.Rand, window time.Duration) (kills int, digest string) {
	t.Helper()
	dir := t.TempDir()
	file := chaosRun(t, dir)
	for life := 0; ; life++ {
		p := start(t, "train", file, "--set", "log.dir="+filepath.Join(dir, "run"), "--set", fmt.Sprintf("cluster.workers=%d", 1+random.IntN(3)))
		if life < 3 {
			if random.IntN(3) > 0 { // most kills hit a step, the others the start, an evaluation or the end
				reached(t, p, filepath.Join(dir, "run"), int64(1+random.IntN(20)))
				window = 100 * time.Millisecond
			}
			select {
			case <-p.done:
			case <-time.After(time.Duration(random.Int64N(int64(window)))):
				p.kill()
				kills++
				continue
			}
		}
		if !p.wait(t, 2*time.Minute) {
			t.Fatalf("after %d kills: %v\n%s", kills, p.err, p.out.String())
		}
		return kills, committedLedger(t, filepath.Join(dir, "run"), 24)
	}
}

// Kill -9 of one of three worker processes in the middle of a step, another joining later: the run completes with
// the same digest, no sample lost or repeated.
func TestChaosKillWorker(t *testing.T) {
	want, _ := undisturbed(t)
	random := rand.New(rand.NewPCG(seed(t), 2))
	for round := range *chaosRounds {
		dir := t.TempDir()
		address := freeAddress(t)
		runDir := filepath.Join(dir, "run")
		leader := start(t, "coordinator", "--config", chaosRun(t, dir), "--dir", runDir, "--set", "cluster.listen="+address)
		workers := make([]*process, 3)
		for i := range workers {
			workers[i] = start(t, "worker", "--join", "nats://"+address, "--name", fmt.Sprintf("w%d", i))
		}
		at := int64(1 + random.IntN(18))
		waitForStep(t, leader, runDir, at)
		time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
		victim := random.IntN(3)
		workers[victim].kill()
		later := start(t, "worker", "--join", "nats://"+address, "--name", "late")
		if !leader.wait(t, 2*time.Minute) {
			t.Fatalf("round %d: coordinator ended with %v\n%s", round, leader.err, leader.out.String())
		}
		if got := committedLedger(t, runDir, 24); got != want {
			t.Errorf("round %d, w%d killed after step %d: digest %s, want %s", round, victim, at, got, want)
		}
		t.Logf("round %d: w%d killed after step %d, digest %.16s", round, victim, at, want)
		for _, p := range append(workers, later) {
			p.kill()
		}
	}
}

// freeAddress returns a loopback address that was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// waitForStep waits until a step is in the run's events; a process that ends before fails the test.
func waitForStep(t *testing.T, p *process, dir string, step int64) {
	t.Helper()
	if !reached(t, p, dir, step) {
		t.Fatalf("step %d did not come; the process ended with %v and printed:\n%s", step, p.err, p.out.String())
	}
}

// reached waits until a step is in the run's events, and reports false if the process ends before, or two minutes do.
func reached(t *testing.T, p *process, dir string, step int64) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		text, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if strings.Contains(string(text), fmt.Sprintf(`"step":%d,`, step)) {
			return true
		}
		select {
		case <-p.done:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return false
}
