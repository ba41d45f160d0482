package simd

import (
	"slices"
	"sync"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// Gather sets dst[t, :] = table[ids[t], :], rows of d floats. Ids must lie within the table.
func Gather(p *pool.Pool, dst, table []float32, ids []int32, d int) {
	check("Gather dst", len(dst), len(ids)*d)
	forRows(p, len(ids), d, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			id := int(ids[t])
			copy(dst[t*d:(t+1)*d], table[id*d:(id+1)*d])
		}
	})
}

var orders = sync.Pool{New: func() any { return new([]uint64) }}

// ScatterAdd sets dTable[ids[t], :] += dy[t, :] for every t: the gradient of Gather. Each row of the table receives its
// tokens in ascending order, so the sum does not depend on threads. Rows without a token are not touched.
func ScatterAdd(p *pool.Pool, dTable, dy []float32, ids []int32, d int) {
	check("ScatterAdd dy", len(dy), len(ids)*d)
	borrowed := orders.Get().(*[]uint64)
	defer orders.Put(borrowed)
	order := (*borrowed)[:0]
	for t, id := range ids {
		order = append(order, uint64(uint32(id))<<32|uint64(t))
	}
	*borrowed = order
	slices.Sort(order)
	forRows(p, len(order), d, func(lo, hi int) {
		// A run of equal ids belongs to the block in which it begins.
		for lo > 0 && lo < hi && order[lo]>>32 == order[lo-1]>>32 {
			lo++
		}
		for k := lo; k < len(order) && (k < hi || k > lo && order[k]>>32 == order[k-1]>>32); k++ {
			id, t := int(order[k]>>32), int(uint32(order[k]))
			row := dTable[id*d : (id+1)*d]
			vecAdd(row, row, dy[t*d:(t+1)*d])
		}
	})
}
