package gemm

import (
	"errors"
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// Source is a matrix to be packed that comes in parts, from several goroutines at once. One of its functions is set.
type Source struct {
	Values func(dst []float32, first int) error // elements first, first+1, ... of the row-major matrix
	Halves func(dst []uint16, first int) error  // likewise, where all are bfloat16
}

// Load packs the matrix [n, k] of a source; with Halves it is kept in bfloat16. Besides the result it takes a panel's
// rows of memory a thread.
func Load(pl *pool.Pool, n, k int, source Source) (*Packed, error) {
	checkDims(0, n, k)
	p := &Packed{n: n, k: k}
	if source.Halves != nil {
		p.halves = alignedHalves(k * roundUp(n, panel))
	} else {
		p.data = aligned(k * roundUp(n, panel))
	}
	if n == 0 || k == 0 {
		return p, nil
	}
	spaces := make(chan *loading, pl.Threads())
	for range pl.Threads() {
		spaces <- nil
	}
	panels := (n + panel - 1) / panel
	errs := make([]error, panels)
	pl.For(panels, func(i int) {
		space := <-spaces
		if space == nil {
			space = p.space()
		}
		errs[i] = p.loadPanel(i*panel, source, space)
		spaces <- space
	})
	return p, errors.Join(errs...)
}

// loading is what one goroutine needs to load.
type loading struct {
	rows   []float32 // [panel][k]
	halves []uint16  // likewise
	turned []float32 // [depthMax][panel]
}

func (p *Packed) space() *loading {
	s := &loading{rows: aligned(min(panel, p.n) * p.k)}
	if p.halves != nil {
		s.halves, s.turned = alignedHalves(len(s.rows)), aligned(depthMax*panel)
	}
	return s
}

// loadPanel reads and packs outputs j.. of one panel.
func (p *Packed) loadPanel(j int, source Source, s *loading) error {
	w := min(panel, p.n-j)
	rows := s.rows[:w*p.k]
	if p.halves == nil {
		if err := source.Values(rows, j*p.k); err != nil {
			return err
		}
	} else {
		halves := s.halves[:len(rows)]
		if err := source.Halves(halves, j*p.k); err != nil {
			return err
		}
		widen(isa.Active(), unsafe.Pointer(&rows[0]), unsafe.Pointer(&halves[0]), len(rows))
	}
	step := depth(p.k)
	for k0 := 0; k0 < p.k; k0 += step {
		kc := min(step, p.k-k0)
		at := p.at(k0, kc, j)
		if p.halves == nil {
			transpose(isa.Active(), unsafe.Pointer(&p.data[at]), panel, unsafe.Pointer(&rows[k0]), p.k, kc, w)
			continue
		}
		transpose(isa.Active(), unsafe.Pointer(&s.turned[0]), panel, unsafe.Pointer(&rows[k0]), p.k, kc, w)
		narrow(isa.Active(), unsafe.Pointer(&p.halves[at]), unsafe.Pointer(&s.turned[0]), kc*panel)
	}
	return nil
}

// alignedHalves returns n halves that start on a cache line.
func alignedHalves(n int) []uint16 {
	s := make([]uint16, n+31)
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(s)))>>1) & 31
	return s[off : off+n : off+n]
}

// Widen sets dst[i] to the bfloat16 src[i], exactly.
func Widen(dst []float32, src []uint16) {
	if n := min(len(dst), len(src)); n > 0 {
		widen(isa.Active(), unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), n)
	}
}
