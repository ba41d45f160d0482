package gemm

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// Groups of the reduction that share a scale, and the blocks that hold them.
const (
	group     = 32                  // values that share a scale
	rowBlock  = group + 8           // a group of a row of x: 32 int8; its scale, float32; -128 times the sum of the int8, int32
	wideBlock = panel * (group + 4) // a group of a panel of W: [group/4][panel][4] bytes of int8 + 128; panel scales, float32
	scaleAt   = group               // in a rowBlock
	offsetAt  = group + 4           // in a rowBlock
	scalesAt  = panel * group       // in a wideBlock
	tallest   = 6                   // most rows of a tile of int8
)

// Int8 is a weight matrix W [n, k] (n outputs, k inputs) in 8 bits. Every output's inputs are cut into groups of 32; a
// group is 32 integers in -127..127 and a scale, so that one outlier costs its group's precision only. x is cut
// likewise when it is multiplied. (The blocks of llama.cpp's Q8_0, with scales in float32.)
//
//	w[o, i] ~ s[o, g] * q[o, i], g = i/32, s = max |w| of the group / 127, q = w * (127 / max |w|) to the nearest, ties to even
//	y[t, o] = sum over g, ascending, of s[o, g] * (s[t, g] * sum over the group of q[o, i] * q[t, i])
//
// The inner sums are integers, exact; the outer one is a chain of float32 fused multiply-adds in the order of g from 0.
// So a result has the same bits on every instruction set, plain Go included, and for every number of threads.
type Int8 struct {
	n, k, groups int
	data         []byte // panels of 32 outputs, each [groups] blocks of wideBlock bytes
}

// LoadInt8 quantises the matrix [n, k] of a source while it is read: besides the result it takes a panel's rows of
// memory a thread.
func LoadInt8(pl *pool.Pool, n, k int, source Source) (*Int8, error) {
	checkDims(0, n, k)
	q := &Int8{n: n, k: k, groups: (k + group - 1) / group}
	q.data = alignedBytes(roundUp(n, panel) / panel * q.stride())
	panels := (n + panel - 1) / panel
	errs := make([]error, panels)
	pl.For(panels, func(i int) {
		w := make([]float32, min(panel, n-i*panel)*k)
		if errs[i] = source.float32s(w, i*panel*k); errs[i] == nil {
			q.fill(i, w)
		}
	})
	return q, errors.Join(errs...)
}

// float32s reads values of either kind.
func (s Source) float32s(dst []float32, first int) error {
	if s.Halves == nil {
		return s.Values(dst, first)
	}
	halves := make([]uint16, len(dst))
	err := s.Halves(halves, first)
	Widen(dst, halves)
	return err
}

// PackInt8 quantises the row-major w [n, k].
func PackInt8(w []float32, n, k int) *Int8 {
	checkMatrix("W", w, n, k, k)
	q, _ := LoadInt8(nil, n, k, Source{Values: func(dst []float32, first int) error { copy(dst, w[first:]); return nil }}) // no error: memory
	return q
}

func alignedBytes(n int) []byte {
	s := make([]byte, n+63)
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(s)))) & 63
	return s[off : off+n : off+n]
}

// stride is the size of a panel.
func (q *Int8) stride() int { return q.groups * wideBlock }

// fill quantises the rows w [<= panel, k] of a panel.
func (q *Int8) fill(at int, w []float32) {
	row := make([]byte, q.groups*rowBlock)
	level := isa.Active()
	for o := range len(w) / max(q.k, 1) {
		quantize(level, row, w[o*q.k:][:q.k])
		for g := range q.groups {
			src, dst := row[g*rowBlock:][:rowBlock], q.data[at*q.stride()+g*wideBlock:][:wideBlock]
			for i, b := range src[:group] {
				dst[i/4*4*panel+4*o+i%4] = b ^ 0x80 // + 128, without a sign
			}
			copy(dst[scalesAt+4*o:][:4], src[scaleAt:][:4])
		}
	}
}

// Dims is the shape of W: n outputs, k inputs.
func (q *Int8) Dims() (n, k int) { return q.n, q.k }

// Raw is the memory itself, which is not to be changed.
func (q *Int8) Raw() []byte { return q.data }

// Bytes returns the memory that the matrix takes.
func (q *Int8) Bytes() int64 { return int64(len(q.data)) }

// Row copies row o of W, [k], into dst, as it is after quantising.
func (q *Int8) Row(o int, dst []float32) {
	if o < 0 || o >= q.n || len(dst) < q.k {
		panic(fmt.Sprintf("gemm: row %d of an int8 [%d, %d] into %d values", o, q.n, q.k, len(dst)))
	}
	base := unsafe.Pointer(&q.data[o/panel*q.stride()])
	for g := range q.groups {
		block := unsafe.Add(base, g*wideBlock+4*(o%panel))
		scale := *(*float32)(unsafe.Add(block, scalesAt))
		for i := range min(group, q.k-g*group) {
			b := *(*byte)(unsafe.Add(block, i/4*4*panel+i%4))
			dst[g*group+i] = scale * float32(int(b)-128)
		}
	}
}

// Unpack writes W [n, k], as it is after quantising.
func (q *Int8) Unpack(w []float32) {
	checkMatrix("W", w, q.n, q.k, q.k)
	for o := range q.n {
		q.Row(o, w[o*q.k:])
	}
}

// Scratch is the memory in bytes that NT needs for m rows.
func (q *Int8) Scratch(m int) int64 { return int64(m) * int64(q.groups) * rowBlock }

// NT computes y[m,n] = x[m,k] * Wᵀ (+ bias[n] if it is not nil) (+ y if add), quantising x into scratch, which has
// Scratch(m) bytes. A row of x with a value that is not finite gives rows that are not finite.
func (q *Int8) NT(pl *pool.Pool, m int, x []float32, ldx int, bias []float32, add bool, y []float32, ldy int, scratch []byte) {
	if m <= 0 || q.n == 0 {
		checkDims(m, q.n, q.k)
		return
	}
	checkMatrix("x", x, m, q.k, ldx)
	checkMatrix("y", y, m, q.n, ldy)
	if bias != nil && len(bias) < q.n || int64(len(scratch)) < q.Scratch(m) {
		panic(fmt.Sprintf("gemm: bias of %d and scratch of %d values for an int8 product [%d, %d, %d]", len(bias), len(scratch), m, q.n, q.k))
	}
	row := q.groups * rowBlock
	level := isa.Active()
	const rows = 16
	forAll(pl, (m+rows-1)/rows, func(i int) {
		for t := i * rows; t < min(m, (i+1)*rows); t++ {
			quantize(level, scratch[t*row:][:row], x[t*ldx:][:q.k])
		}
	})
	// Tiles of C: columns whose W stays in the L2 cache, rows so that about four tiles a thread even out.
	const l2 = 1 << 19
	panels := (q.n + panel - 1) / panel
	wide := max(1, min(panels, l2/max(q.stride(), 1)))
	across := (panels + wide - 1) / wide
	tall := m
	if threads := pl.Threads(); threads > 1 {
		down := max(1, min((4*threads+across-1)/across, m/(4*tallest)))
		if across*down < 2*threads {
			wide = max(1, (panels*down+2*threads-1)/(2*threads))
			across = (panels + wide - 1) / wide
		}
		tall = roundUp((m+down-1)/down, tallest)
	}
	down := (m + tall - 1) / tall
	forAll(pl, across*down, func(i int) {
		first, t0 := i%across*wide, i/across*tall
		s := int8Strip{w: unsafe.Pointer(unsafe.SliceData(q.data[first*q.stride():])), panelStep: q.stride(), ldc: 4 * ldy, groups: q.groups, rs: row}
		s.n = min(wide*panel, q.n-first*panel)
		if bias != nil {
			s.bias = unsafe.Pointer(&bias[first*panel])
		}
		if add {
			s.add = 1
		}
		for t := t0; t < min(m, t0+tall); t += s.m {
			s.m = min(tallest, m-t, t0+tall-t)
			s.x, s.c = unsafe.Pointer(unsafe.SliceData(scratch[t*row:])), unsafe.Pointer(&y[t*ldy+first*panel])
			s.run(level)
		}
	})
}

func forAll(pl *pool.Pool, n int, f func(i int)) {
	if n == 1 {
		f(0)
		return
	}
	pl.For(n, f)
}

// int8Strip is m rows, at most tallest, of a product with int8 weights, times n columns. Strides are in bytes. The
// assembly reads the fields by offset.
type int8Strip struct {
	x         unsafe.Pointer // 0: rows of groups blocks of rowBlock bytes
	rs        int            // 8: between rows of x
	w         unsafe.Pointer // 16: panels
	panelStep int            // 24: between them
	c         unsafe.Pointer // 32
	ldc       int            // 40: between rows of C
	bias      unsafe.Pointer // 48: of the first column; nil: none
	m         int            // 56
	n         int            // 64
	groups    int            // 72
	add       int            // 80: 1: C is added to
}

// tiled runs a strip by a kernel for tiles of up to two rows and 16 columns: what comes after the sums is done here.
func (s *int8Strip) tiled(kernel func(x unsafe.Pointer, rs int, w unsafe.Pointer, groups int, out *[32]float32)) {
	var out [32]float32
	for i := 0; i < s.m; i += 2 {
		x, rs := unsafe.Add(s.x, i*s.rs), s.rs
		if i+1 == s.m {
			rs = 0 // the row twice
		}
		for j := 0; j < s.n; j += 16 {
			kernel(x, rs, unsafe.Add(s.w, j/panel*s.panelStep+j%panel*4), s.groups, &out)
			for r := range min(2, s.m-i) {
				c := unsafe.Slice((*float32)(unsafe.Add(s.c, (i+r)*s.ldc+4*j)), min(16, s.n-j))
				for k := range c {
					v := out[16*r+k]
					if s.bias != nil {
						v += *(*float32)(unsafe.Add(s.bias, 4*(j+k)))
					}
					if s.add != 0 {
						v += c[k]
					}
					c[k] = v
				}
			}
		}
	}
}

// int8TilePortable is a tile in plain Go, and its definition: out[r][j] of rows r < 2, columns j < 16.
func int8TilePortable(x unsafe.Pointer, rs int, w unsafe.Pointer, groups int, out *[32]float32) {
	*out = [32]float32{}
	for r := range 2 {
		row := unsafe.Add(x, r*rs)
		for g := range groups {
			q := unsafe.Slice((*int8)(unsafe.Add(row, g*rowBlock)), group)
			scale := *(*float32)(unsafe.Add(row, g*rowBlock+scaleAt))
			offset := *(*int32)(unsafe.Add(row, g*rowBlock+offsetAt))
			block := unsafe.Add(w, g*wideBlock)
			for j := range 16 {
				sum := offset
				for i := range group {
					sum += int32(q[i]) * int32(*(*byte)(unsafe.Add(block, i/4*4*panel+4*j+i%4)))
				}
				out[16*r+j] = fma32(float32(sum)*scale, *(*float32)(unsafe.Add(block, scalesAt+4*j)), out[16*r+j])
			}
		}
	}
}

// fma32 is a*b + c, rounded once. The product is exact in float64; a sum there that is rounded is made odd, so that
// rounding it again is as if there had been one rounding (Boldo, Melquiond: "Emulation of FMA and correctly rounded
// sums: proved algorithms using rounding to odd", 2008).
func fma32(a, b, c float32) float32 {
	p, d := float64(a)*float64(b), float64(c)
	s := p + d
	t := s - p
	rest := (p - (s - t)) + (d - t)
	if bits := math.Float64bits(s); rest != 0 && bits&1 == 0 && !math.IsInf(s, 0) && !math.IsNaN(rest) {
		if (rest > 0) == (s > 0) {
			s = math.Float64frombits(bits + 1)
		} else {
			s = math.Float64frombits(bits - 1)
		}
	}
	return float32(s)
}

// quantize writes a row of x as blocks of rowBlock bytes; the last group is filled up with zeros.
func quantize(level isa.Level, dst []byte, x []float32) {
	whole := len(x) / group
	if whole > 0 {
		quantizeGroups(level, unsafe.Pointer(&dst[0]), unsafe.Pointer(&x[0]), whole)
	}
	if rest := x[whole*group:]; len(rest) > 0 {
		var last [group]float32
		copy(last[:], rest)
		quantizeGroups(level, unsafe.Pointer(&dst[whole*rowBlock]), unsafe.Pointer(&last[0]), 1)
	}
}

// least is the smallest maximum of a group: below, its values are 0. The float32 of these bits is about 1e-30.
const least = 0x0da24260

// quantizePortable is quantizeGroups in plain Go: of each 32 values the integers, the scale and the offset. The largest
// magnitude is compared as an integer, so that NaN is larger than all.
func quantizePortable(dst, src unsafe.Pointer, groups int) {
	for g := range groups {
		x := unsafe.Slice((*float32)(unsafe.Add(src, 4*g*group)), group)
		top := uint32(least)
		for _, v := range x {
			top = max(top, math.Float32bits(v)&0x7fffffff)
		}
		most := math.Float32frombits(top)
		inverse := 127 / most
		q := unsafe.Slice((*int8)(unsafe.Add(dst, g*rowBlock)), group)
		sum := int32(0)
		for i, v := range x {
			r := math.RoundToEven(float64(v * inverse))
			if !(r >= -127 && r <= 127) {
				r = -128 // of what is not finite, as the processor converts it
			}
			q[i] = int8(r)
			sum += int32(q[i])
		}
		*(*float32)(unsafe.Add(dst, g*rowBlock+scaleAt)) = most / 127
		*(*int32)(unsafe.Add(dst, g*rowBlock+offsetAt)) = -128 * sum
	}
}
