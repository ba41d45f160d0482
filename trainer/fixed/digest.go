package fixed

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Digest returns the tree hash of a sum: SHA-256 over the exponents, then over the SHA-256 of every Block of values.
// It covers the exponents, and through them the committed maxima and the attempt. run executes body(0..n-1), in any
// order; nil runs them here.
func (s *Sum) Digest(run func(n int, body func(i int))) string {
	n := (len(s.Values) + Block - 1) / Block
	leaves := make([][sha256.Size]byte, n)
	leaf := func(i int) {
		values := s.Values[i*Block : min((i+1)*Block, len(s.Values))]
		h := sha256.New()
		var buf [4096]byte
		for len(values) > 0 {
			part := values[:min(len(values), len(buf)/8)]
			for j, v := range part {
				binary.LittleEndian.PutUint64(buf[j*8:], uint64(v))
			}
			h.Write(buf[:len(part)*8])
			values = values[len(part):]
		}
		h.Sum(leaves[i][:0])
	}
	if run == nil {
		run = serial
	}
	run(n, leaf)
	root := sha256.New()
	var word [4]byte
	for _, e := range s.Exponents {
		binary.LittleEndian.PutUint32(word[:], uint32(e))
		root.Write(word[:])
	}
	for i := range leaves {
		root.Write(leaves[i][:])
	}
	return hex.EncodeToString(root.Sum(nil))
}

func serial(n int, body func(i int)) {
	for i := range n {
		body(i)
	}
}
