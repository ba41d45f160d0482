// Package cpu is the processor as an engine.Device: hand-written matrix products (package gemm) and vector kernels
// (package simd) on a pool of goroutines. Results do not depend on the number of threads.
package cpu

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/simd"
)

// revision counts changes of the kernels that change bits. It is part of a run's numerics id.
const revision = 1

// Device computes on the processor. Frozen memories may be shared by several of them.
type Device struct {
	pool *pool.Pool

	mu      sync.Mutex
	rotary  map[string]*simd.Rotary // by their frequencies
	kernels isa.Level
}

var _ engine.Device = (*Device)(nil)

// New returns a device that uses up to threads goroutines. Close it when done.
func New(threads int) (*Device, error) {
	if err := isa.Check(); err != nil {
		return nil, err
	}
	return &Device{pool: pool.New(threads), rotary: map[string]*simd.Rotary{}, kernels: isa.Active()}, nil
}

// Pool returns the device's goroutines, for loops between the graph's runs.
func (d *Device) Pool() *pool.Pool { return d.pool }

// Close ends the device's goroutines.
func (d *Device) Close() { d.pool.Close() }

// Name implements engine.Device.
func (d *Device) Name() string {
	return fmt.Sprintf("cpu (%s, %d threads)", isa.Active(), d.pool.Threads())
}

// Numerics implements engine.Device. The number of threads is not part of it.
func (d *Device) Numerics() string { return fmt.Sprintf("cpu/%d/%s", revision, isa.Active()) }

// memory is a range of the process's memory. A frozen matrix is packed on first use, once for all programs.
type memory struct {
	data []byte

	mu     sync.Mutex
	packed map[[3]int64]*gemm.Packed // by offset, n, k
}

// Bytes implements engine.Memory.
func (m *memory) Bytes() int64 { return int64(len(m.data)) }

// Free implements engine.Memory: the garbage collector does it.
func (m *memory) Free() {}

// Alloc implements engine.Device.
func (d *Device) Alloc(bytes int64) (engine.Memory, error) {
	if bytes < 0 {
		return nil, fmt.Errorf("cpu: allocate %d bytes", bytes)
	}
	raw := make([]byte, bytes+engine.Align)
	skip := -uintptr(unsafe.Pointer(&raw[0])) & (engine.Align - 1)
	return &memory{data: raw[skip:][:bytes:bytes]}, nil
}

// Write implements engine.Device.
func (d *Device) Write(dst engine.Tensor, src []byte) error {
	if int64(len(src)) != dst.Bytes() {
		return fmt.Errorf("cpu: write %d bytes to a tensor of %d", len(src), dst.Bytes())
	}
	copy(d.Host(dst), src)
	return nil
}

// Read implements engine.Device.
func (d *Device) Read(dst []byte, src engine.Tensor) error {
	if int64(len(dst)) != src.Bytes() {
		return fmt.Errorf("cpu: read %d bytes of a tensor of %d", len(dst), src.Bytes())
	}
	copy(dst, d.Host(src))
	return nil
}

// Host implements engine.Device: all memory is the host's.
func (d *Device) Host(t engine.Tensor) []byte {
	return t.Mem.(*memory).data[t.Offset:][:t.Bytes():t.Bytes()]
}

// floats returns the values of a float32 tensor.
func floats(t engine.Tensor) []float32 {
	n := t.Elements()
	if n == 0 {
		return nil
	}
	data := t.Mem.(*memory).data[t.Offset:][:4*n]
	return unsafe.Slice((*float32)(unsafe.Pointer(&data[0])), n)
}

// ints returns the values of an int32 tensor.
func ints(t engine.Tensor) []int32 {
	n := t.Elements()
	if n == 0 {
		return nil
	}
	data := t.Mem.(*memory).data[t.Offset:][:4*n]
	return unsafe.Slice((*int32)(unsafe.Pointer(&data[0])), n)
}

// identities returns the values of an int32 tensor of which only the bits matter.
func identities(t engine.Tensor) []uint32 {
	s := ints(t)
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(s))), len(s))
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
	defer m.mu.Unlock()
	if p := m.packed[key]; p != nil {
		return p
	}
	p := gemm.Pack(floats(t), n, k)
	if m.packed == nil {
		m.packed = map[[3]int64]*gemm.Packed{}
	}
	m.packed[key] = p
	return p
}

// rotaryOf returns the rotation of some frequencies; its tables are shared by all layers.
func (d *Device) rotaryOf(frequencies []float32) *simd.Rotary {
	key := string(engine.Bytes(frequencies))
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rotary[key]
	if r == nil {
		r = simd.NewRotary(frequencies)
		d.rotary[key] = r
	}
	return r
}
