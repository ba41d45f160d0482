package main

import (
	"math"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	got := parse("goos: linux\nBenchmarkSGEMM/avx512/threads=1: 93.5 % of peak\nBenchmarkTrainStep/tiny/lora-2  \t 12\t 140 ns/op\t 25851 tokens/s\t 7 allocs/op\nPASS\n")
	if len(got) != 1 || got[0].name != "TrainStep/tiny/lora" || got[0].metrics["tokens/s"] != 25851 || got[0].metrics["allocs/op"] != 7 {
		t.Errorf("parse = %+v, want one line, TrainStep/tiny/lora at 25851 tokens/s and 7 allocs/op", got)
	}
}

// Pairs between which the peak moved by more than a fifth do not count, and the ratio is the median of pairs' ratios.
func TestSummary(t *testing.T) {
	pairs := []pair{
		{Ours: 200, Peer: 100, Share: 50, Peaks: []float64{300, 310, 305, 300}},
		{Ours: 300, Peer: 100, Share: 60, Peaks: []float64{300, 300, 300, 300}},
		{Ours: 900, Peer: 100, Share: 70, Peaks: []float64{300, 175, 300, 300}},
		{Ours: 100, Peer: 100, Share: 40, Peaks: []float64{340, 300, 290, 300}},
	}
	kept := steady(pairs)
	if len(kept) != 3 {
		t.Fatalf("steady kept %d pairs, want 3", len(kept))
	}
	if s := summarize(kept); s.Ratio != 2 || s.Least != 1 || s.Most != 3 || s.Share != 50 || s.Peak != 300 || s.Pairs != 3 {
		t.Errorf("summarize = %+v, want ratio 2 (1 - 3), 50 %% of 300", s)
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("median = %g, want 2.5", m)
	}
}

func TestVerdicts(t *testing.T) {
	row := peerRow{bar: 2, share: 55}
	for _, c := range []struct {
		ratio, share float64
		want         string
	}{{2.1, 10, "met by ratio"}, {1.9, 56, "met by 55 % of peak"}, {1.9, 54, "MISSED"}} {
		var r outcome
		r.settle(row, variants[0], []pair{{Ours: c.ratio, Peer: 1, Share: c.share, Peaks: []float64{300, 300, 300, 300}}})
		if r.Verdict != c.want {
			t.Errorf("ratio %g, share %g: %q, want %q", c.ratio, c.share, r.Verdict, c.want)
		}
	}
	var r outcome
	r.settle(row, variants[0], []pair{{Ours: 3, Peer: 1, Peaks: []float64{300, 100, 300, 300}}})
	if !strings.Contains(r.Verdict, "the peak moved") {
		t.Errorf("a pair with a moving peak alone: %q does not say so", r.Verdict)
	}
}

// The shares of shapes are weighted by their flops.
func TestSGEMM(t *testing.T) {
	got := sgemm([]result{
		{"SGEMM/avx512/threads=1/100x10x10", map[string]float64{"%peak": 90}},
		{"SGEMM/avx512/threads=1/300x10x10", map[string]float64{"%peak": 70}},
	})
	if len(got) != 1 || !strings.HasPrefix(got[0].Value, "75.0 %, lowest shape 70") || !got[0].Met {
		t.Errorf("sgemm = %+v, want 75.0 %% and lowest 70 %%, met", got)
	}
	a := attention([]result{{"Attention/forward", map[string]float64{"%peak": 80}}, {"Attention/backward", map[string]float64{"%peak": 40}}})
	if want := 3.5 / (1/80.0 + 2.5/40); !strings.HasPrefix(a[0].Value, "47") || math.Abs(want-46.67) > 0.01 {
		t.Errorf("attention = %+v, want 47 %% of %g", a, want)
	}
}
