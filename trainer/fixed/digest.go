package fixed

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/bits"
	"sync"
	"unsafe"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/simd"
)

// Leaf hashes the values of one block of a tree hash: four lanes of 64 bits, XXH64's rounds (Collet). It is made to
// notice faults at the speed of memory, SHA-256 being a tenth of a full fine-tuning step; it does not withstand
// somebody who chooses the values. Every round is a bijection of its lane and of its input, so one changed word
// always shows.
type Leaf [4]uint64

const (
	prime1 = 0x9E3779B185EBCA87
	prime2 = 0xC2B2AE3D27D4EB4F
)

// Write adds values. The number of values added before does not matter to the next, but the split does: a part is
// padded to 32 bytes.
func (l *Leaf) Write(b []byte) {
	v0, v1, v2, v3 := l[0], l[1], l[2], l[3]
	for ; len(b) >= 32; b = b[32:] {
		v0 = bits.RotateLeft64(v0+binary.LittleEndian.Uint64(b)*prime2, 31) * prime1
		v1 = bits.RotateLeft64(v1+binary.LittleEndian.Uint64(b[8:])*prime2, 31) * prime1
		v2 = bits.RotateLeft64(v2+binary.LittleEndian.Uint64(b[16:])*prime2, 31) * prime1
		v3 = bits.RotateLeft64(v3+binary.LittleEndian.Uint64(b[24:])*prime2, 31) * prime1
	}
	*l = Leaf{v0, v1, v2, v3}
	if len(b) > 0 {
		var last [32]byte
		copy(last[:], b)
		l.Write(last[:])
	}
}

// Root returns the SHA-256 of the leaves and of what goes before them.
func Root(leaves []Leaf, before ...uint64) string {
	h := sha256.New()
	var word [8]byte
	write := func(v uint64) {
		binary.LittleEndian.PutUint64(word[:], v)
		h.Write(word[:])
	}
	for _, v := range before {
		write(v)
	}
	for i := range leaves {
		for _, v := range leaves[i] {
			write(v)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Digest returns the tree hash of a sum: over its exponents, and through them the committed maxima and the attempt,
// and over every Block of its values. run executes body(0..n-1), in any order; nil runs them here.
func (s *Sum) Digest(run func(n int, body func(i int))) string {
	if run == nil {
		run = serial
	}
	leaves := make([]Leaf, (len(s.Values)+Block-1)/Block)
	run(len(leaves), func(i int) { leaves[i] = s.Leaf(i) })
	return s.Root(leaves)
}

// DigestOf returns the digest that the sum of g alone has, without making one: of the values as Quantise rounds them.
func DigestOf(g []float32, o Offsets, exponents []int32, run func(n int, body func(i int))) string {
	if run == nil {
		run = serial
	}
	leaves := make([]Leaf, (len(g)+Block-1)/Block)
	scratch := sync.Pool{New: func() any { return &[Block]int64{} }}
	run(len(leaves), func(i int) {
		lo, hi := i*Block, min((i+1)*Block, len(g))
		values := scratch.Get().(*[Block]int64)
		defer scratch.Put(values)
		clear(values[:hi-lo])
		o.Pieces(lo, hi, func(t, a, b int) {
			simd.Quantise(values[a-lo:b-lo], g[a:b], math.Ldexp(1, int(exponents[t])))
		})
		leaves[i].Write(Bytes(values[:hi-lo]))
	})
	return (&Sum{Exponents: exponents}).root(leaves, len(g))
}

// Leaf is the hash of block i of the values.
func (s *Sum) Leaf(i int) (l Leaf) {
	l.Write(Bytes(s.Values[i*Block : min((i+1)*Block, len(s.Values))]))
	return l
}

// Root is the digest of the leaves of all blocks.
func (s *Sum) Root(leaves []Leaf) string { return s.root(leaves, len(s.Values)) }

func (s *Sum) root(leaves []Leaf, size int) string {
	before := []uint64{uint64(len(s.Exponents)), uint64(size)}
	for _, e := range s.Exponents {
		before = append(before, uint64(e))
	}
	return Root(leaves, before...)
}

// Bytes views values as the bytes that they are in memory: little-endian on every platform this project builds for.
func Bytes[T int64 | float32](x []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), len(x)*int(unsafe.Sizeof(*new(T))))
}

func serial(n int, body func(i int)) {
	for i := range n {
		body(i)
	}
}
