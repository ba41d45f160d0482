package cpu

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
)

var _ engine.Former = (*Device)(nil)

// Forms implements engine.Former, in an order that does not change.
func (*Device) Forms(t engine.Tensor) []engine.Form {
	m := t.Mem.(*memory)
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []engine.Form
	if p := m.bytes.Load(); p != nil {
		out = append(out, engine.Form{Name: "values", Bytes: unsafe.Slice(p, m.size)})
	}
	if m.halves != nil {
		out = append(out, engine.Form{Name: "halves", Bytes: unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(m.halves))), 2*len(m.halves))})
	}
	if m.bytes8 != nil {
		out = append(out, engine.Form{Name: "int8", Bytes: m.bytes8.Raw()})
	}
	keys := slices.SortedFunc(maps.Keys(m.packed), func(a, b [3]int64) int {
		return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]), cmp.Compare(a[2], b[2]))
	})
	for _, k := range keys {
		out = append(out, engine.Form{Name: fmt.Sprint("packed ", k), Bytes: m.packed[k].Raw()})
	}
	return out
}
