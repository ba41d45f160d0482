package gemm

import (
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

const (
	sharedWork = 1 << 22 // multiply-adds of a product from which on its tiles share one packed B
	sharedMax  = 1 << 20 // floats of it at a time: they stay in the outer cache
	pieceCols  = 4 * panel
)

// sharedBlocks keeps the packed B of products between them.
var sharedBlocks = make(chan []float32, 4)

func getShared(n int) []float32 {
	select {
	case s := <-sharedBlocks:
		if cap(s) >= n {
			return s[:n]
		}
	default:
	}
	return aligned(n)
}

func putShared(s []float32) {
	select {
	case sharedBlocks <- s:
	default:
	}
}

// share computes the product in passes over the reduction: the threads pack B's rows of a pass once, together, then
// compute the tiles from it. Tiles that packed for themselves would do it once for every hundred rows of C, which is
// a tenth of their work. The layout is that of Packed, one run after another.
func (j *job) share(p *pool.Pool, tiles int) {
	step, width := depth(j.k), roundUp(j.n, panel)
	rows := max(1, sharedMax/(step*width)) * step
	block := getShared(min(rows, j.k)*width + panel)
	j.shared = block
	for j.lo = 0; j.lo < j.k; j.lo += rows {
		j.hi = min(j.lo+rows, j.k)
		p.For((j.hi-j.lo+step-1)/step*((j.n+pieceCols-1)/pieceCols), j.runPack)
		p.For(tiles, j.runTile)
	}
	j.shared = nil
	putShared(block)
}

// packPiece packs piece i of the pass: pieceCols columns of one run.
func (j *job) packPiece(i int) {
	pieces, step := (j.n+pieceCols-1)/pieceCols, depth(j.k)
	k0, j0 := j.lo+i/pieces*step, i%pieces*pieceCols
	kc := min(step, j.hi-k0)
	s := getScratch()
	j.packB(unsafe.Pointer(&j.shared[(k0-j.lo)*roundUp(j.n, panel)+j0*kc]), s, k0, kc, j0, min(pieceCols, j.n-j0))
	putScratch(s)
}
