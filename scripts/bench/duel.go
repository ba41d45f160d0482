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
	{"tokenizer, English, one core", "MB/cpu-s", "Hugging Face's Rust", 3, 0, tokenizing("english")},
	{"tokenizer, code, one core", "MB/cpu-s", "Hugging Face's Rust", 3, 0, tokenizing("code")},
	{"tokenizer, CJK, one core", "MB/cpu-s", "Hugging Face's Rust", 3, 0, tokenizing("cjk")},
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

// tokenizing is BenchmarkText and tokenize_peer.py on the same texts with the same tokenizer, Qwen3's, by processor time.
// Both must make as many tokens.
func tokenizing(kind string) func(o options) (a, b func() (float64, error), err error) {
	return func(o options) (ours, theirs func() (float64, error), err error) {
		folder := filepath.Join(o.work, "texts")
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, nil, err
		}
		source := os.Getenv("COUNTERPOINT_DATA")
		if source == "" {
			source = filepath.Join("..", "shared", "data")
		}
		if out, err := exec.Command(o.python, filepath.Join(o.work, "tokenize_peer.py"), "--write", source, ".", folder).CombinedOutput(); err != nil {
			return nil, nil, fmt.Errorf("write the texts: %w\n%s", err, out)
		}
		binary, err := build(o.work, "./data/tokenize")
		if err != nil {
			return nil, nil, err
		}
		var tokens float64
		ours = func() (float64, error) {
			results, _, err := benchmark(binary, "^BenchmarkText$", "300ms", "GOMAXPROCS=1",
				"COUNTERPOINT_BENCH_TEXT="+filepath.Join(folder, kind), "COUNTERPOINT_BENCH_TOKENIZER="+filepath.Join(folder, "qwen3"))
			if err != nil {
				return 0, err
			}
			tokens = results[0].metrics["tokens"]
			return results[0].metrics["MB/cpu-s"], nil
		}
		theirs = func() (float64, error) {
			var m struct{ Rate, Tokens float64 }
			err := o.python3(&m, "tokenize_peer.py", folder, kind)
			if err == nil && m.Tokens != tokens {
				err = fmt.Errorf("%s: %.0f tokens, the peer's %.0f", kind, tokens, m.Tokens)
			}
			return m.Rate, err
		}
		return ours, theirs, nil
	}
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
