package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
)

// fleet measures how an evaluation scales: its suite embedded by one worker on core 0, then by two workers on a core each,
// in turns, against what the FMA probe scales just then.
func fleet(o options) error {
	if o.model == "" || o.suite == "" {
		return errors.New("-model FOLDER and -suite FOLDER are needed")
	}
	dir, err := os.MkdirTemp("", "bench-fleet-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "counterpoint")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	if err := subset(o.suite, filepath.Join(dir, "suite"), o.documents); err != nil {
		return err
	}
	run := fleetRun{dir: dir, binary: binary, model: o.model}
	var scaling, speedup []float64
	for i := range o.rounds {
		one, err := run.evaluate(1, i)
		if err != nil {
			return err
		}
		p1, err := probes(1)
		if err != nil {
			return err
		}
		two, err := run.evaluate(2, i)
		if err != nil {
			return err
		}
		p2, err := probes(2)
		if err != nil {
			return err
		}
		scaling, speedup = append(scaling, p2/p1), append(speedup, one.Seconds()/two.Seconds()/(p2/p1))
		progress("round %d: %v with 1 worker, %v with 2, the probe scales %.2f", i+1, one.Round(10*time.Millisecond), two.Round(10*time.Millisecond), p2/p1)
	}
	s := median(speedup)
	fmt.Printf("evaluation of %d documents, 2 pinned workers against 1, over what the FMA probe scales (%.2f): %.2f of %v, bar 0.90, %s\n",
		o.documents, median(scaling), s, rounded(speedup), verdict(s >= 0.9))
	return nil
}

func rounded(values []float64) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = strconv.FormatFloat(v, 'f', 2, 64)
	}
	return out
}

// subset copies the first documents of a set in BEIR layout, the queries judged on them and their judgments.
func subset(from, to string, documents int) error {
	script := `import gzip,json,os,sys,glob
src,dst,n=sys.argv[1],sys.argv[2],int(sys.argv[3])
os.makedirs(dst+"/qrels")
read=lambda name: [l for p in glob.glob(src+"/"+name+".jsonl*") for l in (gzip.open(p,"rt") if p.endswith("gz") else open(p))]
docs=read("corpus")[:n]; keep={json.loads(l)["_id"] for l in docs}
lines=open(glob.glob(src+"/qrels/*.tsv")[0]).read().splitlines()
rel=[l for l in lines[1:] if l.split("\t")[1] in keep]; asked={l.split("\t")[0] for l in rel}
open(dst+"/corpus.jsonl","w").writelines(docs)
open(dst+"/queries.jsonl","w").writelines(l for l in read("queries") if json.loads(l)["_id"] in asked)
open(dst+"/qrels/test.tsv","w").write("\n".join([lines[0]]+rel)+"\n")`
	if out, err := exec.Command("python3", "-c", script, from, to, strconv.Itoa(documents)).CombinedOutput(); err != nil {
		return fmt.Errorf("cut the suite: %w\n%s", err, out)
	}
	return nil
}

type fleetRun struct{ dir, binary, model string }

// evaluate returns how long the evaluation before the first step takes with so many workers, from the moment when the first
// of them has the model.
func (r fleetRun) evaluate(workers, round int) (time.Duration, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return 0, err
	}
	folder := filepath.Join(r.dir, fmt.Sprintf("run-%d-%d", round, workers))
	pairs, file := folder+".jsonl", folder+".yaml"
	rows := strings.Repeat(`{"query":"a question","positive":"an answer"}`+"\n"+`{"query":"another one","positive":"its answer"}`+"\n", 2)
	yaml := fmt.Sprintf(`name: fleet
model: {path: %q, attention: bidirectional, lora: {rank: 1}}
data: [{path: %q}]
train: {batch: 2, steps: 1, max_length: 64, schedule: {peak: 1e-5}}
evaluate: {at_start: true, suites: [{path: %q, max_length: 512}]}
cluster: {workers: %d, listen: %q, failure_timeout: 10s}
`, r.model, pairs, filepath.Join(r.dir, "suite"), workers, address)
	if err := errors.Join(os.WriteFile(pairs, []byte(rows), 0o644), os.WriteFile(file, []byte(yaml), 0o644)); err != nil {
		return 0, err
	}
	var running []*exec.Cmd
	defer func() {
		for _, c := range running {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}()
	coordinator := exec.Command(r.binary, "coordinator", "--config", file, "--dir", folder, "--json")
	events, err := coordinator.StdoutPipe()
	if err != nil {
		return 0, err
	}
	var errs strings.Builder
	coordinator.Stderr = &errs
	if err := coordinator.Start(); err != nil {
		return 0, err
	}
	running = append(running, coordinator)
	for i := range workers {
		w := exec.Command("taskset", "-c", strconv.Itoa(i), r.binary, "worker", "--join", "nats://"+address, "--threads", "1", "--name", fmt.Sprint("w", i))
		w.Env = append(os.Environ(), "GOMAXPROCS=1")
		if err := w.Start(); err != nil {
			return 0, err
		}
		running = append(running, w)
	}
	began := time.Time{}
	in := bufio.NewScanner(events)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var e struct {
			Kind string    `json:"kind"`
			Time time.Time `json:"time"`
		}
		if json.Unmarshal(in.Bytes(), &e) != nil {
			continue
		}
		switch e.Kind {
		case "ready":
			if began.IsZero() {
				began = e.Time
			}
		case "evaluation":
			return e.Time.Sub(began), nil
		}
	}
	return 0, fmt.Errorf("the coordinator ended without an evaluation: %s", errs.String())
}

// probes returns the summed FMA rate of n processes, each on its own core, in GFLOP/s.
func probes(n int) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	var outputs []io.Reader
	var all []*exec.Cmd
	for i := range n {
		c := exec.Command("taskset", "-c", strconv.Itoa(i), self, "probe")
		c.Env = append(os.Environ(), "GOMAXPROCS=1")
		out, err := c.StdoutPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			return 0, err
		}
		all, outputs = append(all, c), append(outputs, out)
	}
	sum := 0.0
	for i, c := range all {
		var rate float64
		if _, err := fmt.Fscan(outputs[i], &rate); err != nil {
			return 0, err
		}
		sum += rate
		if err := c.Wait(); err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// probe prints the FMA rate of this process over two seconds.
func probe() {
	flop, began := 0.0, time.Now()
	for time.Since(began) < 2*time.Second {
		flop += gemm.Probe(1 << 16)
	}
	fmt.Println(flop / time.Since(began).Seconds() / 1e9)
}
