package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// limit is a row of `make bench`: figures of one package's benchmarks against fixed bars.
type limit struct {
	name, pkg, match string
	benchtime        string // "" = -benchtime
	figures          func([]result) []figure
}

// figure is one line of the table.
type figure struct {
	Name, Value, Bar string
	Met              bool
}

var limitRows = []limit{
	{"sgemm", "./trainer/engine/cpu/gemm", "^BenchmarkSGEMM$", "", sgemm},
	{"rank 16", "./trainer/engine/cpu/gemm", "^BenchmarkSGEMMRank$", "", rank},
	{"attention", "./trainer/engine/cpu/simd", "^BenchmarkAttention$/^4096$/^2x64$/^causal=false$", "1s", attention},
	{"tokenizer", "./data/tokenize", "^BenchmarkEncode$", "1s", tokenizer},
	{"load", "./trainer", "^BenchmarkLoad$", "10x", load},
	{"gradcache", "./trainer", "^BenchmarkGradCache$", "3x", gradCache}, // minutes: of the peer's table only
	{"allocations", "./trainer", "^BenchmarkTrainStep$/^(tiny|small)$/^(lora|full)$", "20x", allocations},
}

// limits runs the rows and prints figures beside bars.
func limits(o options) error {
	dir, err := os.MkdirTemp("", "bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var all []figure
	for _, row := range limitRows {
		if !o.wants(row.name) || row.name == "gradcache" && o.only == "" {
			continue
		}
		figures, err := o.limit(dir, row)
		if err != nil {
			return err
		}
		all = append(all, figures...)
	}
	table := [][]string{{"figure", "measured", "bar", ""}}
	for _, f := range all {
		table = append(table, []string{f.Name, f.Value, f.Bar, verdict(f.Met)})
	}
	return o.write(table, all)
}

// limit measures one row with a test binary in dir.
func (o options) limit(dir string, row limit) ([]figure, error) {
	progress("%s: %s %s", row.name, row.pkg, row.match)
	binary, err := build(dir, row.pkg)
	if err != nil {
		return nil, err
	}
	time := row.benchtime
	if time == "" {
		time = o.benchtime
	}
	results, _, err := benchmark(binary, row.match, time)
	if err != nil {
		return nil, err
	}
	return row.figures(results), nil
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "MISSED"
}

var product = regexp.MustCompile(`threads=(\d)/(\d+)x(\d+)x(\d+)$`)

// sgemm weighs the shares of the peak by flops.
func sgemm(results []result) (figures []figure) {
	type sums struct{ flops, weighted, least float64 }
	by := map[string]*sums{}
	for _, r := range results {
		m := product.FindStringSubmatch(r.name)
		if m == nil {
			continue
		}
		s := by[m[1]]
		if s == nil {
			s = &sums{least: 1e9}
			by[m[1]] = s
		}
		flops := 2.0
		for _, n := range m[2:] {
			v, _ := strconv.ParseFloat(n, 64) // digits
			flops *= v
		}
		s.flops += flops
		s.weighted += flops * r.metrics["%peak"]
		s.least = min(s.least, r.metrics["%peak"])
	}
	for _, threads := range []string{"1", "2"} {
		if s := by[threads]; s != nil {
			share := s.weighted / s.flops
			figures = append(figures, figure{
				fmt.Sprintf("SGEMM, 24 shapes, %s thread(s), %% of FMA peak", threads),
				fmt.Sprintf("%.1f %%, lowest shape %.0f %%", share, s.least), ">= 75 %, none under 60 %", share >= 75 && s.least >= 60,
			})
		}
	}
	return figures
}

// rank is the slowest of the adapters' products in one thread.
func rank(results []result) []figure {
	least, name := 1e9, ""
	for _, r := range results {
		if v := r.metrics["GFLOP/s"]; strings.Contains(r.name, "threads=1/") && v < least {
			least, name = v, r.name[strings.Index(r.name, "threads=1/")+len("threads=1/"):]
		}
	}
	return []figure{{"rank-16 products, 1 thread, the slowest: " + name, fmt.Sprintf("%.0f GFLOP/s", least), ">= 80 GFLOP/s", least >= 80}}
}

// attention joins forward and backward, which has 2.5 times the flops.
func attention(results []result) []figure {
	time, flops, parts := 0.0, 0.0, []string{}
	for _, r := range results {
		weight := 1.0
		if strings.HasSuffix(r.name, "backward") {
			weight = 2.5
		}
		flops += weight
		time += weight / r.metrics["%peak"]
		parts = append(parts, fmt.Sprintf("%.0f", r.metrics["%peak"]))
	}
	share := flops / time
	return []figure{{"attention, bidirectional, 4,096 tokens, head 64, % of FMA peak", fmt.Sprintf("%.0f %% (forward, backward: %s)", share, strings.Join(parts, ", ")), ">= 45 %", share >= 45}}
}

func tokenizer(results []result) (figures []figure) {
	for _, r := range results {
		v := r.metrics["MB/s"]
		figures = append(figures, figure{"tokenizer, one core, " + strings.TrimPrefix(r.name, "Encode/"), fmt.Sprintf("%.1f MB/s", v), ">= 15 MB/s", v >= 15})
	}
	return figures
}

func load(results []result) []figure {
	m := results[0].metrics
	return []figure{{
		"model load, smollm2 shape, bf16, against reading its bytes", fmt.Sprintf("%.2fx (%.0f ms, %.0f ms)", m["load/read"], m["load-ms"], m["read-ms"]),
		"<= 4x", m["load/read"] <= 4,
	}}
}

// gradCache compares steps that compute every forward pass again with steps that keep activations, and beyond the batch
// where they can be kept with that batch; by the clock.
func gradCache(results []result) (figures []figure) {
	for _, r := range results {
		mode, bar := "LoRA", 1.65
		if strings.HasSuffix(r.name, "full") {
			mode, bar = "full", 1.45
		}
		again, beyond := r.metrics["recomputed/kept"], r.metrics["beyond/recomputed"]
		figures = append(
			figures,
			figure{fmt.Sprintf("GradCache forced against activations kept, time per token, %s, %.0f pairs", mode, r.metrics["pairs"]), fmt.Sprintf("%.2fx", again), fmt.Sprintf("<= %.2fx", bar), again <= bar},
			figure{fmt.Sprintf("four times that batch against it, time per token, %s", mode), fmt.Sprintf("%.2fx", beyond), "within 5 %", beyond <= 1.05},
		)
	}
	return figures
}

// allocations are those of a step; tiny has 4 layers and small has 6, and one that grew with the operations would show.
func allocations(results []result) (figures []figure) {
	for _, r := range results {
		figures = append(figures, figure{
			"allocations of a step, " + strings.TrimPrefix(r.name, "TrainStep/"), fmt.Sprintf("%.0f (%.0f kB)", r.metrics["allocs/op"], r.metrics["B/op"]/1e3),
			"O(1): < 1,000", r.metrics["allocs/op"] < 1000,
		})
	}
	return figures
}
