// Package cpu is the processor as an engine.Device: hand-written matrix products (package gemm) and vector kernels
// (package simd) on a pool of goroutines. Results do not depend on the number of threads.
package cpu

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/heap"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/simd"
)

// revision counts changes of the kernels that change bits. It is part of a run's numerics id.
const revision = 1

// int8Revision counts changes of the products of int8 that change bits.
const int8Revision = 1

// Device computes on the processor. Frozen memories may be shared by several of them.
type Device struct {
	pool *pool.Pool

	mu      sync.Mutex
	rotary  map[string]*simd.Rotary // by their frequencies
	kernels isa.Level
	int8    bool
}

var _ engine.Device = (*Device)(nil)

// New returns a device that uses up to threads goroutines. Close it when done. Its arrays are of Go's heap, so the
// collector of a process that has a device is told not to wait until as much garbage has gathered (package heap).
func New(threads int) (*Device, error) {
	if err := isa.Check(); err != nil {
		return nil, err
	}
	heap.Tune()
	return &Device{pool: pool.New(threads), rotary: map[string]*simd.Rotary{}, kernels: isa.Active()}, nil
}

// NewInt8 returns a device whose products with frozen matrices are of 8-bit integers (gemm.Int8), about four times as
// fast on a processor with VNNI, in about a quarter of the memory, and less exact. It only embeds: it has no kernels for
// gradients of products. Its numerics id says so. Matrices that it loads are rounded for every device that shares them.
func NewInt8(threads int) (*Device, error) {
	d, err := New(threads)
	if err == nil {
		d.int8 = true
	}
	return d, err
}

// Pool returns the device's goroutines, for loops between the graph's runs.
func (d *Device) Pool() *pool.Pool { return d.pool }

// Close ends the device's goroutines.
func (d *Device) Close() { d.pool.Close() }

// Name implements engine.Device.
func (d *Device) Name() string {
	kind := isa.Active().String()
	if d.int8 {
		kind += ", int8"
	}
	return fmt.Sprintf("cpu (%s, %d threads)", kind, d.pool.Threads())
}

// Numerics implements engine.Device. The number of threads is not part of it.
func (d *Device) Numerics() string {
	id := fmt.Sprintf("cpu/%d/%s/%s", revision, runtime.GOARCH, isa.Active()) // plain Go may fuse multiply and add, by architecture
	if d.int8 {
		id += fmt.Sprintf("/int8/%d", int8Revision)
	}
	return id
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
	if host := d.Host(src); len(dst) > 0 && &dst[0] != &host[0] { // who reads where it lies needs no copy
		copy(dst, host)
	}
	return nil
}

// Host implements engine.Device: all memory is the host's.
func (d *Device) Host(t engine.Tensor) []byte {
	return data(t)
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
