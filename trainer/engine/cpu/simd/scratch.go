package simd

import (
	"math/bits"
	"sync"
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// scratch lends float buffers by power of two, aligned to 64 bytes; contents are undefined.
var scratch [40]sync.Pool

type buffer struct {
	class int
	f     []float32
}

func lend(n int) *buffer {
	class := bits.Len(uint(max(n, 1024) - 1))
	if b, ok := scratch[class].Get().(*buffer); ok {
		return b
	}
	raw := make([]float32, 1<<class+16)
	skip := int(-uintptr(unsafe.Pointer(&raw[0]))&63) / 4
	return &buffer{class, raw[skip : skip+1<<class]}
}

func (b *buffer) giveBack() { scratch[b.class].Put(b) }

// arena cuts a buffer into parts.
type arena struct{ rest []float32 }

// take returns the next n floats, the one after them aligned to a cache line.
func (a *arena) take(n int) []float32 {
	out := a.rest[:n:n]
	a.rest = a.rest[min(len(a.rest), (n+15)&^15):]
	return out
}

// blockRows is the number of rows of width d in one unit of parallel work: about 8,192 floats.
func blockRows(d int) int { return max(1, 8192/max(d, 1)) }

// forRows calls f on blocks of rows of a [t, d] matrix.
func forRows(p *pool.Pool, t, d int, f func(lo, hi int)) { forBlocks(p, t, blockRows(d), f) }

// forFlat calls f on blocks of n values.
func forFlat(p *pool.Pool, n int, f func(lo, hi int)) { forBlocks(p, n, 16384, f) }

// blockLoop is a loop over blocks; its body is bound once, so that lending it allocates nothing.
type blockLoop struct {
	n, step int
	f       func(lo, hi int)
	body    func(i int)
}

var blockLoops = sync.Pool{New: func() any {
	l := new(blockLoop)
	l.body = func(i int) { l.f(i*l.step, min(l.n, (i+1)*l.step)) }
	return l
}}

func forBlocks(p *pool.Pool, n, step int, f func(lo, hi int)) {
	if n <= step {
		if n > 0 {
			f(0, n)
		}
		return
	}
	l := blockLoops.Get().(*blockLoop)
	l.n, l.step, l.f = n, step, f
	p.For((n+step-1)/step, l.body)
	l.f = nil
	blockLoops.Put(l)
}

// reduceBlocks is how many blocks a sum over t rows is cut into, and their rows: a function of the shape alone.
func reduceBlocks(t int) (blocks, rows int) {
	rows = max(32, (t+31)/32)
	return (t + rows - 1) / rows, rows
}

// sumRows lets f add rows lo .. hi into a zeroed partial sum [n], then adds the partial sums to dst in the order of
// the blocks.
func sumRows(p *pool.Pool, dst []float32, t int, f func(partial []float32, lo, hi int)) {
	blocks, rows := reduceBlocks(t)
	if blocks == 0 {
		return
	}
	n := len(dst)
	b := lend(blocks * n)
	defer b.giveBack()
	forBlocks(p, t, rows, func(lo, hi int) {
		partial := b.f[lo/rows*n : (lo/rows+1)*n]
		clear(partial)
		f(partial, lo, hi)
	})
	for i := range blocks {
		vecAdd(dst, dst, b.f[i*n:(i+1)*n])
	}
}
