package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
)

// Float32 implements Tensors.
func (f *File) Float32(dst []float32, name string) (out []float32, err error) {
	info, b, err := f.find(name)
	if err != nil {
		return dst, err
	}
	defer f.guard(name, &err)()
	n := info.Elements()
	at := len(dst)
	dst = slices.Grow(dst, n)[:at+n]
	if err := f.convert(dst[at:], b, info, 0); err != nil {
		return dst[:at], err
	}
	return dst, nil
}

// half widens an IEEE 754 binary16 value.
func half(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exponent, fraction := uint32(h>>10)&0x1f, uint32(h&0x3ff)
	switch exponent {
	case 0: // subnormal: fraction * 2^-24, exact in float32
		v := math.Float32bits(float32(fraction) * 0x1p-24)
		return math.Float32frombits(sign | v)
	case 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}

// Float64 appends a floating-point tensor's values to dst, each exactly.
func (f *File) Float64(dst []float64, name string) (out []float64, err error) {
	info, b, err := f.find(name)
	if err != nil {
		return dst, err
	}
	if info.DType != F64 {
		narrow, err := f.Float32(nil, name)
		for _, v := range narrow {
			dst = append(dst, float64(v))
		}
		return dst, err
	}
	defer f.guard(name, &err)()
	dst = slices.Grow(dst, info.Elements())
	for ; len(b) >= 8; b = b[8:] {
		dst = append(dst, math.Float64frombits(binary.LittleEndian.Uint64(b)))
	}
	return dst, nil
}

// Int64 appends an integer or boolean tensor's values to dst. A U64 value beyond int64 is an error.
func (f *File) Int64(dst []int64, name string) (out []int64, err error) {
	info, b, err := f.find(name)
	if err != nil {
		return dst, err
	}
	defer f.guard(name, &err)()
	dst = slices.Grow(dst, info.Elements())
	size := info.DType.Size()
	for ; len(b) >= size; b = b[size:] {
		var v int64
		switch info.DType {
		case Bool, U8:
			v = int64(b[0])
		case I8:
			v = int64(int8(b[0]))
		case U16:
			v = int64(binary.LittleEndian.Uint16(b))
		case I16:
			v = int64(int16(binary.LittleEndian.Uint16(b)))
		case U32:
			v = int64(binary.LittleEndian.Uint32(b))
		case I32:
			v = int64(int32(binary.LittleEndian.Uint32(b)))
		case I64:
			v = int64(binary.LittleEndian.Uint64(b))
		case U64:
			if v = int64(binary.LittleEndian.Uint64(b)); v < 0 {
				return dst, fmt.Errorf("safetensors %s: tensor %q has the value %d, beyond int64", f.name, name, uint64(v))
			}
		default:
			return dst, fmt.Errorf("safetensors %s: tensor %q is %s, not an integer type", f.name, name, info.DType)
		}
		dst = append(dst, v)
	}
	return dst, nil
}

// guard turns a page fault of the memory map (the file was cut while open, or its disk failed) into an error;
// without it the whole process would die of SIGBUS.
func (f *File) guard(name string, err *error) func() {
	return onFault(func(at uintptr) {
		*err = fmt.Errorf("safetensors %s: tensor %q: page fault at %#x: the file changed or its disk failed", f.name, name, at)
	})
}

// onFault lets this goroutine survive page faults until the function that it returns is deferred, which reports one.
func onFault(report func(at uintptr)) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		r := recover()
		if r == nil {
			return
		}
		fault, ok := r.(interface{ Addr() uintptr })
		if !ok {
			panic(r)
		}
		report(fault.Addr())
	}
}
