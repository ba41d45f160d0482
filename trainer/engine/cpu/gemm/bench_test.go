//go:build linux

package gemm

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// The benchmarks print GFLOP/s and the share of the peak that Probe reads right before and after each repetition;
// medians.
//
//	go test -run - -bench SGEMM -benchtime 150ms ./trainer/engine/cpu/gemm
//
// One thread is timed by its CPU time, so that other load does not show; two threads by wall time. Dropped are
// repetitions in which the peak moved by more than 20 % (the other thread of the core woke up) or in which two threads
// had less than 90 % of two processors; if that leaves none, "peak-moved" and "cpus" tell.

func clock(id int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

// probeRate is the peak FLOP/s now of the threads of p together: the sum of what each reaches at the same time.
func probeRate(p *pool.Pool) float64 {
	const rounds = 40000
	one := func() float64 {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		start := clock(unix.CLOCK_THREAD_CPUTIME_ID)
		flop := Probe(rounds)
		return flop / (clock(unix.CLOCK_THREAD_CPUTIME_ID) - start).Seconds()
	}
	rates := make([]float64, p.Threads())
	var ready atomic.Int32
	p.For(p.Threads(), func(i int) {
		ready.Add(1)
		for start := time.Now(); int(ready.Load()) < len(rates) && time.Since(start) < 5*time.Millisecond; {
			runtime.Gosched() // until every goroutine has taken its index
		}
		rates[i] = one()
	})
	var sum float64
	for _, r := range rates {
		sum += r
	}
	return sum
}

// measure repeats f and returns the median rate in FLOP/s and the median share of the peak.
func measure(b *testing.B, p *pool.Pool, flop float64, f func()) (rate, share float64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	type rep struct{ rate, share, cpus, moved, quiet float64 }
	var reps []rep
	f() // warm
	for b.Loop() {
		peak := probeRate(p)
		cpu, wall := clock(unix.CLOCK_PROCESS_CPUTIME_ID), time.Now()
		thread := clock(unix.CLOCK_THREAD_CPUTIME_ID)
		n := 0
		for ; n == 0 || time.Since(wall) < 2*time.Millisecond; n++ {
			f()
		}
		took := time.Since(wall)
		used := clock(unix.CLOCK_PROCESS_CPUTIME_ID) - cpu
		cpus := float64(used) / float64(took)
		if p.Threads() == 1 {
			took = clock(unix.CLOCK_THREAD_CPUTIME_ID) - thread
		}
		r := flop * float64(n) / took.Seconds()
		after := probeRate(p)
		reps = append(reps, rep{r, r / ((peak + after) / 2), cpus, max(peak, after) / min(peak, after), flop * float64(n) * float64(p.Threads()) / used.Seconds() / ((peak + after) / 2)})
	}
	slices.SortFunc(reps, func(x, y rep) int { return cmp.Compare(x.share, y.share) })
	served := slices.DeleteFunc(slices.Clone(reps), func(x rep) bool {
		return x.moved > 1.2 || p.Threads() > 1 && x.cpus < 0.9*float64(p.Threads())
	})
	if len(served) == 0 {
		served = reps
	}
	m := served[len(served)/2]
	b.ReportMetric(float64(len(served)), "reps")
	b.ReportMetric(m.moved, "peak-moved")
	b.ReportMetric(m.rate/1e9, "GFLOP/s")
	b.ReportMetric(100*m.share, "%peak")
	b.ReportMetric(0, "ns/op")
	if p.Threads() > 1 {
		b.ReportMetric(m.cpus, "cpus")
		slices.SortFunc(reps, func(x, y rep) int { return cmp.Compare(x.quiet, y.quiet) })
		b.ReportMetric(100*reps[len(reps)*9/10].quiet, "%peak-by-cpu") // by processor time, so as if nobody else ran: the best tenth
	}
	return m.rate, m.share
}

func randoms(n int) []float32 {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	s := aligned(n)
	for i := range s {
		s[i] = float32(r.Float64() - 0.5)
	}
	return s
}

func bothThreads(b *testing.B, f func(b *testing.B, p *pool.Pool)) {
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("%s/threads=%d", isa.Active(), threads), func(b *testing.B) {
			p := pool.New(threads)
			defer p.Close()
			f(b, p)
		})
	}
}

// BenchmarkSGEMM is the forward product of packed weights, y[tokens, ff] = x[tokens, d] * Wᵀ, over the 24 shapes.
func BenchmarkSGEMM(b *testing.B) {
	bothThreads(b, func(b *testing.B, p *pool.Pool) {
		var flops, weighted float64
		for _, ff := range []int{1536, 4864} {
			for _, d := range []int{256, 576, 896, 3584} {
				w := Pack(randoms(ff*d), ff, d)
				for _, tokens := range []int{256, 1024, 4096} {
					b.Run(fmt.Sprintf("%dx%dx%d", tokens, d, ff), func(b *testing.B) {
						x, y := randoms(tokens*d), randoms(tokens*ff)
						flop := 2 * float64(tokens) * float64(d) * float64(ff)
						_, share := measure(b, p, flop, func() { w.NT(p, tokens, x, d, 0, y, ff) })
						flops += flop
						weighted += flop * share
					})
				}
			}
		}
		fmt.Printf("BenchmarkSGEMM/%s/threads=%d: %.1f %% of peak, weighted by flops over the shapes run\n",
			isa.Active(), p.Threads(), 100*weighted/flops)
	})
}

// BenchmarkSGEMMBackward is dX = dY * W from packed weights and dW += dYᵀ * X.
func BenchmarkSGEMMBackward(b *testing.B) {
	bothThreads(b, func(b *testing.B, p *pool.Pool) {
		for _, s := range []shape{{1024, 1536, 576}, {1024, 896, 4864}, {1024, 256, 256}, {2048, 3584, 896}, {1100, 3072, 384}, {1100, 384, 1536}, {800, 3072, 576}, {400, 9728, 896}} {
			tokens, n, k := s.m, s.n, s.k
			w, x, dy, dw := randoms(n*k), randoms(tokens*k), randoms(tokens*n), randoms(n*k)
			packed := Pack(w, n, k)
			flop := 2 * float64(tokens) * float64(n) * float64(k)
			b.Run(fmt.Sprintf("dX/%dx%dx%d", tokens, n, k), func(b *testing.B) {
				measure(b, p, flop, func() { packed.NN(p, tokens, dy, n, 0, x, k) })
			})
			b.Run(fmt.Sprintf("dW/%dx%dx%d", n, tokens, k), func(b *testing.B) {
				measure(b, p, flop, func() { Do(p, true, false, n, k, tokens, 1, dy, n, x, k, 1, dw, k) })
			})
			b.Run(fmt.Sprintf("NTplain/%dx%dx%d", tokens, k, n), func(b *testing.B) {
				measure(b, p, flop, func() { Do(p, false, true, tokens, n, k, 1, x, k, w, k, 0, dy, n) })
			})
		}
	})
}

// BenchmarkSGEMMRank is the six products of a rank-16 adapter y += (x*Aᵀ)*Bᵀ on a linear layer of k inputs and n outputs.
func BenchmarkSGEMMRank(b *testing.B) {
	bothThreads(b, func(b *testing.B, p *pool.Pool) {
		const rank = 16
		for _, s := range []shape{{1024, 576, 576}, {2048, 4864, 896}, {512, 1024, 1024}} {
			tokens, n, k := s.m, s.n, s.k
			x, y, h := randoms(tokens*k), randoms(tokens*n), randoms(tokens*rank)
			la, lb := randoms(rank*k), randoms(n*rank)
			for _, c := range []struct {
				name string
				n    int
				f    func()
			}{
				{"h=xAt", k, func() { Do(p, false, true, tokens, rank, k, 1, x, k, la, k, 0, h, rank) }},
				{"y+=hBt", n, func() { Do(p, false, true, tokens, n, rank, 2, h, rank, lb, rank, 1, y, n) }},
				{"dh=dyB", n, func() { Do(p, false, false, tokens, rank, n, 2, y, n, lb, rank, 0, h, rank) }},
				{"dx+=dhA", k, func() { Do(p, false, false, tokens, k, rank, 1, h, rank, la, k, 1, x, k) }},
				{"dA+=dhtx", k, func() { Do(p, true, false, rank, k, tokens, 1, h, rank, x, k, 1, la, k) }},
				{"dB+=dyth", n, func() { Do(p, true, false, n, rank, tokens, 2, y, n, h, rank, 1, lb, rank) }},
			} {
				b.Run(fmt.Sprintf("%s/%dx%dx%d", c.name, tokens, c.n, rank), func(b *testing.B) {
					measure(b, p, 2*float64(tokens)*float64(c.n)*rank, c.f)
				})
			}
		}
	})
}

// BenchmarkSGEMMBlock is the small products of attention, in the calling goroutine, operands in cache.
func BenchmarkSGEMMBlock(b *testing.B) {
	for _, s := range []shape{{64, 64, 64}, {64, 64, 128}, {64, 64, 32}, {16, 64, 64}} {
		const ld = 1920
		for bits, name := range []string{"NN", "TN", "NT", "TT"} {
			b.Run(fmt.Sprintf("%s/%dx%dx%d", name, s.m, s.n, s.k), func(b *testing.B) {
				x, y, c := randoms(128*ld), randoms(128*ld), randoms(128*ld)
				b.ReportAllocs()
				measure(b, nil, 2*float64(s.m)*float64(s.n)*float64(s.k), func() {
					Do(nil, bits&1 != 0, bits&2 != 0, s.m, s.n, s.k, 1, x, ld, y, ld, 1, c, ld)
				})
			})
		}
	}
}
