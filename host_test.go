package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
)

// A fleet takes runs over HTTP: two are submitted, wait for one worker by priority, are paused, resumed and cancelled,
// and the one that is left ends with the bits of a run that was never disturbed.
func TestFleetOverHTTP(t *testing.T) {
	alone := testRun(t, testLoRA)
	if code, out, errs := command(t, "train", alone, "--quiet", "--set", "train.steps=40"); code != 0 {
		t.Fatalf("train = %d\n%s%s", code, out, errs)
	}
	want := lastParameters(t, filepath.Join(filepath.Dir(alone), "run", "events.jsonl"))

	dir := t.TempDir()
	join, http := freeAddress(t), "http://"+freeAddress(t)
	cluster := filepath.Join(dir, "cluster.yaml")
	write(t, cluster, fmt.Sprintf("cluster: {listen: %q, api: %q}\n", join, strings.TrimPrefix(http, "http://")))
	t.Setenv("COUNTERPOINT_SERVER", http)
	start(t, "coordinator", "--config", cluster, "--dir", filepath.Join(dir, "a"))

	long, err := os.ReadFile(alone)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(filepath.Dir(alone), "other.yaml")
	write(t, other, strings.NewReplacer("name: small", "name: other", filepath.Join(filepath.Dir(alone), "run"), filepath.Join(dir, "other")).Replace(string(long)))
	steer := func(args ...string) string {
		t.Helper()
		code, out, errs := command(t, args...)
		if code != 0 {
			t.Fatalf("%v = %d\n%s%s", args, code, out, errs)
		}
		return out
	}
	alone = filepath.Join(filepath.Dir(alone), "submitted.yaml") // with a folder of its own
	write(t, alone, strings.Replace(string(long), filepath.Join(filepath.Dir(alone), "run"), filepath.Join(dir, "small"), 1))
	out := steer("submit", alone, "--set", "train.steps=40", "--key", "k-small")
	wants(t, "submit", out, "data[0].path: pairs.jsonl -> "+filepath.Dir(alone), "submitted small-")
	if again := steer("submit", alone, "--set", "train.steps=40", "--key", "k-small"); !strings.Contains(again, "is there already") {
		t.Errorf("submitted again: %s", again)
	}
	steer("submit", other, "--set", "train.steps=4000", "--priority", "3")
	wants(t, "runs", steer("runs"), "small-", "other-", "queued")

	start(t, "worker", "--join", "nats://"+join, "--name", "w")
	until(t, "the higher priority runs", func() bool { s := runStatus(t, "other"); return s.State == "running" && s.Step > 1 })
	if s := runStatus(t, "small"); s.State != coordinator.StateQueued || s.Step != 0 {
		t.Errorf("small is %s at step %d, want queued", s.State, s.Step)
	}
	steer("priority", "small", "5")
	until(t, "the worker changes runs", func() bool { return runStatus(t, "small").Step > 1 })
	steer("pause", "sma", "--reason", "lunch")
	until(t, "small is paused", func() bool { return runStatus(t, "small").State == "paused" })
	wants(t, "status of what is paused", steer("status", "small"), "paused", "lunch", "CHECKPOINT AT STEP")
	steer("pause", "small") // again
	steer("cancel", "other")
	wants(t, "cancelled", steer("runs"), "cancelled")
	steer("resume", "small")

	code, followed, errs := command(t, "submit", alone, "--set", "train.steps=40", "--key", "k-small", "--follow")
	if code != 0 {
		t.Fatalf("follow = %d\n%s%s", code, followed, errs)
	}
	wants(t, "what was followed", followed, "step 40/40", "lunch")
	if s := runStatus(t, "small"); s.State != "finished" || s.Parameters != want {
		t.Errorf("small is %s with parameters %.16s, want finished with %.16s as when it is trained alone", s.State, s.Parameters, want)
	}
	wants(t, "workers", steer("workers"), "w-", "idle")
	wants(t, "status", steer("status"), "leader", "finished", "cancelled", "idle")
	wants(t, "logs", steer("logs", "small", "-n", "0"), "step")
	if code, _, errs := command(t, "status", "smal-"); code != 1 || !strings.Contains(errs, "did you mean small?") {
		t.Errorf("status of a misspelt run = %d, %s", code, errs)
	}
	if code, _, errs := command(t, "resume", "other"); code != 1 || !strings.Contains(errs, "cancelled") {
		t.Errorf("resume of a cancelled run = %d, %s", code, errs)
	}
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			_, out, _ := command(t, "status")
			t.Fatalf("not after a minute: %s\n%s", what, out)
		}
	}
}

// run asks for a run's status.
func runStatus(t *testing.T, name string) *coordinator.Status {
	t.Helper()
	code, out, errs := command(t, "status", name, "--json")
	s := &coordinator.Status{}
	if err := json.Unmarshal([]byte(out), s); err != nil || code != 0 {
		t.Fatalf("status %s = %d, %v\n%s%s", name, code, err, out, errs)
	}
	return s
}

// lastParameters returns the digest after the last committed step of a run's events.
func lastParameters(t *testing.T, file string) (digest string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range bytes.Split(text, []byte("\n")) {
		var e coordinator.Event
		if json.Unmarshal(line, &e) == nil && e.Kind == coordinator.StepCommitted {
			digest = e.Parameters
		}
	}
	return digest
}

// With tokens nobody steers without one, a viewer looks only, and TLS carries it.
func TestFleetTokens(t *testing.T) {
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens.txt")
	token := map[string]string{}
	for _, role := range []string{"viewer", "operator"} {
		code, out, errs := command(t, "token", "--role", role, "--name", "ann", "--file", tokens)
		if code != 0 {
			t.Fatal(errs)
		}
		token[role] = strings.TrimSpace(out)
	}
	join, http := freeAddress(t), freeAddress(t)
	cluster := filepath.Join(dir, "cluster.yaml")
	write(t, cluster, fmt.Sprintf("cluster: {listen: %q, api: %q, tokens: tokens.txt}\n", join, http))
	p := start(t, "coordinator", "--config", cluster, "--dir", filepath.Join(dir, "a"))
	t.Setenv("COUNTERPOINT_SERVER", "http://"+http)
	until(t, "the API answers", func() bool { code, _, _ := command(t, "runs", "--token", token["viewer"]); return code == 0 })
	for _, c := range []struct{ token, want string }{{"", "Authorization"}, {"cpt_wrong", "not taken"}, {token["viewer"], "operator"}} {
		if code, _, errs := command(t, "pause", "x", "--token", c.token); code != 1 || !strings.Contains(errs, c.want) {
			t.Errorf("pause with token %.5s = %d, %s, want %q", c.token, code, errs, c.want)
		}
	}
	t.Setenv("COUNTERPOINT_TOKEN", token["operator"])
	if code, _, errs := command(t, "pause", "x"); code != 1 || !strings.Contains(errs, "there is none yet") {
		t.Errorf("pause with an operator's token = %d, %s", code, errs)
	}
	p.kill()
	for _, secret := range token {
		if strings.Contains(p.out.String(), secret) {
			t.Errorf("a token is in what the coordinator printed:\n%s", p.out.String())
		}
	}
}

// Three coordinators that only host are one fleet: the run that one of them was leading goes on, to the same bits, when it
// is killed, and whoever asks any of the others sees all that happened, once.
func TestFleetOfThreeOverHTTP(t *testing.T) {
	file := testRun(t, testLoRA)
	if code, out, errs := command(t, "train", file, "--quiet", "--set", "train.steps=60"); code != 0 {
		t.Fatalf("train = %d\n%s%s", code, out, errs)
	}
	want := lastParameters(t, filepath.Join(filepath.Dir(file), "run", "events.jsonl"))

	dir := t.TempDir()
	var lines, joins, servers []string
	for _, name := range []string{"a", "b", "c"} {
		join, http := freeAddress(t), freeAddress(t)
		lines = append(lines, fmt.Sprintf("{name: %s, raft: %q, nats: %q, route: %q, api: %q}", name, freeAddress(t), join, freeAddress(t), http))
		joins, servers = append(joins, "nats://"+join), append(servers, "http://"+http)
	}
	cluster := filepath.Join(dir, "cluster.yaml")
	write(t, cluster, "cluster: {coordinators: ["+strings.Join(lines, ", ")+"]}\n")
	t.Setenv("COUNTERPOINT_SERVER", strings.Join(servers, ","))
	coordinators := map[string]*process{}
	for _, name := range []string{"a", "b", "c"} {
		coordinators[name] = start(t, "coordinator", "--config", cluster, "--dir", filepath.Join(dir, name), "--name", name)
	}
	start(t, "worker", "--join", strings.Join(joins, ","), "--name", "w")
	until(t, "a leader", func() bool { code, _, _ := command(t, "runs"); return code == 0 })
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(filepath.Dir(file), "submitted.yaml")
	write(t, file, strings.Replace(string(text), "log: {dir: "+filepath.Join(filepath.Dir(file), "run")+"}\n", "", 1))
	if code, _, errs := command(t, "submit", file); code != 1 || !strings.Contains(errs, "checkpoint.dir: is needed with several coordinators") {
		t.Errorf("submit without checkpoint.dir = %d, %s", code, errs)
	}
	submit := []string{"submit", file, "--set", "train.steps=60", "--set", "checkpoint.dir=" + filepath.Join(dir, "ckpt"), "--key", "k"}
	if code, out, errs := command(t, submit...); code != 0 {
		t.Fatalf("submit = %d\n%s%s", code, out, errs)
	}
	until(t, "step 5", func() bool { return runStatus(t, "small").Step >= 5 })
	code, out, errs := command(t, "status", "--json")
	var o coordinator.Overview
	if err := json.Unmarshal([]byte(out), &o); code != 0 || err != nil || coordinators[o.Name] == nil {
		t.Fatalf("status = %d, %v, leader %q\n%s%s", code, err, o.Name, out, errs)
	}
	coordinators[o.Name].kill()
	code, out, errs = command(t, append(submit, "--follow", "--json")...)
	if code != 0 {
		t.Fatalf("follow = %d\n%s%s", code, out, errs)
	}
	var last int64
	steps := int64(0)
	for line := range strings.Lines(out) {
		var e coordinator.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.ID <= last {
			t.Errorf("event %d after %d, %v: %s", e.ID, last, err, line)
		}
		if last = e.ID; e.Kind == coordinator.StepCommitted && e.Step == steps+1 {
			steps++
		}
	}
	if s := runStatus(t, "small"); s.State != "finished" || s.Parameters != want || steps != 60 {
		t.Errorf("small is %s with %.16s after %d events of steps, want finished with %.16s after 60", s.State, s.Parameters, steps, want)
	}
}
