package gemm

import (
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
)

//go:noescape
func int8Strip512(s *int8Strip)

//go:noescape
func int8Tile256(x unsafe.Pointer, rs int, w unsafe.Pointer, groups int, out *[32]float32)

//go:noescape
func quantize512(dst, src unsafe.Pointer, groups int)

//go:noescape
func quantize256(dst, src unsafe.Pointer, groups int)

func (s *int8Strip) run(level isa.Level) {
	switch {
	case level == isa.AVX512 && isa.VNNI():
		int8Strip512(s)
	case level >= isa.AVX2:
		s.tiled(int8Tile256)
	default:
		s.tiled(int8TilePortable)
	}
}

// quantizeGroups writes groups of 32 values of src as blocks.
func quantizeGroups(level isa.Level, dst, src unsafe.Pointer, groups int) {
	switch level {
	case isa.AVX512:
		quantize512(dst, src, groups)
	case isa.AVX2:
		quantize256(dst, src, groups)
	default:
		quantizePortable(dst, src, groups)
	}
}
