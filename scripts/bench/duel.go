package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// duel is a row against another peer than peer_step.py. Each side returns its rate in the row's unit.
type duel struct {
	name, unit, against string
	bar, goal           float64
	prepare             func(o options) (ours, theirs func() (float64, error), err error)
}

var duels = []duel{
	{"exact search, top 1,000 of 500 queries over 200,000 x 768", "queries/s", "faiss IndexFlatIP", 1, 0, search},
	{"score a run of 1 M lines, files to scores, one core", "M lines/cpu-s", "pytrec_eval", 2, 0, func(o options) (a, b func() (float64, error), err error) { return scoring(o, true) }},
	{"score a run of 1 M lines, against evaluate() alone", "M lines/cpu-s", "pytrec_eval", 0, 0, func(o options) (a, b func() (float64, error), err error) { return scoring(o, false) }},
}

// fight alternates the sides of a duel.
func (o options) fight(d duel) (outcome, error) {
	out := outcome{Name: d.name, Bar: d.bar, Goal: d.goal, Unit: d.unit}
	ours, theirs, err := d.prepare(o)
	if err != nil {
		return out, err
	}
	var pairs []pair
	for len(pairs) < o.rounds || len(pairs) < 2*o.rounds && len(steady(pairs)) < o.rounds {
		p := pair{Peaks: []float64{o.peak()}}
		if p.Ours, err = ours(); err != nil {
			return out, err
		}
		if p.Peer, err = theirs(); err != nil {
			return out, err
		}
		p.Peaks = append(p.Peaks, o.peak())
		pairs = append(pairs, p)
	}
	out.settle(peerRow{bar: d.bar}, variant{layout: d.against}, pairs)
	return out, nil
}

// search is BenchmarkSearch and search_peer.py, two threads each, each over random vectors of its own.
func search(o options) (ours, theirs func() (float64, error), err error) {
	const queries, size = 500, "500x200000x768"
	binary, err := build(o.work, "./trainer/evaluate")
	if err != nil {
		return nil, nil, err
	}
	ours = func() (float64, error) {
		results, memory, err := benchmark(binary, "^BenchmarkSearch$", "2x", "COUNTERPOINT_SEARCH="+size, "GOMAXPROCS=2")
		if err != nil {
			return 0, err
		}
		progress("search: %.0f MB at most, the vectors are %.0f MB", float64(memory)/1e6, 4*200_500*768/1e6)
		return queries / (results[0].metrics["ns/op"] / 1e9), nil
	}
	theirs = func() (float64, error) {
		var m struct{ Seconds float64 }
		err := o.python3(&m, "search_peer.py", size, "1000", "2")
		return queries / m.Seconds, err
	}
	return ours, theirs, nil
}

// scoring is `counterpoint score` and pytrec_eval over the same files, by processor time; parsed: the peer's reading of
// the files counts, as ours always does.
func scoring(o options, parsed bool) (ours, theirs func() (float64, error), err error) {
	folder, binary := filepath.Join(o.work, "score"), filepath.Join(o.work, "counterpoint")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, nil, err
	}
	if out, err := exec.Command(o.python, filepath.Join(o.work, "score_peer.py"), "--write", folder).CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("write the run: %w\n%s", err, out)
	}
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	ours = func() (float64, error) {
		cmd := exec.Command(binary, "score", "--run", filepath.Join(folder, "run.txt"), "--qrels", filepath.Join(folder, "qrels.txt"))
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
		return 1 / (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), nil
	}
	theirs = func() (float64, error) {
		var m struct{ Parse, Evaluate float64 }
		if err := o.python3(&m, "score_peer.py", folder); err != nil {
			return 0, err
		}
		if parsed {
			m.Evaluate += m.Parse
		}
		return 1 / m.Evaluate, nil
	}
	return ours, theirs, nil
}

// python3 runs a script of the peer's folder and decodes the JSON that it prints.
func (o options) python3(into any, script string, args ...string) error {
	cmd := exec.Command(o.python, append([]string{filepath.Join(o.work, script)}, args...)...)
	cmd.Env = append(os.Environ(), "TOKENIZERS_PARALLELISM=false")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, errs.String())
	}
	return json.Unmarshal(out, into)
}

// fights runs the duels that are wanted.
func (o options) fights() (all []outcome, errs error) {
	for _, d := range duels {
		if !o.wants(d.name) {
			continue
		}
		begin := time.Now()
		out, err := o.fight(d)
		if err != nil {
			progress("%s: %v", d.name, err)
			errs = errors.Join(errs, fmt.Errorf("%s: not measured", d.name))
			continue
		}
		progress("%s: %.2fx, %s; %.0f s", d.name, out.Summary.Ratio, out.Verdict, time.Since(begin).Seconds())
		all = append(all, out)
	}
	return all, errs
}
