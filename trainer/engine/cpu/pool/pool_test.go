package pool

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestForCallsEachIndexOnce(t *testing.T) {
	for _, threads := range []int{0, 1, 2, 3, 5} {
		p := New(threads)
		defer p.Close()
		for _, n := range []int{0, 1, 2, 3, 7, 1000} {
			t.Run(fmt.Sprintf("%d threads, %d", threads, n), func(t *testing.T) {
				counts := make([]atomic.Int32, n)
				p.For(n, func(i int) { counts[i].Add(1) })
				for i := range counts {
					if got := counts[i].Load(); got != 1 {
						t.Fatalf("f(%d) called %d times, want 1", i, got)
					}
				}
			})
		}
	}
	var none *Pool
	sum := 0
	none.For(5, func(i int) { sum += i })
	if sum != 10 || none.Threads() != 1 {
		t.Errorf("nil pool: sum = %d, threads = %d, want 10, 1", sum, none.Threads())
	}
	none.Close()
}

func TestForNestedAndConcurrent(t *testing.T) {
	p := New(3)
	defer p.Close()
	var total atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				p.For(8, func(int) { p.For(8, func(int) { total.Add(1) }) })
			}
		})
	}
	wg.Wait()
	if got := total.Load(); got != 4*50*64 {
		t.Errorf("calls = %d, want %d", got, 4*50*64)
	}
}

func TestForRaisesPanicInCaller(t *testing.T) {
	p := New(2)
	defer p.Close()
	func() {
		defer func() {
			if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), "index 3") {
				t.Errorf("recovered %v, want a panic naming index 3", r)
			}
		}()
		p.For(10, func(i int) {
			if i == 3 {
				panic("index 3")
			}
		})
	}()
	var calls atomic.Int32
	p.For(10, func(int) { calls.Add(1) })
	if got := calls.Load(); got != 10 {
		t.Errorf("calls after a panic = %d, want 10", got)
	}
}

func TestForAllocatesNothing(t *testing.T) {
	p := New(2)
	defer p.Close()
	var sum atomic.Int64
	f := func(i int) { sum.Add(int64(i)) }
	if got := testing.AllocsPerRun(200, func() { p.For(16, f) }); got != 0 {
		t.Errorf("allocations per For = %v, want 0", got)
	}
}

// BenchmarkFor is a loop of four bodies on two goroutines, back to back. Its ideal is two bodies' time: sleeping and
// waking would show as four (no help arrives in time).
func BenchmarkFor(b *testing.B) {
	p := New(2)
	defer p.Close()
	for _, body := range []time.Duration{0, 2500, 10000, 100000} {
		b.Run(body.String(), func(b *testing.B) {
			f := func(int) {
				for start := time.Now(); time.Since(start) < body; {
				}
			}
			for b.Loop() {
				p.For(4, f)
			}
		})
	}
}
