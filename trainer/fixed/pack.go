package fixed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/simd"
)

// packed is the number of values that share one form on the wire.
const packed = 128

// A form is how the values of a group are written: count low bytes of each, one value after another, then the high bits
// above them, high of each value, lowest first, eight values together. high > 0 only above 4 bytes.
type form struct{ count, high int }

// forms by their code, the first byte of a group. All values of a group come back by their signs.
var forms = [...]form{
	{0, 0}, {1, 0}, {2, 0}, {3, 0}, {4, 0}, {4, 1}, {4, 2}, {4, 3}, {4, 4}, {4, 5}, {4, 6}, {4, 7}, {5, 0}, {6, 0}, {7, 0}, {8, 0},
}

// codes gives the smallest form for values of so many bits.
var codes = func() (codes [65]byte) {
	c := byte(0)
	for w := range codes {
		for 8*forms[c].count+forms[c].high < w {
			c++
		}
		codes[w] = c
	}
	return codes
}()

// size returns the bytes of n values.
func (f form) size(n int) int { return n*f.count + (n+7)/8*f.high }

// Pack appends a range of values to dst, exactly. The values are cut into groups of 128, the last one shorter; a group
// is the code of its form, the smallest that holds them all, then the values. So a group of zeros (rows of an embedding
// that did not occur) is one byte, gradients, of 32 to 38 bits, take no more than those, and no group grows by more
// than its code. Whole bytes and bits side by side, since packing has to keep up with a network that is as fast as memory.
func Pack(dst []byte, values []int64) []byte {
	for len(values) > 0 {
		n := min(packed, len(values))
		dst = packGroup(dst, values[:n])
		values = values[n:]
	}
	return dst
}

// zigzag is 0, 1, 2, 3 ... for 0, -1, 1, -2 ...: its bits are as many as v needs in two's complement.
func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

func packGroup(dst []byte, values []int64) []byte {
	eights := len(values) &^ 7
	all := simd.ZigzagBits(values[:eights])
	for _, v := range values[eights:] {
		all |= zigzag(v)
	}
	code := codes[bits.Len64(all)]
	f := forms[code]
	dst = append(dst, code)
	at, size := len(dst), f.size(len(values))
	if cap(dst) >= at+size+8 { // 8 more, so that every store is of a whole word
		dst = dst[:at+size+8]
	} else {
		dst = append(dst, make([]byte, size+8)...)
	}
	out := dst[at:]
	switch {
	case f.high > 0:
		high := out[4*len(values):]
		simd.PackHigh(out, high, values[:eights], f.high)
		putHigh(out[4*eights:], high[eights/8*f.high:], values[eights:], f.high)
	case f.count == 4:
		putWords(out, values)
	case f.count > 0:
		putBytes(out, values, f.count)
	}
	return dst[:at+size]
}

func putWords(out []byte, values []int64) {
	for ; len(values) >= 4; values, out = values[4:], out[16:] {
		w := out[:16]
		binary.LittleEndian.PutUint64(w, uint64(uint32(values[0]))|uint64(values[1])<<32)
		binary.LittleEndian.PutUint64(w[8:], uint64(uint32(values[2]))|uint64(values[3])<<32)
	}
	for _, v := range values {
		binary.LittleEndian.PutUint32(out, uint32(v))
		out = out[4:]
	}
}

// putBytes stores k bytes of each value; each store overlaps what the one before wrote beyond.
func putBytes(out []byte, values []int64, k int) {
	p := 0
	for ; len(values) >= 4; values = values[4:] {
		w := out[p : p+3*k+8 : len(out)]
		binary.LittleEndian.PutUint64(w, uint64(values[0]))
		binary.LittleEndian.PutUint64(w[k:], uint64(values[1]))
		binary.LittleEndian.PutUint64(w[2*k:], uint64(values[2]))
		binary.LittleEndian.PutUint64(w[3*k:], uint64(values[3]))
		p += 4 * k
	}
	for _, v := range values {
		binary.LittleEndian.PutUint64(out[p:], uint64(v))
		p += k
	}
}

// putHigh stores fewer than eight values as simd.PackHigh would.
func putHigh(low, high []byte, values []int64, h int) {
	if len(values) == 0 {
		return
	}
	var word uint64
	for i, v := range values {
		binary.LittleEndian.PutUint32(low[4*i:], uint32(v))
		word |= (uint64(v) >> 32 & (1<<h - 1)) << (i * h)
	}
	binary.LittleEndian.PutUint64(high, word)
}

// errWidth marks a group whose values would fit a smaller form: two codes of the same values.
var errWidth = errors.New("group is wider than its values: not packed by us")

// Unpack reads exactly len(values) values and returns the rest of src. Input that is cut short, or that no Pack
// makes, is an error; values are of no use then.
func Unpack(values []int64, src []byte) (rest []byte, err error) { return unpack(values, src, false) }

// UnpackAdd is Unpack that adds what it reads to values. After an error some of it may be added.
func UnpackAdd(values []int64, src []byte) (rest []byte, err error) { return unpack(values, src, true) }

func unpack(values []int64, src []byte, add bool) (rest []byte, err error) {
	var buf [packed*8 + 8]byte
	for at := 0; at < len(values); at += packed {
		out := values[at:min(at+packed, len(values))]
		if len(src) == 0 {
			return nil, fmt.Errorf("unpack value %d of %d: input ends", at, len(values))
		}
		code := src[0]
		src = src[1:]
		if int(code) >= len(forms) {
			return nil, fmt.Errorf("unpack value %d of %d: form %d, want 0 to %d", at, len(values), code, len(forms)-1)
		}
		f := forms[code]
		size := f.size(len(out))
		if len(src) < size {
			return nil, fmt.Errorf("unpack value %d of %d: %d bytes left, want %d", at, len(values), len(src), size)
		}
		in := src
		if len(in) < size+8 { // 8 more, so that every load may be of a whole word
			in = buf[:size+8]
			copy(in, src[:size])
		}
		var all uint64
		switch {
		case f.high > 0:
			eights := len(out) &^ 7
			high := in[4*len(out):]
			all = simd.UnpackHigh(out[:eights], in, high, f.high, add)
			extra, err := getHigh(out[eights:], in[4*eights:], high[eights/8*f.high:], f.high, add)
			if err != nil {
				return nil, fmt.Errorf("unpack value %d of %d: %w", at, len(values), err)
			}
			all |= extra
		case f.count > 0:
			all = getBytes(out, in, f.count, add)
		case !add:
			clear(out)
		}
		if codes[bits.Len64(all)] != code {
			return nil, fmt.Errorf("unpack value %d of %d: %w", at, len(values), errWidth)
		}
		src = src[size:]
	}
	return src, nil
}

// getBytes reads values of k bytes, 1 to 8, from in, which has 8 bytes beyond them, into values, or adds them there, and
// returns what their zigzag forms have for bits.
func getBytes(values []int64, in []byte, k int, add bool) (all uint64) {
	shift, keep, p := uint(64-8*k)&63, int64(0), 0
	if add {
		keep = -1
	}
	for ; len(values) >= 4; values = values[4:] {
		w := in[p : p+3*k+8 : len(in)]
		a := int64(binary.LittleEndian.Uint64(w)<<shift) >> shift
		b := int64(binary.LittleEndian.Uint64(w[k:])<<shift) >> shift
		c := int64(binary.LittleEndian.Uint64(w[2*k:])<<shift) >> shift
		d := int64(binary.LittleEndian.Uint64(w[3*k:])<<shift) >> shift
		values[0], values[1] = values[0]&keep+a, values[1]&keep+b
		values[2], values[3] = values[2]&keep+c, values[3]&keep+d
		all |= zigzag(a) | zigzag(b) | zigzag(c) | zigzag(d)
		p += 4 * k
	}
	for i := range values {
		v := int64(binary.LittleEndian.Uint64(in[p:])<<shift) >> shift
		values[i] = values[i]&keep + v
		all |= zigzag(v)
		p += k
	}
	return all
}

// getHigh reads fewer than eight values as simd.UnpackHigh would.
func getHigh(values []int64, low, high []byte, h int, add bool) (all uint64, err error) {
	if len(values) == 0 {
		return 0, nil
	}
	word := binary.LittleEndian.Uint64(high) << (64 - 8*h) >> (64 - 8*h)
	for i := range values {
		v := int64(word<<(64-h))>>(32-h)&^0xffffffff | int64(binary.LittleEndian.Uint32(low[4*i:]))
		if word >>= h; add {
			values[i] += v
		} else {
			values[i] = v
		}
		all |= zigzag(v)
	}
	if word != 0 {
		return 0, errors.New("padding is not zero")
	}
	return all, nil
}
