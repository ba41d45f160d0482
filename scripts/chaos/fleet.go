package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// fleet is the coordinators and workers of a soak.
type fleet struct {
	options
	dir          string
	binary       string
	random       *rand.Rand
	network      *network // nil = loopback
	coordinators []*host
	workers      []*host
	watch        *watcher
	link         *proxy  // between the last worker and its coordinator
	disks        []*host // whose folder is a small file system of its own
}

// runFile is a small run whose steps are short; each has several shards, so that losses hit their middle.
const runFile = `name: chaos
model: {preset: tiny-diffusion, lora: {rank: 4, alpha: 8, dropout: 0.1}}
data: [{path: %s}]
loss: {kind: infonce, temperature: 0.05, hard_negatives: 1}
train: {batch: 64, steps: %d, max_length: 48, seed: 7, shard_tokens: 512, schedule: {peak: 1e-3, warmup: 4}}
checkpoint: {every: 25, keep: 3, dir: %s}
`

// build makes the program unless there is one.
func (f *fleet) build() error {
	if f.options.binary != "" {
		var err error
		f.binary, err = filepath.Abs(f.options.binary)
		return err
	}
	f.binary = filepath.Join(f.dir, "counterpoint")
	if out, err := exec.Command("go", "build", "-o", f.binary, "github.com/counterpoint-ml/counterpoint").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// files writes the data, and a run file whose checkpoints go into a folder.
func (f *fleet) files(name, checkpoints, cluster string) (string, error) {
	var pairs bytes.Buffer
	for i := range 300 {
		fmt.Fprintf(&pairs, `{"query":"what is item %d of the list","positive":"item %d is described by these words and the number %d","negatives":["something else, number %d, that is not asked for"]}`+"\n", i, i, i*i, i+7)
	}
	data := filepath.Join(f.dir, "pairs.jsonl")
	file := filepath.Join(f.dir, name)
	return file, errors.Join(os.WriteFile(data, pairs.Bytes(), 0o644),
		os.WriteFile(file, fmt.Appendf(nil, runFile+cluster, data, f.steps, checkpoints), 0o644))
}

// undisturbed trains alone, with one worker and no faults.
func (f *fleet) undisturbed(ctx context.Context) (digest string, took time.Duration, err error) {
	file, err := f.files("alone.yaml", filepath.Join(f.dir, "alone", "checkpoints"), "")
	if err != nil {
		return "", 0, err
	}
	h := &host{name: "alone", dir: filepath.Join(f.dir, "alone")}
	began := time.Now()
	cmd := exec.CommandContext(ctx, f.binary, "train", file, "--set", "log.dir="+h.dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", 0, fmt.Errorf("the undisturbed run: %w\n%s", err, out)
	}
	took = time.Since(began)
	w := newWatcher([]*host{h})
	for path := range w.files() {
		if _, err := w.read(path, h, 0); err != nil {
			return "", 0, err
		}
	}
	digest, err = w.whole(f.steps)
	if err == nil && digest == "" {
		err = errors.New("the undisturbed run has no last step")
	}
	return digest, took, err
}

// certificate issues one of the fleet's own CA, which is made at the first.
func (f *fleet) certificate(role, name string, hosts ...string) (pem, key string, err error) {
	ca := filepath.Join(f.dir, "ca")
	commands := [][]string{{"certs", "issue", "--ca", ca, "--role", role, "--name", name, "--out", f.dir}}
	for _, h := range hosts {
		commands[0] = append(commands[0], "--host", h)
	}
	if _, err := os.Stat(ca); errors.Is(err, os.ErrNotExist) {
		commands = append([][]string{{"certs", "init", ca}}, commands...)
	}
	for _, args := range commands {
		if out, err := exec.Command(f.binary, args...).CombinedOutput(); err != nil {
			return "", "", fmt.Errorf("%v: %w\n%s", args, err, out)
		}
	}
	return filepath.Join(f.dir, name+".pem"), filepath.Join(f.dir, name+".key"), nil
}

// launch starts everybody.
func (f *fleet) launch() error {
	var list, join []string
	ports, err := freePorts(4 * f.options.coordinators)
	if err != nil {
		return err
	}
	for i := range f.options.coordinators {
		h := &host{name: string(rune('a' + i)), address: "127.0.0.1", dir: filepath.Join(f.dir, string(rune('a'+i)))}
		p := ports[4*i:]
		if f.network != nil {
			if err := f.network.join(h, i); err != nil {
				return err
			}
			p = []int{7300, 4222, 6222, 8300}
		}
		list = append(list, fmt.Sprintf("    - {name: %s, raft: %[2]s:%[3]d, nats: %[2]s:%[4]d, route: %[2]s:%[5]d, api: %[2]s:%[6]d}", h.name, h.address, p[0], p[1], p[2], p[3]))
		join = append(join, fmt.Sprintf("nats://%s:%d", h.address, p[1]))
		f.coordinators = append(f.coordinators, h)
	}
	cluster := fmt.Sprintf("cluster:\n  failure_timeout: %v\n", f.timeout)
	if f.network != nil {
		cluster += fmt.Sprintf("  admit: certificate\n  tls: {ca: %s}\n", filepath.Join(f.dir, "ca", "ca.pem"))
	}
	if len(list) > 1 {
		cluster += "  coordinators:\n" + strings.Join(list, "\n") + "\n"
	}
	file, err := f.files("fleet.yaml", filepath.Join(f.dir, "checkpoints"), cluster)
	if err != nil {
		return err
	}
	for i, h := range f.coordinators {
		if err := f.disk(h); err != nil {
			return err
		}
		h.args = []string{"coordinator", "--config", file, "--dir", filepath.Join(h.dir, "state")}
		if f.network != nil {
			pem, key, err := f.certificate("coordinator", h.name, h.address, subnet+"1")
			if err != nil {
				return err
			}
			h.args = append(h.args, "--set", "cluster.tls.certificate="+pem, "--set", "cluster.tls.key="+key)
		}
		if len(list) > 1 {
			h.args = append(h.args, "--name", h.name)
		} else {
			h.args = append(h.args, "--set", "cluster.listen="+strings.TrimPrefix(join[i], "nats://"))
		}
	}
	for i := range f.options.workers {
		h := &host{name: fmt.Sprintf("w%d", i), address: "127.0.0.1", dir: filepath.Join(f.dir, fmt.Sprintf("w%d", i))}
		if err := os.MkdirAll(h.dir, 0o755); err != nil {
			return err
		}
		if f.network != nil {
			if err := f.network.join(h, f.options.coordinators+i); err != nil {
				return err
			}
		}
		to := strings.Join(join, ",")
		if i == f.options.workers-1 {
			listen := "127.0.0.1:0"
			if f.network != nil {
				listen = subnet + "1:0"
			}
			if f.link, err = newProxy(listen, strings.TrimPrefix(join[i%len(join)], "nats://")); err != nil {
				return err
			}
			to = "nats://" + f.link.address()
		}
		h.args = []string{"worker", "--join", to, "--name", h.name, "--threads", "1", "--failure-timeout", f.timeout.String()}
		if f.network != nil {
			pem, key, err := f.certificate("worker", h.name)
			if err != nil {
				return err
			}
			h.args = append(h.args, "--tls", strings.Join([]string{filepath.Join(f.dir, "ca", "ca.pem"), pem, key}, ","), "--key", filepath.Join(h.dir, "nkey"))
		}
		h.env = []string{"COUNTERPOINT_CACHE=" + filepath.Join(h.dir, "cache")}
		f.workers = append(f.workers, h)
	}
	f.watch = newWatcher(f.coordinators)
	for _, h := range f.everybody() {
		if err := h.start(f.binary); err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) everybody() []*host {
	return append(append([]*host(nil), f.coordinators...), f.workers...)
}

// disk gives a coordinator a folder; as root one on a small file system of its own, which can be filled.
func (f *fleet) disk(h *host) error {
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return nil
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=96m", "counterpoint-chaos", h.dir).CombinedOutput(); err != nil {
		say("no small file systems here: %s", strings.TrimSpace(string(out)))
		return nil
	}
	f.disks = append(f.disks, h)
	return nil
}

// end ends everybody and takes away what was made.
func (f *fleet) end() {
	for _, h := range f.everybody() {
		h.kill()
	}
	if f.link != nil {
		f.link.close()
	}
	for _, h := range f.disks {
		if f.keep { // what lies on it would go with it
			if out, err := exec.Command("cp", "-a", h.dir, h.dir+".kept").CombinedOutput(); err != nil {
				say("keep %s: %s", h.dir, out)
			}
		}
		if out, err := exec.Command("umount", "-l", h.dir).CombinedOutput(); err != nil {
			say("unmount %s: %s", h.dir, strings.TrimSpace(string(out)))
		}
	}
	f.network.close()
}
