package cpu

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
)

// memory is a range of the process's memory. A frozen matrix that is a memory of its own is kept in one form only: packed
// for products, or in rows; as bfloat16 where its values are. So a base model lies in memory once, in the size of its
// file. Whoever needs the bytes nevertheless gets them restored, and they stay.
type memory struct {
	size  int64
	bytes atomic.Pointer[byte] // nil: another form only, or freed
	unmap func()               // of an arena outside of Go's heap

	mu     sync.Mutex
	packed map[[3]int64]*gemm.Packed // by offset, n, k
	whole  *gemm.Packed
	halves []uint16   // rows of bfloat16
	bytes8 *gemm.Int8 // in 8 bits, for products and rows
}

// Bytes implements engine.Memory.
func (m *memory) Bytes() int64 { return m.size }

// Free implements engine.Memory. Memory of Go's heap is the garbage collector's.
func (m *memory) Free() {
	if m.unmap != nil {
		m.bytes.Store(nil)
		m.unmap()
		m.unmap = nil
	}
}

// Alloc implements engine.Device.
func (d *Device) Alloc(bytes int64) (engine.Memory, error) {
	if bytes < 0 {
		return nil, fmt.Errorf("cpu: allocate %d bytes", bytes)
	}
	m := &memory{size: bytes}
	m.bytes.Store(alignedBytes(bytes))
	return m, nil
}

// Arena implements engine.Arenas: the system's memory, in large pages where it has them, which a collector neither
// counts nor keeps until later.
func (d *Device) Arena(bytes int64) (engine.Memory, error) {
	p, unmap, err := mapped(bytes)
	if err != nil || p == nil {
		return d.Alloc(bytes)
	}
	m := &memory{size: bytes}
	m.bytes.Store(p)
	cleanup := runtime.AddCleanup(m, func(unmap func()) { unmap() }, unmap) // of a model that nobody frees
	m.unmap = func() { cleanup.Stop(); unmap() }
	return m, nil
}

func alignedBytes(n int64) *byte {
	raw := make([]byte, n+engine.Align)
	skip := -uintptr(unsafe.Pointer(&raw[0])) & (engine.Align - 1)
	return &raw[skip]
}

// data returns the bytes of a tensor.
func data(t engine.Tensor) []byte {
	m := t.Mem.(*memory)
	p := m.bytes.Load()
	if p == nil {
		p = m.restore()
	}
	return unsafe.Slice(p, m.size)[t.Offset:][:t.Bytes():t.Bytes()]
}

// restore unpacks a memory whose bytes were given up.
func (m *memory) restore() *byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.bytes.Load(); p != nil {
		return p
	}
	p := alignedBytes(m.size)
	values := unsafe.Slice((*float32)(unsafe.Pointer(p)), m.size/4)
	switch {
	case m.whole != nil:
		m.whole.Unpack(values)
	case m.bytes8 != nil:
		m.bytes8.Unpack(values)
	case m.halves != nil:
		gemm.Widen(values, m.halves)
	default:
		panic("cpu: memory is used after Free")
	}
	m.halves = nil // a table of which all values are wanted once will be wanted so again
	m.bytes.Store(p)
	return p
}

// packedOf returns the packed form of a frozen matrix [n, k], nil of another.
func packedOf(t engine.Tensor) *gemm.Packed {
	if !t.Frozen || t.Mem == nil {
		return nil
	}
	m := t.Mem.(*memory)
	n, k := t.Shape[0], t.Shape[1]
	key := [3]int64{t.Offset, int64(n), int64(k)}
	m.mu.Lock()
	p := m.packed[key]
	m.mu.Unlock()
	if p != nil {
		return p
	}
	m.mu.Lock()
	halves := m.halves
	m.mu.Unlock()
	var values []float32
	if halves == nil {
		values = floats(t) // outside of the lock: it may unpack
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.packed[key]; p != nil {
		return p
	}
	if halves != nil && t.Bytes() == m.size {
		p, _ = gemm.Load(nil, n, k, gemm.Source{Halves: func(dst []uint16, first int) error { copy(dst, halves[first:]); return nil }}) // no error: memory
	} else {
		if values == nil {
			values = make([]float32, n*k)
			gemm.Widen(values, halves[t.Offset/4:])
		}
		p = gemm.Pack(values, n, k)
	}
	if m.packed == nil {
		m.packed = map[[3]int64]*gemm.Packed{}
	}
	m.packed[key] = p
	if t.Bytes() == m.size {
		m.whole, m.halves = p, nil
		m.bytes.Store(nil)
	}
	return p
}

// floats returns the values of a float32 tensor.
func floats(t engine.Tensor) []float32 {
	if t.Elements() == 0 {
		return nil
	}
	return engine.View[float32](data(t))
}

// ints returns the values of an int32 tensor.
func ints(t engine.Tensor) []int32 {
	if t.Elements() == 0 {
		return nil
	}
	return engine.View[int32](data(t))
}

// identities returns the values of an int32 tensor of which only the bits matter.
func identities(t engine.Tensor) []uint32 {
	s := ints(t)
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(s))), len(s))
}

// resident is the memory that a matrix takes in all its forms.
func (m *memory) resident() (bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bytes.Load() != nil {
		bytes = m.size
	}
	for _, p := range m.packed {
		bytes += p.Bytes()
	}
	if m.bytes8 != nil {
		bytes += m.bytes8.Bytes()
	}
	return bytes + 2*int64(len(m.halves))
}
