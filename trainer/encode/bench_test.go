//go:build linux

package encode

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// BenchmarkEncode measures embedding in real tokens a second, as the PyTorch peer does (--encode): bidirectional, mean
// pooling, the texts of a step at a time. COUNTERPOINT_BATCHES names a file that `peer_step.py --batches` wrote, for the
// peer's own lengths; without it lengths are drawn alike. GFLOP/s counts 2 a weight and token; %peak is its share of the
// float32 multiply-adds that the processors can do at that time.
func BenchmarkEncode(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			b.Run("fp32", func(b *testing.B) { s.bench(b, cpu.New) })
			b.Run("int8", func(b *testing.B) { s.bench(b, cpu.NewInt8) })
		})
	}
}

func (s shape) bench(b *testing.B, open func(threads int) (*cpu.Device, error)) {
	dev, err := open(runtime.GOMAXPROCS(0))
	if err != nil {
		b.Fatal(err)
	}
	defer dev.Close()
	e := s.encoder(b, dev)
	defer e.Close()
	steps := s.steps(b)
	var rates, quiet, peaks []float64
	n := 0
	one := func() {
		texts := steps[n%len(steps)]
		n++
		tokens := 0
		for i := range texts {
			tokens += len(texts[i].Tokens)
		}
		start, used := time.Now(), clock(unix.CLOCK_PROCESS_CPUTIME_ID)
		if _, err := e.Embed(b.Context(), texts); err != nil {
			b.Fatal(err)
		}
		took, work := time.Since(start), clock(unix.CLOCK_PROCESS_CPUTIME_ID)-used
		rates = append(rates, float64(tokens)/took.Seconds())
		quiet = append(quiet, float64(tokens)/work.Seconds()*float64(dev.Pool().Threads()))
		peaks = append(peaks, peak(dev.Pool()))
	}
	for range min(2, len(steps)) {
		one()
	}
	rates, quiet, peaks = rates[:0], quiet[:0], peaks[:0]
	for b.Loop() {
		one()
	}
	for _, v := range [][]float64{rates, quiet, peaks} {
		slices.Sort(v)
	}
	rate := rates[len(rates)/2]
	flops := 2 * float64(s.linear()) * rate
	b.ReportMetric(rate, "tokens/s")
	b.ReportMetric(quiet[len(quiet)/2], "tokens/cpu-s*threads") // what a quiet machine would give, at best
	b.ReportMetric(flops/1e9, "GFLOP/s")
	b.ReportMetric(100*flops/peaks[len(peaks)/2], "%peak")
}

// peak is the rate of float32 multiply-adds that all threads reach together just now, each by its own processor time.
func peak(p *pool.Pool) float64 {
	rates := make([]float64, p.Threads())
	p.For(len(rates), func(i int) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		start := clock(unix.CLOCK_THREAD_CPUTIME_ID)
		flop := gemm.Probe(1 << 16)
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

// steps are the texts of the peer's steps.
func (s shape) steps(b *testing.B) (all [][]data.Text) {
	b.Helper()
	add := func(columns ...[][]int32) {
		var texts []data.Text
		for _, column := range columns {
			for _, ids := range column {
				for i := range ids { // a file of another size's vocabulary serves for its lengths
					ids[i] %= int32(s.vocab)
				}
				texts = append(texts, data.Text{Tokens: ids})
			}
		}
		all = append(all, texts)
	}
	if path := os.Getenv("COUNTERPOINT_BATCHES"); path != "" {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<26)
		for lines.Scan() {
			var t struct{ Query, Positive, Negative [][]int32 }
			if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
				b.Fatal(err)
			}
			add(t.Query, t.Positive, t.Negative)
		}
		if len(all) == 0 {
			b.Fatalf("%s: no batches (%v)", path, lines.Err())
		}
		return all
	}
	r := rand.New(rand.NewPCG(1, 1))
	column := func(median float64) (ids [][]int32) {
		for range s.rows {
			text := make([]int32, int(min(s.longest, max(4, math.Round(median*math.Exp(0.6*r.NormFloat64()))))))
			for i := range text {
				text[i] = int32(r.IntN(s.vocab))
			}
			ids = append(ids, text)
		}
		return ids
	}
	for range 8 {
		add(column(24), column(96), column(96))
	}
	return all
}

// BenchmarkEncodeLong embeds one text of the smollm2 shape by length, once: seconds, seconds if the processors were
// ours alone, the memory that was planned for its activations and the peak of the process.
func BenchmarkEncodeLong(b *testing.B) {
	s := shapes[slices.IndexFunc(shapes, func(s shape) bool { return s.name == "smollm2" })]
	for _, n := range []int{1024, 4096, 8192, 32768} {
		for name, open := range map[string]func(int) (*cpu.Device, error){"fp32": cpu.New, "int8": cpu.NewInt8} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				dev, err := open(runtime.GOMAXPROCS(0))
				if err != nil {
					b.Fatal(err)
				}
				defer dev.Close()
				e := s.encoder(b, dev)
				defer e.Close()
				text := data.Text{Tokens: make([]int32, n)}
				for i := range text.Tokens {
					text.Tokens[i] = int32(i * 7919 % s.vocab)
				}
				planned, _, err := e.model.Bytes(n, 1)
				if err != nil {
					b.Fatal(err)
				}
				used := clock(unix.CLOCK_PROCESS_CPUTIME_ID)
				for b.Loop() {
					if _, err := e.Embed(b.Context(), []data.Text{text}); err != nil {
						b.Fatal(err)
					}
				}
				work := clock(unix.CLOCK_PROCESS_CPUTIME_ID) - used
				var u unix.Rusage
				if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s")
				b.ReportMetric(work.Seconds()/float64(b.N*dev.Pool().Threads()), "cpu-s/threads")
				b.ReportMetric(float64(planned)/1e6, "MB-planned")
				b.ReportMetric(float64(u.Maxrss)/1e3, "MB-peak")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
