//go:build !amd64

package gemm

import (
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
)

func (s *int8Strip) run(isa.Level) { s.tiled(int8TilePortable) }

func quantizeGroups(_ isa.Level, dst, src unsafe.Pointer, groups int) {
	quantizePortable(dst, src, groups)
}
