//go:build linux

package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
	"github.com/counterpoint-ml/counterpoint/trainer/philox"
)

// Benchmarks run in one thread and report GB/s of what is read and written, or GFLOP/s and the share of the
// FMA peak read in the same run.
//
//	go test -bench . -run '^$' -benchtime 300ms ./trainer/engine/cpu/simd

// threadTime is the CPU time of this thread, in which other load does not show.
func threadTime() float64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return float64(ts.Nano()) / 1e9
}

// rate repeats f and reports the median rate and the median share of the FMA peak read beside each repetition, for as
// long as the repetition took: the other thread of a shared core halves both.
func rate(b *testing.B, flops float64, tokens int, f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f()
	var rates, shares []float64
	for b.Loop() {
		start := threadTime()
		f()
		took := threadTime() - start
		flop, begin := 0.0, threadTime()
		for threadTime()-begin < took && isa.Active() > isa.Portable {
			flop += gemm.Probe(2000)
		}
		peak := flop / (threadTime() - begin)
		rates, shares = append(rates, flops/took), append(shares, flops/took/peak)
	}
	slices.Sort(rates)
	slices.Sort(shares)
	middle := rates[len(rates)/2]
	b.ReportMetric(middle/1e9, "GFLOP/s")
	if share := shares[len(shares)/2]; isa.Active() > isa.Portable { // portable Go has no probe
		b.ReportMetric(100*share, "%peak")
	}
	if tokens > 0 {
		b.ReportMetric(float64(tokens)*middle/flops, "tokens/s")
	}
}

func BenchmarkAttention(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 0))
	short := attentionCase{h: Heads{8, 2, 64}}
	for range 64 { // log-normal lengths about 40, as texts have
		short.lengths = append(short.lengths, min(512, int(math.Exp(3.6+0.5*r.NormFloat64()))+1))
	}
	narrow := short
	narrow.h = Heads{4, 4, 32}
	cases := []struct {
		name string
		c    attentionCase
	}{
		{"short/8x64", short},
		{"short/4x32", narrow},
		{"512/8x64", attentionCase{lengths: []int{512, 512}, h: Heads{8, 2, 64}}},
		{"4096/2x64", attentionCase{lengths: []int{4096}, h: Heads{2, 1, 64}}},
	}
	for _, causal := range []bool{false, true} {
		for _, c := range cases {
			c.c.m.Causal = causal
			b.Run(fmt.Sprintf("%s/causal=%v", c.name, causal), func(b *testing.B) { benchmarkAttention(b, r, c.c) })
		}
	}
	for _, c := range cases { // a mask that is half open: the time of the bidirectional one and that of drawing bits
		c.c.m = Mask{Causal: true, Open: 128}
		b.Run(c.name+"/half open", func(b *testing.B) { benchmarkAttention(b, r, c.c) })
	}
}

func benchmarkAttention(b *testing.B, r *rand.Rand, c attentionCase) {
	cu, h := c.cu(), c.h
	tokens := int(cu[len(cu)-1])
	qkv, dout := normals(r, tokens*h.Width()), normals(r, tokens*h.Query*h.Dim)
	out, lse, dqkv := make([]float32, len(dout)), make([]float32, tokens*h.Query), make([]float32, len(qkv))
	scores := 0.0 // that the mask lets through
	for _, n := range c.lengths {
		if c.m.Causal && c.m.Open == 0 {
			scores += float64(n) * float64(n+1) / 2
		} else {
			scores += float64(n) * float64(n)
		}
	}
	flops := 4 * scores * float64(h.Query*h.Dim)
	b.Run("forward", func(b *testing.B) {
		rate(b, flops, tokens, func() { Attention(nil, out, lse, qkv, cu, h, c.m, 0.125) })
	})
	b.Run("backward", func(b *testing.B) {
		rate(b, 2.5*flops, tokens, func() { AttentionBackward(nil, dqkv, qkv, out, lse, dout, cu, h, c.m, 0.125) })
	})
}

// BenchmarkMultiply is the attention's product alone, the rate the others are compared with.
func BenchmarkMultiply(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 0))
	for _, s := range [][3]int{{12, 64, 64}, {64, 64, 64}, {40, 40, 64}, {20, 32, 32}, {64, 16, 64}} {
		b.Run(fmt.Sprint(s), func(b *testing.B) {
			m, n, k := s[0], s[1], s[2]
			x, y, z := normals(r, m*k), normals(r, k*n), normals(r, m*n)
			rate(b, 100*2*float64(m*n*k), 0, func() {
				for range 100 {
					multiply(m, n, k, x, k, 1, y, n, z, n, false)
				}
			})
		})
	}
}

func BenchmarkRows(b *testing.B) {
	const t, d = 512, 576
	r := rand.New(rand.NewPCG(1, 0))
	x, y, z, u, w := normals(r, t*2*d), normals(r, t*2*d), normals(r, t*2*d), normals(r, t*2*d), normals(r, d)
	one := x[:t*d]
	rstd, cu := make([]float32, t), []int32{0, t}
	h := Heads{6, 3, 64}
	rotary := NewRotary(between(r, 32, 0, 1))
	sum := make([]int64, t*d)
	k := AdamWScalars{1, 1, 0.9, 0.1, 0.999, 0.001, 1e-3, 1, 1e-8}
	ids := make([]int32, t)
	for i := range ids {
		ids[i] = int32(r.IntN(t))
	}
	for _, c := range []struct {
		name  string
		bytes int
		f     func()
	}{
		{"Exp", 8 * t * d, func() { Exp(y[:t*d], one) }},
		{"Add", 12 * t * d, func() { Add(nil, y[:t*d], one, z[:t*d]) }},
		{"ColumnSums", 4 * t * d, func() { ColumnSums(nil, w, one, false) }},
		{"RMSNorm", 8 * t * d, func() { RMSNorm(nil, y[:t*d], one, w, rstd, 1e-6) }},
		{"RMSNormBackward", 16 * t * d, func() { RMSNormBackward(nil, y[:t*d], nil, z[:t*d], one, w, rstd, u[:t*d], 1e-6) }},
		{"SwiGLU", 12 * t * d, func() { SwiGLU(nil, y[:t*d], x, d) }},
		{"SwiGLUBackward", 20 * t * d, func() { SwiGLUBackward(nil, y, z[:t*d], x, d) }},
		{"Rotary", 8 * t * h.Width(), func() { rotary.Apply(nil, y[:t*h.Width()], x[:t*h.Width()], cu, h) }},
		{"Dropout", 8 * t * d, func() { Dropout(nil, y[:t*d], one, cu, []uint32{1}, d, philox.Key{1, 2}, 3, 0.1) }},
		{"Gather", 8 * t * d, func() { Gather(nil, y[:t*d], one, ids, d) }},
		{"ScatterAdd", 12 * t * d, func() { ScatterAdd(nil, y[:t*d], one, ids, d) }},
		{"AdamW", 28 * t * d, func() { AdamW(nil, y[:t*d], z[:t*d], positiveOnce(u[:t*d]), one, k) }},
		{"Quantise", 20 * t * d, func() { Quantise(sum, one, 1<<20) }},
		{"Dequantise", 12 * t * d, func() { Dequantise(y[:t*d], sum, 1./(1<<20)) }},
		{"MaxAbs", 4 * t * d, func() { MaxAbs(one) }},
		{"SumSquares", 4 * t * d, func() { SumSquares(one) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(c.bytes))
			for b.Loop() {
				c.f()
			}
		})
	}
}

// positiveOnce makes values usable as second moments; squares of squares would underflow if it did so each time.
func positiveOnce(x []float32) []float32 {
	if x[0] < 0 || x[1] < 0 || x[2] < 0 || x[3] < 0 {
		positive(x)
	}
	return x
}
