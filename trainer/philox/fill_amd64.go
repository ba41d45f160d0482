package philox

import (
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
)

// Written by scripts/gensimd; n is a positive multiple of 64 (32).

//go:noescape
func fillAVX512(dst *uint32, n int, key, counter *uint32)

//go:noescape
func fillAVX2(dst *uint32, n int, key, counter *uint32)

// fillVector writes a multiple of four numbers and returns how many; Fill writes the rest.
func fillVector(dst []uint32, k Key, c Counter) (n int) {
	switch isa.Active() {
	case isa.AVX512:
		if n = len(dst) &^ 63; n > 0 {
			fillAVX512(unsafe.SliceData(dst), n, &k[0], &c[0])
		}
	case isa.AVX2:
		if n = len(dst) &^ 31; n > 0 {
			fillAVX2(unsafe.SliceData(dst), n, &k[0], &c[0])
		}
	}
	return n
}
