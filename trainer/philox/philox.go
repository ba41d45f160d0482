// Package philox is the run's source of randomness: Philox4x32-10, a counter-based generator. A number is a pure
// function of (key, counter), so it does not depend on packing, tiling, phase, attempt or thread.
//
// Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 4.2.
package philox

import "math/bits"

// Constants of Philox4x32 (Random123, philox.h).
const (
	multiplier0 = 0xD2511F53
	multiplier1 = 0xCD9E8D57
	weyl0       = 0x9E3779B9 // golden ratio
	weyl1       = 0xBB67AE85 // sqrt(3) - 1
	rounds      = 10
)

// Key names one stream: a place in the model (site) of one run (seed). Make it with NewKey.
type Key [2]uint32

// Counter addresses four numbers of a stream.
type Counter [4]uint32

// NewKey returns the key of a site under a seed: two words of Philox keyed by the seed at the counter of the site,
// so that keys of one seed never repeat another seed's by addition.
func NewKey(seed uint64, site uint32) Key {
	w := Block(Key{uint32(seed), uint32(seed >> 32)}, Counter{site, 0, 0, 0x636f756e})
	return Key{w[0], w[1]}
}

// At is the counter of elements 4*block .. 4*block+3 of a token: step, the text's identity (row and role), the
// token's position within its text, and element/4.
func At(step, text, token, block uint32) Counter { return Counter{block, token, text, step} }

// Block returns the four numbers at a counter.
//
//	(c0, c1, c2, c3) <- (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)); k += weyl; ten times
func Block(k Key, c Counter) [4]uint32 {
	for r := 0; r < rounds; r++ {
		hi0, lo0 := mul(multiplier0, c[0])
		hi1, lo1 := mul(multiplier1, c[2])
		c = Counter{hi1 ^ c[1] ^ k[0], lo1, hi0 ^ c[3] ^ k[1], lo0}
		k[0] += weyl0
		k[1] += weyl1
	}
	return c
}

func mul(a, b uint32) (hi, lo uint32) { return bits.Mul32(a, b) }

// Fill writes the numbers of the blocks c, c+1, c+2, ... (c[0] counts, modulo 2^32) to dst; a last part of a block
// is cut. The CPU device has a vectorised form, equal bit for bit (simd.Random).
func Fill(dst []uint32, k Key, c Counter) {
	for ; len(dst) > 0; c[0]++ {
		w := Block(k, c)
		dst = dst[copy(dst, w[:]):]
	}
}

// Float returns the uniform number in [0, 1) of a word: its upper 24 bits, times 2^-24.
func Float(w uint32) float32 { return float32(w>>8) * (1.0 / (1 << 24)) }

// Float64 returns the uniform number in [0, 1) of two words: their upper 53 bits, times 2^-53.
func Float64(hi, lo uint32) float64 {
	return float64((uint64(hi)<<32|uint64(lo))>>11) * (1.0 / (1 << 53))
}
