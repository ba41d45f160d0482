package data

import "math/bits"

// mix folds the parts of a key into one 64-bit number (SplitMix64's finaliser over a running sum). It is the
// only source of randomness of the order of rows.
func mix(parts ...uint64) uint64 {
	h := uint64(0x9e3779b97f4a7c15)
	for _, p := range parts {
		h = finish(h + 0x9e3779b97f4a7c15 ^ finish(p+0x632be59bd9b4e019))
	}
	return h
}

func finish(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// sequence is SplitMix64: a stream of numbers from one key.
type sequence uint64

func (s *sequence) next() uint64 {
	*s += 0x9e3779b97f4a7c15
	return finish(uint64(*s))
}

// below returns a number in [0, n), each equally likely (Lemire, "Fast random integer generation in an
// interval", 2019: multiply, and draw again where the product's low half would favour some numbers).
func (s *sequence) below(n uint64) uint64 {
	hi, lo := bits.Mul64(s.next(), n)
	if lo < n {
		for threshold := -n % n; lo < threshold; {
			hi, lo = bits.Mul64(s.next(), n)
		}
	}
	return hi
}

// permute fills out with 0..len(out)-1 in an order given by the key (Fisher and Yates).
func permute[T uint16 | uint32](out []T, key uint64) {
	for i := range out {
		out[i] = T(i)
	}
	s := sequence(key)
	for i := len(out) - 1; i > 0; i-- {
		j := s.below(uint64(i) + 1)
		out[i], out[j] = out[j], out[i]
	}
}
