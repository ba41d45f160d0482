package metric

import "math/bits"

// Twister is the Mersenne Twister MT19937 (Matsumoto and Nishimura, ACM TOMACS 8(1), 1998), the generator behind
// numpy.random.RandomState and Python's random.Random, whose draws decide which rows mteb takes.
type Twister struct {
	state [624]uint32
	next  int
}

// newTwister seeds by init_genrand.
func newTwister(seed uint32) *Twister {
	t := &Twister{next: 624}
	t.state[0] = seed
	for i := 1; i < len(t.state); i++ {
		t.state[i] = 1812433253*(t.state[i-1]^t.state[i-1]>>30) + uint32(i)
	}
	return t
}

// newTwisterByArray seeds by init_by_array of one word.
func newTwisterByArray(key uint32) *Twister {
	t := newTwister(19650218)
	s := &t.state
	i := 1
	for range len(s) {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1664525) + key
		if i++; i == len(s) {
			s[0] = s[len(s)-1]
			i = 1
		}
	}
	for range len(s) - 1 {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1566083941) - uint32(i)
		if i++; i == len(s) {
			s[0] = s[len(s)-1]
			i = 1
		}
	}
	s[0] = 1 << 31
	return t
}

// Uint32 is the next word.
func (t *Twister) Uint32() uint32 {
	if t.next == len(t.state) {
		t.twist()
	}
	y := t.state[t.next]
	t.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

func (t *Twister) twist() {
	s := &t.state
	for i := range s {
		y := s[i]&(1<<31) | s[(i+1)%624]&(1<<31-1)
		s[i] = s[(i+397)%624] ^ y>>1 ^ y&1*0x9908b0df
	}
	t.next = 0
}

// Float64 is uniform in [0, 1): ((u >> 5) 2^26 + (v >> 6)) / 2^53 of two words u and v.
func (t *Twister) Float64() float64 {
	u, v := t.Uint32()>>5, t.Uint32()>>6
	return float64(uint64(u)<<26|uint64(v)) / (1 << 53)
}

// Numpy draws as numpy's legacy RandomState does.
type Numpy struct{ *Twister }

// NewNumpy is numpy.random.RandomState(seed).
func NewNumpy(seed uint32) Numpy { return Numpy{newTwister(seed)} }

// Below is uniform in [0, n): the low bits of words, as many as n - 1 has, until they are less than n.
func (r Numpy) Below(n int) int {
	if n <= 1 {
		return 0 // no word is drawn
	}
	mask := uint32(1)<<bits.Len32(uint32(n-1)) - 1
	for {
		if v := r.Uint32() & mask; v < uint32(n) {
			return int(v)
		}
	}
}

// Shuffle is RandomState.shuffle: for i = n-1 .. 1 swap i with a place up to i.
func (r Numpy) Shuffle(list []int) {
	for i := len(list) - 1; i > 0; i-- {
		j := r.Below(i + 1)
		list[i], list[j] = list[j], list[i]
	}
}

// Permutation is RandomState.permutation(n).
func (r Numpy) Permutation(n int) []int {
	list := sequence(n)
	r.Shuffle(list)
	return list
}

// sequence is 0 .. n-1.
func sequence(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// Python draws as Python's random.Random does.
type Python struct{ *Twister }

// NewPython is random.Random(seed).
func NewPython(seed uint32) Python { return Python{newTwisterByArray(seed)} }

// Below is uniform in [0, n): the top bits of words, as many as n has, until they are less than n.
func (r Python) Below(n int) int {
	shift := 32 - bits.Len32(uint32(n))
	for {
		if v := r.Uint32() >> shift; v < uint32(n) {
			return int(v)
		}
	}
}

// Sample is random.sample(range(n), k): k different numbers below n.
func (r Python) Sample(n, k int) []int {
	out := make([]int, k)
	small := 21
	if k > 5 {
		power := 1
		for power < 3*k {
			power *= 4
		}
		small += power
	}
	if n <= small {
		pool := sequence(n)
		for i := range out {
			j := r.Below(n - i)
			out[i], pool[j] = pool[j], pool[n-i-1]
		}
		return out
	}
	taken := make(map[int]bool, k)
	for i := range out {
		j := r.Below(n)
		for taken[j] {
			j = r.Below(n)
		}
		taken[j] = true
		out[i] = j
	}
	return out
}

// Choices is random.choices(range(n), k=k): k numbers below n, with repetition.
func (r Python) Choices(n, k int) []int {
	out := make([]int, k)
	for i := range out {
		out[i] = int(r.Float64() * float64(n))
	}
	return out
}
