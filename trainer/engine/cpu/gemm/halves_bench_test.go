//go:build linux

package gemm

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkHalves compares products with weights that are kept in bfloat16 and in float32, A B A B: the ratio of the
// medians of their CPU times, on one thread.
func BenchmarkHalves(b *testing.B) {
	for _, m := range []int{64, 512, 2048} {
		for _, size := range [][2]int{{960, 576}, {3072, 576}, {576, 1536}, {9728, 896}, {896, 4864}} {
			n, k := size[0], size[1]
			halves, values := brain(rand.New(rand.NewPCG(1, 1)), n*k)
			// As many weights as do not fit the cache, as in a model.
			var wide, narrow []*Packed
			for bytes := 0; bytes < 64<<20; bytes += 4 * n * k {
				wide = append(wide, Pack(values, n, k))
				p, err := Load(nil, n, k, Source{Halves: func(dst []uint16, first int) error { copy(dst, halves[first:]); return nil }})
				if err != nil {
					b.Fatal(err)
				}
				narrow = append(narrow, p)
			}
			x, y := make([]float32, m*k), make([]float32, m*n)
			for _, direction := range []string{"NT", "NN"} {
				b.Run(fmt.Sprintf("%s/m%d/%dx%d", direction, m, n, k), func(b *testing.B) {
					runtime.LockOSThread()
					defer runtime.UnlockOSThread()
					var times [2][]float64
					at := 0
					for b.Loop() {
						at++
						for form, w := range []*Packed{wide[at%len(wide)], narrow[at%len(narrow)]} {
							start := clock(unix.CLOCK_THREAD_CPUTIME_ID)
							if direction == "NT" {
								w.NT(nil, m, x, k, 0, y, n)
							} else {
								w.NN(nil, m, y, n, 0, x, k)
							}
							times[form] = append(times[form], (clock(unix.CLOCK_THREAD_CPUTIME_ID) - start).Seconds())
						}
					}
					for _, t := range times {
						slices.Sort(t)
					}
					mid := len(times[0]) / 2
					b.ReportMetric(times[1][mid]/times[0][mid], "bf16/fp32-time")
					b.ReportMetric(2e-9*float64(m)*float64(n)*float64(k)/times[1][mid], "GFLOP/s")
				})
			}
		}
	}
}
