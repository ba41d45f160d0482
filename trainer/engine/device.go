// Package engine runs gorgonia graphs of package ops: our own gorgonia.VM. It removes dead code, plans every value's
// place in one arena, fuses sums into the kernels that can add, and runs the kernels of a Device. DESIGN.md has the
// reasons.
package engine

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// ErrUnsupported is returned by a device that has no kernel for an op; the wrapping error names the op.
var ErrUnsupported = errors.New("engine: no kernel")

// Type is the element type of a tensor. Both are 4 bytes wide.
type Type uint8

// The element types.
const (
	Float32 Type = iota
	Int32
)

// Align is the alignment, in bytes, of memories and of every value within an arena.
const Align = 64

// Memory is a range of a device's memory.
type Memory interface {
	Bytes() int64
	Free()
}

// Tensor is a view of a memory: row-major, dense, of rank 0 (a scalar), 1 or 2.
type Tensor struct {
	Type   Type
	Rank   int
	Shape  [2]int
	Mem    Memory
	Offset int64 // bytes
	Frozen bool  // the values never change: a device may keep derived forms of them with Mem
}

// Elements returns the product of the shape, 1 for a scalar.
func (t *Tensor) Elements() int {
	n := 1
	for _, d := range t.Shape[:t.Rank] {
		n *= d
	}
	return n
}

// Bytes returns the size of the values.
func (t *Tensor) Bytes() int64 { return 4 * int64(t.Elements()) }

// Call is one execution of a kernel.
type Call struct {
	In      []Tensor
	Out     Tensor
	Base    Tensor // if Base.Mem is not nil, the kernel sets Out = Base + result; Base may be Out
	Saved   Tensor // the second result, of an ops.Saver: a vector
	Read    Tensor // the second result of the input that an ops.Reader reads
	Scratch Tensor // as many bytes as Kernel.Scratch asked for, contents undefined
}

// Kernel computes one op.
type Kernel struct {
	// Run computes. Its result may depend on the call's values and shapes only: not on the scratch's contents, on
	// the number of threads, or on the place of the memory.
	Run func(c *Call) error
	// Scratch, if not nil, returns the bytes of scratch for a call of these shapes. It must not shrink when a
	// shape grows.
	Scratch func(c *Call) int64
	// InPlace lists the inputs whose place Out may take.
	InPlace []int
	// Adds says that the kernel honours Call.Base.
	Adds bool
}

// Device computes. It knows neither graphs nor models. Methods are called by one goroutine at a time, but memories
// marked frozen may be read by several devices of one kind at once.
type Device interface {
	Name() string
	// Numerics names what the bits of a result depend on: kernel revision and instruction set, or GPU model and
	// library versions.
	Numerics() string
	// Alloc returns zeroed memory, aligned to Align.
	Alloc(bytes int64) (Memory, error)
	// Write copies src, which has dst.Bytes() bytes, to the device.
	Write(dst Tensor, src []byte) error
	// Read copies src to dst, which has src.Bytes() bytes, when all kernels before it are done.
	Read(dst []byte, src Tensor) error
	// Host returns the tensor's own bytes where they are the host's memory too, else nil.
	Host(t Tensor) []byte
	// Kernel returns the kernel of an op for inputs of these types, ranks and frozen values; the sizes of
	// dimensions that vary are the largest ones. Unknown: an error that wraps ErrUnsupported.
	Kernel(spec ops.Spec, in []Tensor, out Tensor) (*Kernel, error)
}

// Source gives the values of a frozen tensor in parts, in any order and to several goroutines at once.
type Source interface {
	// Half says that all values are stored as bfloat16, so that Halves may be called.
	Half() bool
	// Values writes elements first, first+1, ... of the row-major tensor to dst.
	Values(dst []float32, first int) error
	// Halves writes them as bfloat16: the upper halves of their bits, the lower ones are 0.
	Halves(dst []uint16, first int) error
}

// Use is what kernels do with a frozen matrix.
type Use uint8

// The uses.
const (
	Rows    Use = iota // single rows, or all values, are read
	Product            // it is multiplied with
)

// Loader is a Device that reads a frozen tensor itself, into the form in which its kernels want it: the values
// never lie in memory twice.
type Loader interface {
	Load(source Source, use Use, shape ...int) (Tensor, error)
}

// Load puts a frozen tensor on a device.
func Load(dev Device, source Source, use Use, shape ...int) (Tensor, error) {
	if l, ok := dev.(Loader); ok {
		return l.Load(source, use, shape...)
	}
	n := 1
	for _, d := range shape {
		n *= d
	}
	values := make([]float32, n)
	if err := source.Values(values, 0); err != nil {
		return Tensor{}, err
	}
	return Upload(dev, values, true, shape...)
}

// Form is the memory in which a device keeps a frozen tensor: it may have several, and make others later.
type Form struct {
	Name  string
	Bytes []byte
}

// Former is a Device that shows what it keeps of a frozen tensor, so that it can be hashed as kernels read it. The bytes
// are not changed, and may be read while kernels run.
type Former interface {
	Forms(t Tensor) []Form
}

// Arenas is a Device with memory for the arenas of frames: large, short-lived, given back by Free at once.
type Arenas interface {
	// Arena returns memory of undefined contents, aligned to Align. Nothing may use it after Free.
	Arena(bytes int64) (Memory, error)
}

// Arena returns memory for a frame of a device.
func Arena(dev Device, bytes int64) (Memory, error) {
	if a, ok := dev.(Arenas); ok {
		return a.Arena(bytes)
	}
	return dev.Alloc(bytes)
}

// Bytes returns the memory of a slice of 4-byte values.
func Bytes[E float32 | int32](s []E) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), 4*len(s))
}

// View returns aligned memory as values.
func View[E float32 | int32 | uint64](b []byte) []E {
	if len(b) < 4 {
		return nil
	}
	var e E
	return unsafe.Slice((*E)(unsafe.Pointer(&b[0])), len(b)/int(unsafe.Sizeof(e)))
}

// Upload copies values into new memory of a device and returns a tensor of them.
func Upload(dev Device, values []float32, frozen bool, shape ...int) (Tensor, error) {
	t := Tensor{Rank: len(shape), Frozen: frozen}
	copy(t.Shape[:], shape)
	if t.Elements() != len(values) {
		return Tensor{}, fmt.Errorf("engine: %d values for shape %v", len(values), shape)
	}
	mem, err := dev.Alloc(t.Bytes())
	if err != nil {
		return Tensor{}, err
	}
	t.Mem = mem
	return t, dev.Write(t, Bytes(values))
}

// Values returns the tensor's float32 values: the device's own where the host sees them (valid until they are
// overwritten), else a copy.
func Values(dev Device, t Tensor) ([]float32, error) {
	if b := dev.Host(t); b != nil {
		return View[float32](b), nil
	}
	out := make([]float32, t.Elements())
	return out, dev.Read(Bytes(out), t)
}
