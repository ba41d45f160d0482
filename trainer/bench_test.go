//go:build linux

package trainer

import (
	"cmp"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
	"github.com/counterpoint-ml/counterpoint/trainer/optim"
)

// BenchmarkTrainStep measures whole training steps in real tokens a second, as the PyTorch peer does: triples with
// one hard negative, bidirectional, mean pooling, temperature 0.05, AdamW with clipping. COUNTERPOINT_BATCHES names a
// file that `peer_step.py --batches` wrote, for the peer's own lengths; without it lengths are drawn alike.
//
// GFLOP/s are the peer's: 4N (LoRA) or 6N (full) a token, N the weights of the linear layers; what adapters, attention
// and a second forward pass compute counts as nothing. %peak is their share of the multiply-adds that all threads
// reached together right before and after each step; medians of steps.
func BenchmarkTrainStep(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.name, func(b *testing.B) {
			dir := s.folder(b)
			b.Run("lora", func(b *testing.B) { s.bench(b, dir, "lora") })
			if s.name != "qwen0.5b" { // the peer's full row is not measured: 10 GB
				b.Run("full", func(b *testing.B) { s.bench(b, dir, "full") })
			}
		})
	}
}

func (s size) bench(b *testing.B, dir, mode string) {
	config := Config{
		Model: backbone.Config{Path: dir, Attention: backbone.Bidirectional},
		Loss:  contrastive.Config{Kind: contrastive.InfoNCEKind, Temperature: 0.05},
		Optimizer: optim.Config{
			Schedule: optim.Schedule{Peak: 1e-4, Decay: optim.Constant}, Clip: 1, WeightDecay: 0.01,
		},
		Steps: 1 << 30,
	}
	flop := 6 * s.linear()
	if mode == "lora" {
		config.Model.LoRA = &backbone.LoRAConfig{Rank: 16, Alpha: 32}
		flop = 4 * s.linear()
	}
	tr := onCPU(b, config, runtime.GOMAXPROCS(0), Options{Keep: 8 << 30})
	batches := s.batches(b)
	type sample struct{ rate, cpu, peak float64 }
	var samples []sample
	step := int64(0)
	one := func() {
		header, shards := tripleBatch(batches[int(step)%len(batches)])
		peak := peakNow(tr.pool)
		start, used := time.Now(), clock(unix.CLOCK_PROCESS_CPUTIME_ID)
		o, err := tr.Step(b.Context(), header, step, NewSolo(tr, shards, header.Slots))
		if err != nil {
			b.Fatal(err)
		}
		took, work := time.Since(start), clock(unix.CLOCK_PROCESS_CPUTIME_ID)-used
		samples = append(samples, sample{
			rate: float64(o.Tokens) / took.Seconds(),
			cpu:  float64(o.Tokens) / work.Seconds() * float64(runtime.GOMAXPROCS(0)),
			peak: (peak + peakNow(tr.pool)) / 2,
		})
		step++
	}
	for range 3 { // the first steps of a run compile programs and repeat an attempt
		one()
	}
	samples = samples[:0]
	for b.Loop() {
		one()
	}
	median := func(f func(s sample) float64) float64 {
		slices.SortFunc(samples, func(x, y sample) int { return cmp.Compare(f(x), f(y)) })
		return f(samples[len(samples)/2])
	}
	b.ReportMetric(median(func(s sample) float64 { return s.rate }), "tokens/s")
	b.ReportMetric(median(func(s sample) float64 { return s.cpu }), "tokens/cpu-s*threads") // what a quiet machine would give, at best
	b.ReportMetric(median(func(s sample) float64 { return s.rate * flop / 1e9 }), "GFLOP/s")
	b.ReportMetric(median(func(s sample) float64 { return 100 * s.rate * flop / s.peak }), "%peak")
	b.ReportMetric(0, "ns/op")
}

// peakNow is the peak FLOP/s now of the threads of p together: the sum of what each reaches, by its own CPU time.
func peakNow(p *pool.Pool) float64 {
	rates := make([]float64, p.Threads())
	p.For(len(rates), func(i int) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		start := clock(unix.CLOCK_THREAD_CPUTIME_ID)
		flop := gemm.Probe(1 << 17)
		rates[i] = flop / (clock(unix.CLOCK_THREAD_CPUTIME_ID) - start).Seconds()
	})
	sum := 0.0
	for _, r := range rates {
		sum += r
	}
	return sum
}

func clock(id int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}
