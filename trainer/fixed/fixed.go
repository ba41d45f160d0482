// Package fixed sums gradients without an order: each shard's values are rounded to fixed point before anything
// is added, and integer addition is associative, so any partition, order or retry gives the same bits.
// DESIGN.md has the argument for the widths.
package fixed

import (
	"fmt"
	"math"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/simd"
)

// Block is the number of values that a parallel loop, a norm or a digest handles as one: a fixed size, so that
// no result depends on the number of threads or owners.
const Block = 1 << 16

// Offsets says where each tensor lies in a flat vector: tensor i is values[o[i]:o[i+1]].
type Offsets []int

// NewOffsets returns the offsets of tensors of the given sizes, one after another.
func NewOffsets(sizes ...int) Offsets {
	o := make(Offsets, len(sizes)+1)
	for i, n := range sizes {
		o[i+1] = o[i] + n
	}
	return o
}

// Tensors returns the number of tensors.
func (o Offsets) Tensors() int { return len(o) - 1 }

// Size returns the length of the flat vector.
func (o Offsets) Size() int { return o[len(o)-1] }

// Pieces calls f for every part of [lo, hi) that lies in one tensor, in order.
func (o Offsets) Pieces(lo, hi int, f func(tensor, lo, hi int)) {
	for i := o.find(lo); lo < hi; i++ {
		end := min(hi, o[i+1])
		if lo < end {
			f(i, lo, end)
			lo = end
		}
	}
}

// find returns the first tensor that ends after position p.
func (o Offsets) find(p int) int {
	lo, hi := 0, len(o)-1
	for lo < hi {
		if mid := (lo + hi) / 2; o[mid+1] <= p {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// Sum is a sum of gradients in fixed point: value[i] = Values[i] * 2^-Exponents[tensor of i].
type Sum struct {
	Exponents []int32 // [tensors]
	Values    []int64 // [parameters], all tensors one after another, in tensor order
}

// NewSum returns a sum of nothing.
func NewSum(exponents []int32, size int) *Sum {
	return &Sum{Exponents: append([]int32(nil), exponents...), Values: make([]int64, size)}
}

// Clone returns a copy.
func (s *Sum) Clone() *Sum {
	return &Sum{Exponents: append([]int32(nil), s.Exponents...), Values: append([]int64(nil), s.Values...)}
}

// Reset makes s the sum of nothing under other exponents.
func (s *Sum) Reset(exponents []int32) {
	s.Scale(exponents)
	clear(s.Values)
}

// Scale sets other exponents and leaves the values as they are: of no use until Accumulate begins with fresh.
func (s *Sum) Scale(exponents []int32) { s.Exponents = append(s.Exponents[:0], exponents...) }

// Add adds o to s: exact, so in any order. The exponents must be equal.
func (s *Sum) Add(o *Sum) error { return s.combine(o, 1) }

// Sub takes o from s: exact, so it undoes Add.
func (s *Sum) Sub(o *Sum) error { return s.combine(o, -1) }

func (s *Sum) combine(o *Sum, sign int64) error {
	if len(s.Values) != len(o.Values) || len(s.Exponents) != len(o.Exponents) {
		return fmt.Errorf("add sums of %d tensors, %d values and of %d tensors, %d values: shapes differ",
			len(s.Exponents), len(s.Values), len(o.Exponents), len(o.Values))
	}
	for i, e := range o.Exponents {
		if e != s.Exponents[i] {
			return fmt.Errorf("add sums: tensor %d has exponents %d and %d, want the same attempt's", i, s.Exponents[i], e)
		}
	}
	for i, v := range o.Values {
		s.Values[i] += sign * v
	}
	return nil
}

// Quantise adds sign*q(g) to s, where q rounds g*2^e to the nearest integer, ties to even, and sign is 1 or -1.
// The product is exact in float64, so each value is rounded once. The caller has checked g with Exceeds: a value
// beyond its bound, or NaN, would spoil the sum.
func (s *Sum) Quantise(g []float32, o Offsets, sign int64) {
	s.QuantiseRange(g, o, sign, 0, len(g))
}

// QuantiseRange is Quantise of the values [lo, hi) only, for parallel callers.
func (s *Sum) QuantiseRange(g []float32, o Offsets, sign int64, lo, hi int) {
	o.Pieces(lo, hi, func(t, lo, hi int) {
		scale := math.Ldexp(float64(sign), int(s.Exponents[t])) // 2^e, within 2^-400 .. 2^400
		simd.Quantise(s.Values[lo:hi], g[lo:hi], scale)
	})
}

// Float writes the sum as float32 into out [P]: float32(value * 2^-e), rounded once (integers below 2^53 and powers
// of two are exact in float64).
func (s *Sum) Float(out []float32, o Offsets) { s.FloatSpan(out, o, 0) }

// FloatSpan writes the values [at, at+len(out)) as Float does.
func (s *Sum) FloatSpan(out []float32, o Offsets, at int) {
	o.Pieces(at, at+len(out), func(t, lo, hi int) {
		simd.Dequantise(out[lo-at:hi-at], s.Values[lo:hi], math.Ldexp(1, -int(s.Exponents[t])))
	})
}
