package fixed

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// packed is the number of values that share one bit width on the wire.
const packed = 128

// Pack appends a range of values to dst, exactly. The values are cut into groups of 128, the last one shorter; a
// group is one byte w, its width, then its values in zigzag form (0, -1, 1, -2 ... as 0, 1, 2, 3 ...) of w bits each,
// lowest bits first, and padding to a byte. w is the smallest that fits, 0 for a group of zeros (rows of an embedding
// that did not occur) and 64 for values as they are: no group grows by more than its byte.
func Pack(dst []byte, values []int64) []byte {
	for len(values) > 0 {
		n := min(packed, len(values))
		dst = packGroup(dst, values[:n])
		values = values[n:]
	}
	return dst
}

func packGroup(dst []byte, values []int64) []byte {
	var all uint64
	for _, v := range values {
		all |= uint64(v<<1) ^ uint64(v>>63)
	}
	w := uint(bits.Len64(all))
	dst = append(dst, byte(w))
	if w == 0 {
		return dst
	}
	at := len(dst)
	dst = append(dst, make([]byte, (len(values)*int(w)+7)/8+8)...) // 8 more, so that every store is of a whole word
	out := dst[at:]
	var word uint64 // pending bits
	var n uint      // how many, < 64
	p := 0
	for _, v := range values {
		z := uint64(v<<1) ^ uint64(v>>63)
		word |= z << n
		if n += w; n >= 64 {
			binary.LittleEndian.PutUint64(out[p:], word)
			p += 8
			n -= 64
			word = z >> (w - n) // the bits that did not fit; a shift by 64 gives 0
		}
	}
	binary.LittleEndian.PutUint64(out[p:], word)
	return dst[:len(dst)-8]
}

// Unpack reads exactly len(values) values and returns the rest of src. Input that is cut short, or that no Pack
// makes, is an error.
func Unpack(values []int64, src []byte) (rest []byte, err error) {
	var buf [packed*8 + 8]byte
	for at := 0; at < len(values); at += packed {
		group := values[at:min(at+packed, len(values))]
		if len(src) == 0 {
			return nil, fmt.Errorf("unpack value %d of %d: input ends", at, len(values))
		}
		w := uint(src[0])
		src = src[1:]
		if w > 64 {
			return nil, fmt.Errorf("unpack value %d of %d: width %d, want 0 to 64", at, len(values), w)
		}
		size := (len(group)*int(w) + 7) / 8
		if len(src) < size {
			return nil, fmt.Errorf("unpack value %d of %d: %d bytes left, want %d", at, len(values), len(src), size)
		}
		in := buf[:size+8] // 8 more, so that every load may be of a whole word
		if len(src) >= len(in) {
			in = src[:len(in)]
		} else {
			clear(in[copy(in, src):])
		}
		if err := unpackGroup(group, in, w, src[:size]); err != nil {
			return nil, fmt.Errorf("unpack value %d of %d: %w", at, len(values), err)
		}
		src = src[size:]
	}
	return src, nil
}

// unpackGroup reads len(values) values of w bits from in, which has 8 bytes beyond raw.
func unpackGroup(values []int64, in []byte, w uint, raw []byte) error {
	if w == 0 {
		clear(values)
		return nil
	}
	mask := ^uint64(0) >> (64 - w)
	var all uint64
	bit := uint(0)
	for i := range values {
		word := binary.LittleEndian.Uint64(in[bit>>3:])
		z := word >> (bit & 7)
		if k := bit & 7; k+w > 64 {
			z |= uint64(in[bit>>3+8]) << (64 - k)
		}
		z &= mask
		all |= z
		values[i] = int64(z>>1) ^ -int64(z&1)
		bit += w
	}
	if uint(bits.Len64(all)) != w {
		return fmt.Errorf("group of width %d has values of %d bits: not packed by us", w, bits.Len64(all))
	}
	if k := bit & 7; k != 0 && raw[len(raw)-1]>>k != 0 {
		return fmt.Errorf("padding is not zero")
	}
	return nil
}
