package gemm

import (
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
)

//go:generate go run ../../../../scripts/genasm -dir .

//go:noescape
func strip512(s *strip)

//go:noescape
func strip256(s *strip)

//go:noescape
func transpose512(dst unsafe.Pointer, ldd int, src unsafe.Pointer, lds, k, w int)

//go:noescape
func copy512(dst unsafe.Pointer, ldd, step int, src unsafe.Pointer, lds, k, n int)

//go:noescape
func transpose256(dst unsafe.Pointer, ldd int, src unsafe.Pointer, lds, k, w int)

//go:noescape
func copy256(dst unsafe.Pointer, ldd, step int, src unsafe.Pointer, lds, k, n int)

//go:noescape
func widen512(dst, src unsafe.Pointer, n int)

//go:noescape
func narrow512(dst, src unsafe.Pointer, n int)

//go:noescape
func widen256(dst, src unsafe.Pointer, n int)

//go:noescape
func narrow256(dst, src unsafe.Pointer, n int)

//go:noescape
func strips512(dst unsafe.Pointer, step int, src unsafe.Pointer, lds, k, n, before, last int)

func probe512(n int)

func probe256(n int)

// stripRows is the height of the tallest strip.
func stripRows(level isa.Level) int {
	switch level {
	case isa.AVX512:
		return 12
	case isa.AVX2:
		return 6
	default:
		return 4
	}
}

func (s *strip) run(level isa.Level) {
	switch level {
	case isa.AVX512:
		strip512(s)
	case isa.AVX2:
		strip256(s)
	default:
		stripPortable(s)
	}
}

// transpose writes dst[p*ldd+i] = src[i*lds+p] for i < w <= 32, p < k. It may write more columns of dst, up to a multiple
// of 16, in ascending order of p.
func transpose(level isa.Level, dst unsafe.Pointer, ldd int, src unsafe.Pointer, lds, k, w int) {
	switch level {
	case isa.AVX512:
		transpose512(dst, ldd*4, src, lds*4, k, min(w, 16))
		if w > 16 {
			transpose512(unsafe.Add(dst, 64), ldd*4, unsafe.Add(src, 16*lds*4), lds*4, k, w-16)
		}
	case isa.AVX2:
		whole := k &^ 7
		for i := 0; i < w && whole > 0; i += 8 {
			transpose256(unsafe.Add(dst, i*4), ldd*4, unsafe.Add(src, i*lds*4), lds*4, whole, min(w-i, 8))
		}
		if whole < k {
			transposePortable(unsafe.Add(dst, whole*ldd*4), ldd, unsafe.Add(src, whole*4), lds, k-whole, w)
		}
	default:
		transposePortable(dst, ldd, src, lds, k, w)
	}
}

// copyPanels writes (dst + j/panel*step)[p*ldd+j%panel] = src[p*lds+j] for j < n, p < k, and may write as much more of
// the last panel as transpose.
func copyPanels(level isa.Level, dst unsafe.Pointer, ldd, step int, src unsafe.Pointer, lds, k, n int) {
	switch level {
	case isa.AVX512:
		copy512(dst, ldd*4, step*4, src, lds*4, k, n)
	case isa.AVX2:
		copy256(dst, ldd*4, step*4, src, lds*4, k, n)
	default:
		copyPanelsPortable(dst, ldd, step, src, lds, k, n)
	}
}

// copyStrips writes (dst + j/rowsMax*step)[p*rowsMax+j%rowsMax] = src[p*lds+j] for j < n, p < k, and up to 4 floats beyond
// each strip. It reports false if the level has no such kernel.
func copyStrips(level isa.Level, dst unsafe.Pointer, step int, src unsafe.Pointer, lds, k, n int) bool {
	if level != isa.AVX512 {
		return false
	}
	strips := (n + rowsMax - 1) / rowsMax
	last := n - (strips-1)*rowsMax
	strips512(dst, step*4, src, lds*4, k, strips, 1<<min(16, rowsMax+last)-1, 1<<last-1)
	return true
}

// widen writes the n float32 of as many bfloat16, narrow the bfloat16 of float32 whose lower halves are 0.
func widen(level isa.Level, dst, src unsafe.Pointer, n int) {
	whole := n &^ 31
	switch {
	case whole == 0:
	case level == isa.AVX512:
		widen512(dst, src, whole)
	case level == isa.AVX2:
		widen256(dst, src, whole)
	default:
		whole = 0
	}
	if whole < n {
		widenPortable(unsafe.Add(dst, 4*whole), unsafe.Add(src, 2*whole), n-whole)
	}
}

func narrow(level isa.Level, dst, src unsafe.Pointer, n int) {
	whole := n &^ 31
	switch {
	case whole == 0:
	case level == isa.AVX512:
		narrow512(dst, src, whole)
	case level == isa.AVX2:
		narrow256(dst, src, whole)
	default:
		whole = 0
	}
	if whole < n {
		narrowPortable(unsafe.Add(dst, 2*whole), unsafe.Add(src, 4*whole), n-whole)
	}
}
