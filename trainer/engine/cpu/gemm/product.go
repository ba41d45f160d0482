package gemm

import (
	"sync"
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// bForm says how the right-hand operand lies in memory.
type bForm uint8

const (
	bPlain    bForm = iota // [k][ldb], columns side by side
	bTrans                 // [n][ldb], the reduction side by side
	bPackedNT              // Packed, read as it lies
	bPackedNN              // Packed, panels turned round on the fly
)

// Blocking. Only depthMax shows in a result's bits.
const (
	panel    = 32      // columns of a packed panel of B
	depthMax = 384     // longest run of the reduction summed in registers
	blockMax = 3 << 17 // floats of B packed at a time: half as much again as the L2 cache of a core (measured best)
	widthMax = 1 << 12 // most columns of a tile
	rowsMax  = 12      // most rows of a strip, over all kernels
	together = 8       // strips of a transposed A that are packed together
	farAway  = 1 << 20 // floats of a matrix that is read from memory rather than from a cache
	turnRows = 16      // columns of a C that is computed transposed, at most
)

// product is one matrix product; the zero of a field is what it says.
type product struct {
	m, n, k     int
	alpha, beta float32
	a           []float32
	lda         int
	transA      bool
	b           []float32
	ldb         int
	packed      *Packed
	form        bForm
	c           []float32
	ldc         int
	lows        []Low
	turnC       bool // c holds Cᵀ: element (i, j) is c[j*ldc+i]
}

// depth is the length of the runs into which a reduction of k is cut: the fewest runs of at most depthMax, all but the
// last equal, in multiples of 16. It is a function of k alone because the bits depend on it:
//
//	c = alpha*run₀ + beta*c;  c = alpha*run₁ + c;  ...   run = fma(a, b, run) in the order of the reduction, from 0
func depth(k int) int {
	runs := max(1, (k+depthMax-1)/depthMax)
	return roundUp((k+runs-1)/runs, 16)
}

func roundUp(x, to int) int { return (x + to - 1) / to * to }

// aligned returns n floats that start on a cache line.
func aligned(n int) []float32 {
	s := make([]float32, n+15)
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(s)))>>2) & 15
	return s[off : off+n : off+n]
}

// scratch is the packing space of one goroutine's tile.
type scratch struct {
	a []float32 // strips of A, [depthMax][rows] each, and room for a store past the end
	b []float32 // one block of B, panels of [depthMax][panel]
	c []float32 // one tile of Cᵀ, of at most turnRows x widthMax

	turn [panel * panel]float32 // a piece of a panel, widened
}

// scratches keeps scratch between products: as much as was ever in use at once, up to its capacity. Unlike a sync.Pool
// it survives the garbage collector, so that a warm product allocates nothing.
var scratches = make(chan *scratch, 64)

func getScratch() *scratch {
	select {
	case s := <-scratches:
		return s
	default:
		return &scratch{
			a: aligned(together * (depthMax*rowsMax + 16)), b: aligned(blockMax),
			c: aligned(turnRows * blockMax / 64),
		}
	}
}

func putScratch(s *scratch) {
	select {
	case scratches <- s:
	default:
	}
}

// job is a product cut into a grid of tiles. Its tile method is bound once, so that running one allocates nothing.
type job struct {
	product
	level      isa.Level
	rows, cols int // size of a tile
	across     int // tiles across n
	lo, hi     int // the part of the reduction that this pass adds
	shared     []float32
	runTile    func(i int)
	runPack    func(i int)
}

var jobs = sync.Pool{New: func() any {
	j := &job{}
	j.runTile, j.runPack = j.tile, j.packPiece
	return j
}}

// run cuts C into tiles and computes them. The cut follows the number of threads; the bits do not depend on it.
func (x product) run(p *pool.Pool) {
	if x.transA && x.form == bPlain && x.n <= turnRows && x.m > 4*x.n && x.m*x.k >= farAway {
		// Tall and narrow, both operands along the rows of memory (the gradient of B in a low-rank adapter):
		// Cᵀ = op(B)ᵀ op(A)ᵀ reads the large one in order. A product of two numbers commutes, so the bits stay.
		x.m, x.n = x.n, x.m
		x.a, x.lda, x.b, x.ldb = x.b, x.ldb, x.a, x.lda
		x.turnC = true
	}
	j := jobs.Get().(*job)
	j.product, j.level = x, isa.Active()
	block := blockMax
	if j.level == isa.AVX2 { // narrower tiles read B twice as often for their work: the block has to stay in L2
		block = blockMax / 2
	}
	width := min(block/min(depth(x.k), x.k), widthMax) / panel * panel
	across := (x.n + width - 1) / width
	j.cols = roundUp((x.n+across-1)/across, panel)
	down := 1
	if threads := p.Threads(); threads > 1 && x.m*x.n*x.k > 1<<17 {
		// About four tiles a thread even out, if they are as many for each; a tile of less than 96 rows pays too
		// much for packing B.
		most := max(1, x.m/96)
		down = min((4*threads+across-1)/across, most)
		for d := down; d <= min(most, down+threads); d++ {
			if across*d%threads == 0 {
				down = d
				break
			}
		}
		if across*down < threads && x.n >= 2*panel { // few rows: narrower tiles instead
			j.cols = max(panel, roundUp(x.n/(2*threads), panel))
		}
	}
	j.rows = (x.m + down - 1) / down
	across = (x.n + j.cols - 1) / j.cols
	down = (x.m + j.rows - 1) / j.rows
	j.across = across
	if down > 1 && j.packsB(j.rows) && x.m*x.n*x.k >= sharedWork {
		j.share(p, across*down)
	} else if j.lo, j.hi = 0, x.k; across*down == 1 {
		j.tile(0)
	} else {
		p.For(across*down, j.runTile)
	}
	j.product = product{}
	jobs.Put(j)
}

// tile computes tile i of C: for every run of the reduction, every strip of rows against the tile's block of B.
func (j *job) tile(i int) {
	i0, j0 := i/j.across*j.rows, i%j.across*j.cols
	rows, cols := min(j.rows, j.m-i0), min(j.cols, j.n-j0)
	s := getScratch()
	step := depth(j.k)
	packA := j.packsA(cols)
	strips := (rows + j.stripRows(packA) - 1) / j.stripRows(packA)
	many := packA && j.transA && j.stripRows(packA) == rowsMax
	st := strip{alpha: j.alpha, beta: j.beta, n: cols}
	if j.lo > 0 {
		st.beta = 1
	}
	c, ldc := unsafe.Pointer(nil), j.ldc
	if j.turnC {
		c, ldc = unsafe.Pointer(&s.c[0]), roundUp(cols, 16)
		if j.beta != 0 {
			transposePortable(c, ldc, unsafe.Pointer(&j.c[j0*j.ldc+i0]), j.ldc, rows, cols)
		}
	} else {
		c = unsafe.Pointer(&j.c[i0*j.ldc+j0])
	}
	st.ldc = ldc * 4
	for k0 := j.lo; k0 < j.hi; k0 += step {
		st.k = min(step, j.k-k0)
		j.blockB(&st, s, k0, j0, rows, cols)
		if st.ahead = 16 * st.ldb; st.ldb != 4*panel && st.k < 64 {
			st.ahead = 0 // rows of the matrix beyond the last are not the next panel
		}
		r0 := 0
		for q := range strips {
			r1 := (q + 1) * rows / strips // strips of nearly equal height
			if many {
				r1 = min(r0+rowsMax, rows)
			}
			st.m = r1 - r0
			if !many || !j.stripsA(&st, s, q%together, i0+r0, k0, rows-r0) {
				j.stripA(&st, s, packA, i0+r0, k0)
			}
			st.c = unsafe.Add(c, r0*ldc*4)
			st.run(j.level)
			r0 = r1
		}
		st.beta = 1
	}
	if j.turnC {
		transposePortable(unsafe.Pointer(&j.c[j0*j.ldc+i0]), j.ldc, c, ldc, cols, rows)
	}
	for l := range j.lows {
		if j.hi == j.k {
			j.low(s, &j.lows[l], i0, j0, rows, cols)
		}
	}
	putScratch(s)
}

// stripRows is the height of this product's strips. Rows a multiple of 4 KiB apart share one set of the L1 cache, which
// holds eight lines: taller strips would evict their own rows.
func (j *job) stripRows(packA bool) int {
	rows := stripRows(j.level)
	if rows > 8 && (j.ldc%1024 == 0 && j.k < 64 || !packA && !j.transA && j.lda%1024 == 0) {
		return 8
	}
	return rows
}

// packsA reports whether strips of A are copied before use: not when few columns will read them.
func (j *job) packsA(cols int) bool { return cols > 2*panel }

// stripA points st at rows r0.. of op(A), from k0 on.
func (j *job) stripA(st *strip, s *scratch, pack bool, r0, k0 int) {
	if j.transA {
		at := unsafe.Pointer(&j.a[k0*j.lda+r0])
		if pack {
			copyPanels(j.level, unsafe.Pointer(&s.a[0]), st.m, 0, at, j.lda, st.k, st.m)
			st.a, st.rs, st.cs = unsafe.Pointer(&s.a[0]), 4, st.m*4
			return
		}
		st.a, st.rs, st.cs = at, 4, j.lda*4
		return
	}
	at := unsafe.Pointer(&j.a[r0*j.lda+k0])
	if pack {
		transpose(j.level, unsafe.Pointer(&s.a[0]), st.m, at, j.lda, st.k, st.m)
		st.a, st.rs, st.cs = unsafe.Pointer(&s.a[0]), 4, st.m*4
		return
	}
	st.a, st.rs, st.cs = at, j.lda*4, 4
}

// stripsA points st at strip q of those packed together, which begins at row r0 of op(A); q = 0 packs them, of up to
// rows rows.
func (j *job) stripsA(st *strip, s *scratch, q, r0, k0, rows int) bool {
	step := st.k*rowsMax + 16
	if q == 0 && !copyStrips(j.level, unsafe.Pointer(&s.a[0]), step, unsafe.Pointer(&j.a[k0*j.lda+r0]), j.lda, st.k, min(rows, together*rowsMax)) {
		return false
	}
	st.a, st.rs, st.cs = unsafe.Pointer(&s.a[q*step]), 4, rowsMax*4
	return true
}

// packsB reports whether tiles of so many rows read a copy of B.
func (j *job) packsB(rows int) bool {
	switch j.form {
	case bPackedNT:
		return j.packed.halves != nil
	case bPlain:
		return rows > 4*rowsMax && j.k > 32
	default:
		return true
	}
}

// blockB points st at columns j0..j0+cols of op(B), from k0 on, packing them unless they can be read in place.
func (j *job) blockB(st *strip, s *scratch, k0, j0, rows, cols int) {
	kc := st.k
	at := unsafe.Pointer(&s.b[0])
	switch {
	case j.shared != nil:
		at = unsafe.Pointer(&j.shared[(k0-j.lo)*roundUp(j.n, panel)+j0*kc])
	case j.packsB(rows):
		j.packB(at, s, k0, kc, j0, cols)
	case j.form == bPackedNT:
		at = unsafe.Pointer(&j.packed.data[j.packed.at(k0, kc, j0)])
	default:
		st.b, st.ldb, st.bstep = unsafe.Pointer(&j.b[k0*j.ldb+j0]), j.ldb*4, panel*4
		return
	}
	st.b, st.ldb, st.bstep = at, panel*4, kc*panel*4
}

// packB writes columns j0..j0+cols of op(B), rows k0..k0+kc, as panels [kc][panel].
func (j *job) packB(dst unsafe.Pointer, s *scratch, k0, kc, j0, cols int) {
	switch j.form {
	case bPackedNT:
		widen(j.level, dst, unsafe.Pointer(&j.packed.halves[j.packed.at(k0, kc, j0)]), kc*roundUp(cols, panel))
		return
	case bPlain:
		copyPanels(j.level, dst, panel, kc*panel, unsafe.Pointer(&j.b[k0*j.ldb+j0]), j.ldb, kc, cols)
		return
	}
	for c := 0; c < cols; c += panel {
		to, w := unsafe.Add(dst, c*kc*4), min(panel, cols-c)
		if j.form == bTrans {
			transpose(j.level, to, panel, unsafe.Pointer(&j.b[(j0+c)*j.ldb+k0]), j.ldb, kc, w)
		} else {
			j.turnPanel(s, to, k0, j0+c, kc, w)
		}
	}
}

// turnPanel writes columns j0..j0+w (inputs of W) of rows k0..k0+kc (outputs of W) as a panel [kc][panel]. A packed panel
// is [input][32 outputs]; the columns may straddle two of Packed's depth blocks.
func (j *job) turnPanel(s *scratch, dst unsafe.Pointer, k0, j0, kc, w int) {
	p := j.packed
	step := depth(p.k)
	for c := 0; c < w; {
		b0 := (j0 + c) / step * step // the depth block of input j0+c
		bc := min(step, p.k-b0)
		cn := min(w-c, b0+bc-(j0+c))
		for o := 0; o < kc; {
			lane := (k0 + o) % panel
			on := min(kc-o, panel-lane)
			at := p.at(b0, bc, (k0+o)-lane) + (j0+c-b0)*panel
			var src unsafe.Pointer
			if p.halves != nil {
				src = unsafe.Pointer(&s.turn[0])
				widen(j.level, src, unsafe.Pointer(&p.halves[at]), cn*panel)
			} else {
				src = unsafe.Pointer(&p.data[at])
			}
			transpose(j.level, unsafe.Add(dst, (o*panel+c)*4), panel, unsafe.Add(src, lane*4), panel, on, cn)
			o += on
		}
		c += cn
	}
}
