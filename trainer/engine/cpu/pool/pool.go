// Package pool runs the iterations of a loop on a fixed set of goroutines.
//
// A kernel splits its output into pieces whose values do not depend on the splitting, so which goroutine runs which
// piece, and how many there are, never shows in a result.
package pool

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Pool is a set of goroutines that wait for loops. A nil *Pool is valid and runs every loop in the caller.
type Pool struct {
	threads int
	wake    chan struct{} // one token asks one goroutine to join the loop in flight

	busy sync.Mutex // held by the caller of the loop in flight
	n    int64
	f    func(i int)
	next atomic.Int64
	wg   sync.WaitGroup // tokens sent and not yet settled

	unsettled atomic.Int64 // their number
	bad       atomic.Pointer[failure]
}

type failure struct {
	value any
	stack []byte
}

// New starts a pool in which For uses up to threads goroutines, the caller's included; 1 or less starts none.
func New(threads int) *Pool {
	p := &Pool{threads: max(threads, 1)}
	p.wake = make(chan struct{}, p.threads)
	for range p.threads - 1 {
		go p.serve(p.wake)
	}
	return p
}

// Threads is the number of goroutines For may use: 1 for a nil pool.
func (p *Pool) Threads() int {
	if p == nil {
		return 1
	}
	return p.threads
}

// For calls f(0) .. f(n-1), each once, and returns when all have returned. The pool's goroutines and the caller take
// indices from one counter. It allocates nothing. A For called while another is in flight on the same pool (from
// inside f, or from another goroutine) runs in its caller alone. A panic in f ends the loop early and is raised
// again in the caller.
func (p *Pool) For(n int, f func(i int)) {
	if p == nil || p.threads == 1 || n <= 1 || !p.busy.TryLock() {
		for i := range n {
			f(i)
		}
		return
	}
	defer p.busy.Unlock()
	p.n, p.f = int64(n), f
	p.next.Store(0)
	helpers := min(p.threads, n) - 1
	p.wg.Add(helpers)
	p.unsettled.Store(int64(helpers))
	for range helpers {
		p.wake <- struct{}{}
	}
	p.work()
	// The indices are used up. A goroutine that has not woken yet is not waited for: its token is taken back.
	for taken := true; taken; {
		select {
		case <-p.wake:
			p.unsettled.Add(-1)
			p.wg.Done()
		default:
			taken = false
		}
	}
	for start := time.Now(); p.unsettled.Load() > 0 && time.Since(start) < linger; {
		runtime.Gosched()
	}
	p.wg.Wait()
	p.f = nil
	if bad := p.bad.Swap(nil); bad != nil {
		panic(fmt.Sprintf("pool: loop body: %v\n%s", bad.value, bad.stack))
	}
}

// Close ends the pool's goroutines. No For may be in flight or follow.
func (p *Pool) Close() {
	if p != nil && p.wake != nil {
		close(p.wake)
		p.wake = nil
	}
}

// linger is how long a goroutine looks for the next loop before it sleeps. Loops follow one another within microseconds
// while a graph runs; waking a sleeping processor costs about as long as this (100 us on a virtual machine, which is
// the work of a small product). It yields to every other goroutine meanwhile.
const linger = 100 * time.Microsecond

func (p *Pool) serve(wake <-chan struct{}) {
	for range wake {
		p.join()
		for idle := time.Now(); time.Since(idle) < linger; {
			select {
			case _, open := <-wake:
				if !open {
					return
				}
				p.join()
				idle = time.Now()
			default:
				runtime.Gosched()
			}
		}
	}
}

// join takes part in the loop in flight.
func (p *Pool) join() {
	p.work()
	p.unsettled.Add(-1)
	p.wg.Done()
}

func (p *Pool) work() {
	defer func() {
		if r := recover(); r != nil {
			p.bad.CompareAndSwap(nil, &failure{r, debug.Stack()})
			p.next.Store(p.n)
		}
	}()
	for i := p.next.Add(1) - 1; i < p.n; i = p.next.Add(1) - 1 {
		p.f(int(i))
	}
}
