//go:build !amd64

package gemm

import (
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
)

func stripRows(isa.Level) int { return 4 }

func (s *strip) run(isa.Level) { stripPortable(s) }

func transpose(_ isa.Level, dst unsafe.Pointer, ldd int, src unsafe.Pointer, lds, k, w int) {
	transposePortable(dst, ldd, src, lds, k, w)
}

func copyPanels(_ isa.Level, dst unsafe.Pointer, ldd, step int, src unsafe.Pointer, lds, k, n int) {
	copyPanelsPortable(dst, ldd, step, src, lds, k, n)
}

func widen(_ isa.Level, dst, src unsafe.Pointer, n int) { widenPortable(dst, src, n) }

func narrow(_ isa.Level, dst, src unsafe.Pointer, n int) { narrowPortable(dst, src, n) }

func copyStrips(_ isa.Level, _ unsafe.Pointer, _ int, _ unsafe.Pointer, _, _, _ int) bool {
	return false
}
