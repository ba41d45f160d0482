package fixed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
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
	var a0, a1, a2, a3 uint64
	v := values
	for ; len(v) >= 4; v = v[4:] {
		a0, a1, a2, a3 = a0|zigzag(v[0]), a1|zigzag(v[1]), a2|zigzag(v[2]), a3|zigzag(v[3])
	}
	for _, x := range v {
		a0 |= zigzag(x)
	}
	code := codes[bits.Len64(a0|a1|a2|a3)]
	f := forms[code]
	dst = append(dst, code)
	at, size := len(dst), f.size(len(values))
	if cap(dst) >= at+size+8 { // 8 more, so that every store is of a whole word
		dst = dst[:at+size+8]
	} else {
		dst = append(dst, make([]byte, size+8)...)
	}
	out := dst[at:]
	if f.count == 4 {
		putWords(out, values)
	} else if f.count > 0 {
		putBytes(out, values, f.count)
	}
	if f.high > 0 {
		putHigh(out[4*len(values):], values, f.high)
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

// putHigh stores the h bits above the lowest 32, h = 1 to 7, of eight values at a time.
func putHigh(out []byte, values []int64, h int) {
	mask := uint64(1)<<h - 1
	one, two, four := uint(h)&63, uint(2*h)&63, uint(4*h)&63
	for ; len(values) >= 8; values, out = values[8:], out[h:] {
		v := values[:8]
		a := uint64(v[0])>>32&mask | uint64(v[1])>>32&mask<<one
		b := uint64(v[2])>>32&mask | uint64(v[3])>>32&mask<<one
		c := uint64(v[4])>>32&mask | uint64(v[5])>>32&mask<<one
		d := uint64(v[6])>>32&mask | uint64(v[7])>>32&mask<<one
		binary.LittleEndian.PutUint64(out, a|b<<two|(c|d<<two)<<four)
	}
	if len(values) > 0 {
		var word uint64
		for i, v := range values {
			word |= (uint64(v) >> 32 & mask) << (i * h)
		}
		binary.LittleEndian.PutUint64(out, word)
	}
}

// errWidth marks a group whose values would fit a smaller form: two codes of the same values.
var errWidth = errors.New("group is wider than its values: not packed by us")

// Unpack reads exactly len(values) values and returns the rest of src. Input that is cut short, or that no Pack
// makes, is an error; values are of no use then.
func Unpack(values []int64, src []byte) (rest []byte, err error) { return unpack(values, src, false) }

// UnpackAdd is Unpack that adds what it reads to values. After an error some of it may be added.
func UnpackAdd(values []int64, src []byte) (rest []byte, err error) { return unpack(values, src, true) }

func unpack(values []int64, src []byte, add bool) (rest []byte, err error) {
	var group [packed]int64
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
		to := out
		if add {
			to = group[:len(out)]
		}
		switch {
		case f.high > 0:
			getHigh(to, in, in[4*len(out):], f.high)
			if extra := len(out) % 8; extra != 0 && binary.LittleEndian.Uint64(in[size-f.high:])<<(64-8*f.high)>>(64-8*f.high)>>(extra*f.high) != 0 {
				return nil, fmt.Errorf("unpack value %d of %d: padding is not zero", at, len(values))
			}
		case f.count > 0:
			getBytes(to, in, f.count)
		case !add:
			clear(out)
		}
		if f.count > 0 {
			if all := settle(out, to, add); codes[bits.Len64(all)] != code {
				return nil, fmt.Errorf("unpack value %d of %d: %w", at, len(values), errWidth)
			}
		}
		src = src[size:]
	}
	return src, nil
}

// settle adds from to out, where it is to be added, and returns what the zigzag forms of from have for bits.
func settle(out, from []int64, add bool) uint64 {
	var a, b uint64
	from = from[:len(out)]
	if !add {
		i := 0
		for ; i+1 < len(from); i += 2 {
			a, b = a|zigzag(from[i]), b|zigzag(from[i+1])
		}
		for ; i < len(from); i++ {
			a |= zigzag(from[i])
		}
		return a | b
	}
	for i, v := range from {
		a |= zigzag(v)
		out[i] += v
	}
	return a
}

// getBytes reads values of k bytes, 1 to 8, from in, which has 8 bytes beyond them.
func getBytes(values []int64, in []byte, k int) {
	shift, p := uint(64-8*k)&63, 0
	for ; len(values) >= 4; values = values[4:] {
		w := in[p : p+3*k+8 : len(in)]
		values[0] = int64(binary.LittleEndian.Uint64(w)<<shift) >> shift
		values[1] = int64(binary.LittleEndian.Uint64(w[k:])<<shift) >> shift
		values[2] = int64(binary.LittleEndian.Uint64(w[2*k:])<<shift) >> shift
		values[3] = int64(binary.LittleEndian.Uint64(w[3*k:])<<shift) >> shift
		p += 4 * k
	}
	for i := range values {
		values[i] = int64(binary.LittleEndian.Uint64(in[p:])<<shift) >> shift
		p += k
	}
}

// getHigh reads values of 32 bits from low and h more, 1 to 7, from high.
func getHigh(values []int64, low, high []byte, h int) {
	up := uint(64-h) & 63   // the high bits of a value at the top of a word
	down := uint(32-h) & 63 // and then, by its sign, above the low ones
	one, two := uint(h)&63, uint(2*h)&63
	for ; len(values) >= 8; values, low, high = values[8:], low[32:], high[h:] {
		word := binary.LittleEndian.Uint64(high)
		l, v := low[:32], values[:8]
		for i := 0; i < 8; i += 2 {
			pair := binary.LittleEndian.Uint64(l[4*i:])
			v[i] = int64(word<<up)>>down&^0xffffffff | int64(uint32(pair))
			v[i+1] = int64(word>>one<<up)>>down&^0xffffffff | int64(pair>>32)
			word >>= two
		}
	}
	if len(values) > 0 {
		word := binary.LittleEndian.Uint64(high)
		for i := range values {
			values[i] = int64(word<<up)>>down&^0xffffffff | int64(binary.LittleEndian.Uint32(low[4*i:]))
			word >>= h
		}
	}
}
