package cpu

import (
	"errors"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/simd"
)

var _ engine.Loader = (*Device)(nil)

// Load implements engine.Loader: a matrix for products is packed while it is read, a panel at a time, a table of rows is
// read as it is, both in bfloat16 where the source is.
func (d *Device) Load(source engine.Source, use engine.Use, shape ...int) (engine.Tensor, error) {
	t := engine.Tensor{Rank: len(shape), Frozen: true}
	copy(t.Shape[:], shape)
	m := &memory{size: t.Bytes()}
	t.Mem = m
	var err error
	switch {
	case t.Rank == 2 && d.int8:
		m.bytes8, err = gemm.LoadInt8(d.pool, shape[0], shape[1], sourceOf(source))
	case t.Rank == 2 && use == engine.Product:
		n, k := shape[0], shape[1]
		if m.whole, err = gemm.Load(d.pool, n, k, sourceOf(source)); err == nil {
			m.packed = map[[3]int64]*gemm.Packed{{0, int64(n), int64(k)}: m.whole}
		}
	case t.Rank == 2 && source.Half():
		m.halves = make([]uint16, t.Elements())
		err = parts(d, m.halves, source.Halves)
	default:
		m.bytes.Store(alignedBytes(m.size))
		err = parts(d, floats(t), source.Values)
	}
	return t, err
}

func sourceOf(source engine.Source) gemm.Source {
	if source.Half() {
		return gemm.Source{Halves: source.Halves}
	}
	return gemm.Source{Values: source.Values}
}

// parts fills dst in parts, on all threads.
func parts[E any](d *Device, dst []E, read func(dst []E, first int) error) error {
	const part = 1 << 16
	n := (len(dst) + part - 1) / part
	errs := make([]error, n)
	d.pool.For(n, func(i int) {
		lo, hi := i*part, min((i+1)*part, len(dst))
		errs[i] = read(dst[lo:hi], lo)
	})
	return errors.Join(errs...)
}

// gather sets the rows of the output to rows of a table, in whatever form the table is.
func (d *Device) gather(out, table engine.Tensor, ids []int32) {
	m, width := table.Mem.(*memory), table.Shape[1]
	dst := floats(out)
	m.mu.Lock()
	plain := m.bytes.Load() != nil
	whole, halves, bytes8 := m.whole, m.halves, m.bytes8
	m.mu.Unlock()
	if plain {
		simd.Gather(d.pool, dst, floats(table), ids, width)
		return
	}
	first := int(table.Offset / 4 / int64(width))
	const rows = 32
	d.pool.For((len(ids)+rows-1)/rows, func(i int) {
		for t := i * rows; t < min(len(ids), (i+1)*rows); t++ {
			row := dst[t*width : (t+1)*width]
			switch at := first + int(ids[t]); {
			case whole != nil:
				whole.Row(at, row)
			case bytes8 != nil:
				bytes8.Row(at, row)
			default:
				gemm.Widen(row, halves[at*width:][:width])
			}
		}
	})
}
