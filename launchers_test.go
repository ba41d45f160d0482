package main

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/configs"
)

// launchers returns the scripts that start the program, by their path.
func launchers(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"scripts/cluster.sh", "scripts/slurm/*", "scripts/systemd/*", "scripts/kubernetes/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out[file] = string(text)
		}
	}
	return out
}

var (
	invocation = regexp.MustCompile(`(?:"\$bin"|"\$\{BIN:-counterpoint\}"|/usr/local/bin/counterpoint) ((?:certs (?:init|issue))|[a-z]+)\b([^\n]*)|args: \[([a-z]+), ([^\n]*)\]`)
	longFlag   = regexp.MustCompile(`--[a-z][a-z-]*`)
	setKey     = regexp.MustCompile(`--set "?([a-z._]+)=`)
)

// Every flag and key that a launcher gives is one that the program has.
func TestLaunchersFlags(t *testing.T) {
	help := map[string]string{}
	count := 0
	for file, text := range launchers(t) {
		text = regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(text, "")
		text = strings.ReplaceAll(text, "\\\n", " ")
		for _, m := range invocation.FindAllStringSubmatch(text, -1) {
			sub, rest := m[1]+m[3], m[2]+m[4]
			if help[sub] == "" {
				code, out, errs := command(t, append(strings.Fields(sub), "--help")...)
				if code != 0 || !strings.Contains(out, "--help") {
					t.Fatalf("%s: counterpoint %s --help = %d\n%s", file, sub, code, errs)
				}
				help[sub] = out
			}
			for _, flag := range longFlag.FindAllString(rest, -1) {
				count++
				if !regexp.MustCompile(flag + `\b[^-]`).MatchString(help[sub]) {
					t.Errorf("%s: counterpoint %s has no %s", file, sub, flag)
				}
			}
			for _, key := range setKey.FindAllStringSubmatch(rest, -1) {
				if code, _, errs := command(t, "config", "explain", key[1]); code != 0 {
					t.Errorf("%s: --set %s: %s", file, key[1], errs)
				}
			}
		}
	}
	if count < 20 {
		t.Errorf("%d flags were found in the launchers, which is too few to be all", count)
	}
}

// What kills a process that does not end comes later than the drain that it was told to make.
func TestLaunchersGrace(t *testing.T) {
	seconds := func(file, text, pattern string) int {
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("%s has no %s", file, pattern)
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	all := launchers(t)
	for file, limit := range map[string]string{
		"scripts/slurm/fleet.sbatch": `--signal=B:TERM@(\d+)`, "scripts/slurm/workers.sbatch": `--signal=B:TERM@(\d+)`,
		"scripts/systemd/counterpoint-worker.service": `TimeoutStopSec=(\d+)`, "scripts/kubernetes/workers.yaml": `terminationGracePeriodSeconds: (\d+)`,
	} {
		grace, kill := seconds(file, all[file], `--grace,? (\d+)s`), seconds(file, all[file], limit)
		if kill < grace+15 {
			t.Errorf("%s: killed after %d s, a drain may take %d s and needs some more to end", file, kill, grace)
		}
	}
}

// directives are the options of sbatch that the scripts may use, and what their values look like.
var directives = map[string]string{
	"job-name": `[a-z-]+`, "nodes": `[0-9]+`, "ntasks": `[0-9]+`, "ntasks-per-node": `[0-9]+`, "cpus-per-task": `[0-9]+`, "mem": `[0-9]+[KMGT]`,
	"time": `[0-9]+:[0-9]{2}:[0-9]{2}`, "signal": `B:TERM@[0-9]+`, "requeue": ``, "open-mode": `append|truncate`, "output": `[%a-zA-Z0-9._-]+`,
}

func TestSlurmDirectives(t *testing.T) {
	files, err := filepath.Glob("scripts/slurm/*.sbatch")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		seen, code := 0, false
		for i, line := range strings.Split(string(text), "\n") {
			rest, is := strings.CutPrefix(line, "#SBATCH ")
			if !is {
				code = code || line != "" && !strings.HasPrefix(line, "#")
				continue
			}
			seen++
			name, value, _ := strings.Cut(strings.TrimPrefix(rest, "--"), "=")
			want, known := directives[name]
			if code {
				t.Errorf("%s:%d: %s stands after a command, where sbatch does not read it", file, i+1, rest)
			}
			if !known || !strings.HasPrefix(rest, "--") || !regexp.MustCompile("^("+want+")$").MatchString(value) {
				t.Errorf("%s:%d: %q is no directive that is known here: %v", file, i+1, rest, want)
			}
		}
		if seen == 0 || !strings.HasPrefix(string(text), "#!") {
			t.Errorf("%s has %d directives, or no interpreter", file, seen)
		}
	}
}

// program returns an environment in which a script's BIN is this program.
func program(extra ...string) []string {
	return append(append(os.Environ(), "COUNTERPOINT_TEST_MAIN=1", "BIN="+os.Args[0]), extra...)
}

// The manifests' cluster.yaml is one that the program takes, with what it mounts where it is mounted.
func TestKubernetesConfig(t *testing.T) {
	_, text, ok := strings.Cut(launchers(t)["scripts/kubernetes/coordinators.yaml"], "  cluster.yaml: |\n")
	text, _, end := strings.Cut(text, "\n---")
	if !ok || !end {
		t.Fatal("coordinators.yaml has no cluster.yaml")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "cluster.yaml")
	for _, name := range []string{"ca.pem", "coordinator.pem", "coordinator.key", "tokens.txt"} {
		write(t, filepath.Join(dir, "tls", name), "")
	}
	text = strings.ReplaceAll(strings.ReplaceAll("\n"+text, "\n    ", "\n"), "/etc/counterpoint/tls", filepath.Join(dir, "tls"))
	write(t, file, text)
	config, err := configs.Load(file, configs.Layers{Hosts: true})
	if err != nil {
		t.Fatal(err)
	}
	if !config.Hosts {
		t.Error("cluster.yaml is not that of coordinators that host what is submitted")
	}
	if got := len(config.Cluster.Coordinators); got != 3 {
		t.Errorf("%d coordinators, want the StatefulSet's 3", got)
	}
	for i, c := range config.Cluster.Coordinators {
		if want := fmt.Sprintf("counterpoint-%d", i); c.Name != want || !strings.HasPrefix(c.Raft, want+".counterpoint-peers:") {
			t.Errorf("coordinator %d is %s at %s, want the pod %s", i, c.Name, c.Raft, want)
		}
	}
}

// The Secrets hold certificates that fit what the manifests mount, and again the same CA's.
func TestKubernetesSecrets(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca")
	var authority string
	for range 2 {
		cmd := exec.Command("scripts/kubernetes/secrets.sh", ca, "training")
		cmd.Env = program()
		text, err := cmd.Output()
		if err != nil {
			t.Fatalf("secrets.sh: %v\n%s", err, err.(*exec.ExitError).Stderr)
		}
		files := map[string]string{}
		for _, m := range regexp.MustCompile(`(?m)^  ([a-z.]+): (\S+)$`).FindAllStringSubmatch(string(text), -1) {
			if content, err := base64.StdEncoding.DecodeString(m[2]); err == nil {
				files[m[1]] = string(content)
			}
		}
		for _, name := range []string{"ca.pem", "coordinator.pem", "coordinator.key", "worker.pem", "worker.key", "tokens.txt"} {
			if files[name] == "" {
				t.Errorf("secrets.sh prints no %s:\n%s", name, text)
			}
		}
		if authority != "" && authority != files["ca.pem"] {
			t.Error("the second time there is another CA")
		}
		authority = files["ca.pem"]
		file := filepath.Join(t.TempDir(), "coordinator.pem")
		write(t, file, files["coordinator.pem"])
		_, out, _ := command(t, "certs", "show", file)
		for _, host := range regexp.MustCompile(`raft: "([^:"]+):`).FindAllStringSubmatch(launchers(t)["scripts/kubernetes/coordinators.yaml"], -1) {
			if !strings.Contains(out, host[1]) {
				t.Errorf("the coordinators' certificate is not for %s:\n%s", host[1], out)
			}
		}
	}
}

// scripts/cluster.sh trains a run with several coordinators and workers, to the same bits as one process.
func TestClusterScript(t *testing.T) {
	want, _ := undisturbed(t)
	dir := t.TempDir()
	file := chaosRun(t, dir)
	cmd := exec.Command("scripts/cluster.sh", "3", "2", file)
	fleet := filepath.Join(dir, "fleet")
	cmd.Env = program("DIR=" + fleet)
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("cluster.sh: %v\n%s", err, out)
		}
	case <-time.After(2 * time.Minute):
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-done
		t.Errorf("cluster.sh does not end:\n%s", out)
	}
	if t.Failed() {
		logs, _ := filepath.Glob(filepath.Join(fleet, "*.log"))
		for _, log := range logs {
			text, _ := os.ReadFile(log)
			t.Logf("%s:\n%s", filepath.Base(log), text)
		}
		return
	}
	var events strings.Builder // of whoever led, and of those that only heard
	for i := range 3 {
		text, err := os.ReadFile(filepath.Join(fleet, fmt.Sprintf("c%d", i), "events.jsonl"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		events.Write(text)
	}
	write(t, filepath.Join(dir, "all", "events.jsonl"), events.String())
	if got := committedLedger(t, filepath.Join(dir, "all"), 24); got != want {
		t.Errorf("digest %s, want the undisturbed run's %s\n%s", got, want, out)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".cluster-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	if pids := running(fleet); len(pids) > 0 {
		t.Errorf("processes %v are left over", pids)
	}
}

// Without a run, the coordinators wait for one that is submitted, and a signal ends all of it.
func TestClusterScriptHosts(t *testing.T) {
	fleet := filepath.Join(t.TempDir(), "fleet")
	cmd := exec.Command("scripts/cluster.sh", "3", "1")
	cmd.Env = program("DIR=" + fleet)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	servers := ""
	for lines := bufio.NewScanner(out); servers == "" && lines.Scan(); {
		servers, _ = strings.CutPrefix(lines.Text(), "API: ")
		if !strings.HasPrefix(lines.Text(), "API: ") {
			servers = ""
		}
	}
	deadline := time.Now().Add(time.Minute)
	for _, server := range strings.Split(servers, ",") {
		for ready := false; !ready; time.Sleep(20 * time.Millisecond) {
			if answer, err := http.Get(server + "/readyz"); err == nil {
				ready = answer.StatusCode == http.StatusOK
				answer.Body.Close()
			}
			if time.Now().After(deadline) {
				logs, _ := os.ReadFile(filepath.Join(fleet, "c0.log"))
				t.Fatalf("%s is not ready:\n%s", server, logs)
			}
		}
	}
	if code, out, errs := command(t, "runs", "--server", servers); code != 0 {
		t.Errorf("runs = %d\n%s%s", code, out, errs)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // by a signal
	if code := cmd.ProcessState.ExitCode(); code != 143 {
		t.Errorf("cluster.sh ended with %d, want 143", code)
	}
	if pids := running(fleet); len(pids) > 0 {
		t.Errorf("processes %v are left over", pids)
	}
}

// running returns the processes whose command line names a folder.
func running(folder string) (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), folder) {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	slices.Sort(pids)
	return pids
}
