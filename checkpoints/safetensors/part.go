package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"
)

// Parts is a Tensors that can be read piece by piece, so that no tensor needs to lie in memory twice. File and Folder
// are. The methods may be called concurrently.
type Parts interface {
	Tensors
	// Part writes elements first, first+1, ... of a tensor to dst, as Float32 does.
	Part(dst []float32, name string, first int) error
	// Halves writes elements first, first+1, ... of a BF16 tensor to dst as they are stored.
	Halves(dst []uint16, name string, first int) error
	// Drop says that a tensor will not be read again soon: its pages leave the process's memory (not the cache of the
	// system). Reading it again works.
	Drop(name string)
}

// Part implements Parts.
func (f *File) Part(dst []float32, name string, first int) (err error) {
	info, b, err := f.slice(name, first, len(dst))
	if err != nil {
		return err
	}
	defer f.guard(name, &err)()
	return f.convert(dst, b, info, first)
}

// Halves implements Parts.
func (f *File) Halves(dst []uint16, name string, first int) (err error) {
	info, b, err := f.slice(name, first, len(dst))
	if err != nil {
		return err
	}
	if info.DType != BF16 {
		return fmt.Errorf("safetensors %s: tensor %q is %s, not BF16", f.name, name, info.DType)
	}
	defer f.guard(name, &err)()
	if littleEndian {
		if len(dst) > 0 {
			copy(unsafe.Slice((*byte)(unsafe.Pointer(&dst[0])), 2*len(dst)), b)
		}
		return nil
	}
	for i := range dst {
		dst[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return nil
}

// slice finds the bytes of n elements of a tensor.
func (f *File) slice(name string, first, n int) (Info, []byte, error) {
	info, b, err := f.find(name)
	if err != nil {
		return info, nil, err
	}
	if first < 0 || n > info.Elements()-first {
		return info, nil, fmt.Errorf("safetensors %s: tensor %q has %d elements, not %d from element %d on", f.name, name, info.Elements(), n, first)
	}
	size := info.DType.Size()
	return info, b[first*size : (first+n)*size], nil
}

// convert writes the values of the bytes b to dst; first is the element where they begin, for errors.
func (f *File) convert(dst []float32, b []byte, info Info, first int) error {
	switch info.DType {
	case F32:
		if littleEndian && len(dst) > 0 {
			copy(unsafe.Slice((*byte)(unsafe.Pointer(&dst[0])), 4*len(dst)), b)
			return nil
		}
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16)
		}
	case F16:
		for i := range dst {
			dst[i] = half(binary.LittleEndian.Uint16(b[2*i:]))
		}
	case F64:
		for i := range dst {
			wide := math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
			dst[i] = float32(wide)
			if math.IsInf(float64(dst[i]), 0) && !math.IsInf(wide, 0) {
				return fmt.Errorf("safetensors %s: tensor %q: element %d is %g, beyond float32", f.name, info.Name, first+i, wide)
			}
		}
	default:
		return fmt.Errorf("safetensors %s: tensor %q is %s, not a floating-point type", f.name, info.Name, info.DType)
	}
	return nil
}

// littleEndian says that this machine stores numbers as the files do.
var littleEndian = func() bool {
	x := uint16(1)
	return *(*byte)(unsafe.Pointer(&x)) == 1
}()

// Drop implements Parts.
func (f *File) Drop(name string) {
	if _, b, err := f.find(name); err == nil && f.mapped {
		drop(b)
	}
}

// Part implements Parts.
func (d *Folder) Part(dst []float32, name string, first int) error {
	f, ok := d.where[name]
	if !ok {
		return fmt.Errorf("safetensors %s: no tensor %q", d.dir, name)
	}
	return f.Part(dst, name, first)
}

// Halves implements Parts.
func (d *Folder) Halves(dst []uint16, name string, first int) error {
	f, ok := d.where[name]
	if !ok {
		return fmt.Errorf("safetensors %s: no tensor %q", d.dir, name)
	}
	return f.Halves(dst, name, first)
}

// Drop implements Parts.
func (d *Folder) Drop(name string) {
	if f, ok := d.where[name]; ok {
		f.Drop(name)
	}
}
