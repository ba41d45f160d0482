package gemm

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// Packed is a weight matrix W [n, k] (n outputs, k inputs) copied once into the order in which the kernels read it. It
// serves both directions from one copy: NT reads it as it lies, NN turns blocks of it round on the fly. The layout is
// the same on every instruction set. Several goroutines may read one Packed.
//
// Layout: the k inputs are cut into the blocks of depth() (the last may be shorter); a block of depth kc holds
// ceil(n/32) panels; a panel is [kc][32], 32 outputs of one input side by side; what lies beyond output n is never used.
//
// Weights that are bfloat16 numbers may be kept as such, in the same layout: half the memory, widened a block at a time
// where it is used. Widening is exact, so the bits of a product are the same.
type Packed struct {
	n, k   int
	data   []float32
	halves []uint16 // in the place of data
}

// Pack copies the row-major w [n, k].
func Pack(w []float32, n, k int) *Packed {
	checkDims(0, n, k)
	p := &Packed{n: n, k: k, data: aligned(k * roundUp(n, panel))}
	p.Repack(w)
	return p
}

// Repack copies changed weights w [n, k] into place.
func (p *Packed) Repack(w []float32) {
	checkMatrix("W", w, p.n, p.k, p.k)
	if p.n == 0 || p.k == 0 {
		return
	}
	step := depth(p.k)
	for k0 := 0; k0 < p.k; k0 += step {
		kc := min(step, p.k-k0)
		for j := 0; j < p.n; j += panel {
			dst := unsafe.Pointer(&p.data[p.at(k0, kc, j)])
			transpose(isa.Active(), dst, panel, unsafe.Pointer(&w[j*p.k+k0]), p.k, kc, min(panel, p.n-j))
		}
	}
}

// Dims is the shape of W: n outputs, k inputs.
func (p *Packed) Dims() (n, k int) { return p.n, p.k }

// at is the offset of the panel of output column j (a multiple of panel) in the block of depth kc that starts at k0.
func (p *Packed) at(k0, kc, j int) int { return k0*roundUp(p.n, panel) + j*kc }

// NT computes y[m,n] = x[m,k] * Wᵀ + beta * y, the forward product of a linear layer. The bits are those of Do.
func (p *Packed) NT(pl *pool.Pool, m int, x []float32, ldx int, beta float32, y []float32, ldy int) {
	if m <= 0 || p.n == 0 {
		checkDims(m, p.n, p.k)
		return
	}
	checkMatrix("y", y, m, p.n, ldy)
	if p.k == 0 {
		scale(m, p.n, beta, y, ldy)
		return
	}
	checkMatrix("x", x, m, p.k, ldx)
	product{
		m: m, n: p.n, k: p.k, alpha: 1, beta: beta,
		a: x, lda: ldx,
		packed: p, form: bPackedNT,
		c: y, ldc: ldy,
	}.run(pl)
}

// NN computes dx[m,k] = dy[m,n] * W + beta * dx, the gradient of a linear layer's input. The bits are those of Do.
func (p *Packed) NN(pl *pool.Pool, m int, dy []float32, lddy int, beta float32, dx []float32, lddx int) {
	if m <= 0 || p.k == 0 {
		checkDims(m, p.n, p.k)
		return
	}
	checkMatrix("dx", dx, m, p.k, lddx)
	if p.n == 0 {
		scale(m, p.k, beta, dx, lddx)
		return
	}
	checkMatrix("dy", dy, m, p.n, lddy)
	product{
		m: m, n: p.k, k: p.n, alpha: 1, beta: beta,
		a: dy, lda: lddy,
		packed: p, form: bPackedNN,
		c: dx, ldc: lddx,
	}.run(pl)
}

// Unpack writes W [n, k] back, row-major.
func (p *Packed) Unpack(w []float32) {
	checkMatrix("W", w, p.n, p.k, p.k)
	for o := range p.n {
		p.Row(o, w[o*p.k:(o+1)*p.k])
	}
}

// Row copies row o of W, [k], into dst.
func (p *Packed) Row(o int, dst []float32) {
	if o < 0 || o >= p.n || len(dst) < p.k {
		panic(fmt.Sprintf("gemm: row %d of a packed [%d, %d] into %d values", o, p.n, p.k, len(dst)))
	}
	step := depth(p.k)
	for k0 := 0; k0 < p.k; k0 += step {
		kc := min(step, p.k-k0)
		at := p.at(k0, kc, o/panel*panel) + o%panel
		if p.halves != nil {
			for i := range kc {
				dst[k0+i] = math.Float32frombits(uint32(p.halves[at+i*panel]) << 16)
			}
			continue
		}
		for i := range kc {
			dst[k0+i] = p.data[at+i*panel]
		}
	}
}

// Raw is the memory itself, which is not to be changed.
func (p *Packed) Raw() []byte {
	if p.halves != nil {
		return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(p.halves))), 2*len(p.halves))
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(p.data))), 4*len(p.data))
}

// Bytes is the memory that it takes.
func (p *Packed) Bytes() int64 { return 4*int64(len(p.data)) + 2*int64(len(p.halves)) }
