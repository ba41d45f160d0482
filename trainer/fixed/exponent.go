package fixed

import (
	"fmt"
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/simd"
)

const (
	// SumBits bounds a sum over all shards of a step: |value| <= 2^SumBits, so 45 bits with the sign.
	SumBits = 44

	// Headroom is how much larger than last step's maximum a value may be before the attempt is repeated: 2^Headroom.
	Headroom = 6

	// MaxShards bounds the shards of a step: 2^20 of them leave a shard's own values 24 bits, a float32's precision.
	MaxShards = 1 << 20
)

// shardBits returns log2 of the bound of one shard's values, so that shards of them stay within 2^SumBits.
func shardBits(shards int) int {
	if shards < 1 || shards > MaxShards {
		panic(fmt.Sprintf("fixed: a step of %d shards, want 1 to %d", shards, MaxShards))
	}
	return SumBits - bits.Len(uint(shards-1)) // bits.Len(n-1) = ceil(log2 n)
}

// Exponents returns e(step, attempt) of every tensor. maxima are the largest |g| that any shard of the step before
// had, as committed; from the second attempt of a step on, those observed in the attempt before. nil is no history.
//
//	m = max |g| < 2^k       (smallest such k)
//	e = SumBits - ceil(log2 shards) - Headroom - k
//
// so that a shard's values may grow by 2^Headroom. A tensor without history, or whose maximum was 0, gets the e
// whose bound is 1: large enough for most gradients, and exceeded at the cost of one repeated attempt.
// Because an attempt's own maxima are below 2^k, the attempt after them cannot overflow.
func Exponents(maxima []float32, tensors, shards int) []int32 {
	b := shardBits(shards)
	e := make([]int32, tensors)
	for i := range e {
		e[i] = int32(b)
		if i < len(maxima) && maxima[i] > 0 {
			_, k := math.Frexp(float64(maxima[i])) // m = f * 2^k, 0.5 <= f < 1
			e[i] = int32(b - Headroom - k)
		}
	}
	return e
}

// Bound returns the largest |g| that a shard may have in a tensor of exponent e: 2^(shardBits - e).
func Bound(e int32, shards int) float64 { return math.Ldexp(1, shardBits(shards)-int(e)) }

// Exceeds returns the first tensor whose maximum is beyond its bound. This test of every shard, never the sum,
// decides whether an attempt is repeated: whatever the shards add up to then fits.
func Exceeds(observed []float32, exponents []int32, shards int) (tensor int, exceeds bool) {
	for i, m := range observed {
		if float64(m) > Bound(exponents[i], shards) {
			return i, true
		}
	}
	return 0, false
}

// MaxInto raises into by every maximum of m: maxima combine by max, in any order.
func MaxInto(into, m []float32) {
	for i, v := range m {
		into[i] = max(into[i], v)
	}
}

// Maxima writes max |g| of every tensor and reports whether all values are finite. A maximum over a NaN or an
// infinity is meaningless: the caller stops the step. run executes body(0..n-1), in any order; nil runs them here.
func Maxima(out, g []float32, o Offsets, run func(n int, body func(i int))) (finite bool) {
	if run == nil {
		run = serial
	}
	t := make(tops, len(out))
	run((len(g)+Block-1)/Block, func(i int) {
		o.Pieces(i*Block, min((i+1)*Block, len(g)), func(tensor, lo, hi int) {
			m, _ := simd.MaxAbs(g[lo:hi])
			t.raise(tensor, m)
		})
	})
	return t.write(out)
}

// Accumulate adds g to s as Quantise does and writes what Maxima would, in one pass over g; with fresh, s is the sum of
// nothing whatever its values are. After false, or if the maxima turn out to exceed their bounds, the values are of
// no use.
func (s *Sum) Accumulate(out, g []float32, o Offsets, fresh bool, run func(n int, body func(i int))) (finite bool) {
	if run == nil {
		run = serial
	}
	t := make(tops, len(out))
	run((len(g)+Block-1)/Block, func(i int) {
		lo, hi := i*Block, min((i+1)*Block, len(g))
		if fresh {
			clear(s.Values[lo:hi])
		}
		o.Pieces(lo, hi, func(tensor, lo, hi int) {
			m, _ := simd.Quantise(s.Values[lo:hi], g[lo:hi], math.Ldexp(1, int(s.Exponents[tensor])))
			t.raise(tensor, m)
		})
	})
	return t.write(out)
}

// tops are maxima that several goroutines raise. Without a sign, bit patterns are ordered as the numbers are.
type tops []atomic.Uint32

func (t tops) raise(i int, m float32) {
	top := math.Float32bits(m)
	for old := t[i].Load(); top > old && !t[i].CompareAndSwap(old, top); old = t[i].Load() {
	}
}

func (t tops) write(out []float32) (finite bool) {
	finite = true
	for i := range out {
		out[i] = math.Float32frombits(t[i].Load())
		finite = finite && t[i].Load() < math.Float32bits(float32(math.Inf(1)))
	}
	return finite
}
