package simd

import (
	"math"
	"sort"
	"sync"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// Rotary rotates the halves of query and key heads by their token's position within its text.
//
//	(x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin), angle[i] = float32(position) * frequency[i]
//
// (Su et al.: "RoFormer", 2021, section 3.4.2, with halves in place of interleaved pairs.) The tables of cos and sin,
// float32 of the float32 angles, are built once for the longest text seen. Safe for several goroutines.
type Rotary struct {
	frequency []float32 // [hd/2]

	mu    sync.Mutex
	table []float32 // [length, 2, hd/2]: cos, then sin
}

// NewRotary takes the inverse frequencies [hd/2]; it keeps the slice.
func NewRotary(frequency []float32) *Rotary { return &Rotary{frequency: frequency} }

// tableOf returns the table for at least n positions.
func (r *Rotary) tableOf(n int) []float32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	half := len(r.frequency)
	if have := len(r.table) / max(1, 2*half); have < n {
		length := max(n, 2*have, 128)
		table := make([]float32, length*2*half)
		copy(table, r.table)
		for pos := have; pos < length; pos++ {
			for i, f := range r.frequency {
				angle := float64(float32(pos) * f)
				sin, cos := math.Sincos(angle)
				table[2*pos*half+i], table[(2*pos+1)*half+i] = float32(cos), float32(sin)
			}
		}
		r.table = table
	}
	return r.table
}

// Apply rotates the query and key heads of packed rows x [T, Width] and copies the values; dst may be x.
func (r *Rotary) Apply(p *pool.Pool, dst, x []float32, cu []int32, h Heads) {
	r.turn(p, dst, x, cu, h, 1)
}

// Backward rotates by the opposite angles: the gradient of Apply. dst may be dy.
func (r *Rotary) Backward(p *pool.Pool, dst, dy []float32, cu []int32, h Heads) {
	r.turn(p, dst, dy, cu, h, -1)
}

func (r *Rotary) turn(p *pool.Pool, dst, x []float32, cu []int32, h Heads, sign float32) {
	if len(cu) < 2 {
		return
	}
	width, half, turned := h.Width(), h.Dim/2, (h.Query+h.KV)*h.Dim
	tokens, longest := int(cu[len(cu)-1]), 0
	for b := range len(cu) - 1 {
		longest = max(longest, int(cu[b+1]-cu[b]))
	}
	check("Rotary x", len(x), tokens*width)
	check("Rotary dst", len(dst), tokens*width)
	table := r.tableOf(longest)
	same := tokens == 0 || &dst[0] == &x[0]
	forRows(p, tokens, width, func(lo, hi int) {
		b := textOf(cu, lo)
		for t := lo; t < hi; t++ {
			for t >= int(cu[b+1]) {
				b++
			}
			pos := t - int(cu[b])
			in, out := x[t*width:(t+1)*width], dst[t*width:(t+1)*width]
			vecRotate(out[:turned], in[:turned], table[2*pos*half:(2*pos+1)*half], table[(2*pos+1)*half:(2*pos+2)*half], sign)
			if !same {
				copy(out[turned:], in[turned:])
			}
		}
	})
}

// textOf returns the text that has token t.
func textOf(cu []int32, t int) int {
	return sort.Search(len(cu)-1, func(b int) bool { return int(cu[b+1]) > t })
}
