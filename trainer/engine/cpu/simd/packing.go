package simd

import "encoding/binary"

// The functions of this file are exact: equal bits on every level. len(v) is a multiple of eight.

// ZigzagBits returns the or of the zigzag forms (0, -1, 1, -2 ... as 0, 1, 2, 3 ...) of v: its bits are as many as the
// largest needs in two's complement.
func ZigzagBits(v []int64) uint64 {
	checkEights(len(v))
	return vecZigzagBits(v)
}

// PackHigh stores the lowest 32 bits of each of v in low, 4 bytes each, and the h bits above them, 1 to 7, in high: h bytes for
// eight values, lowest first. It writes up to 8-h bytes more to high.
func PackHigh(low, high []byte, v []int64, h int) {
	checkEights(len(v))
	n := len(v)
	if n > 0 {
		vecPackHigh(low[:4*n], high[:n/8*h+8-h], v, h)
	}
}

// UnpackHigh reads what PackHigh stored, with their signs, into dst, or adds it there, and returns what ZigzagBits would of
// the values read. It reads up to 8-h bytes more of high.
func UnpackHigh(dst []int64, low, high []byte, h int, add bool) uint64 {
	checkEights(len(dst))
	n := len(dst)
	if n == 0 {
		return 0
	}
	return vecUnpackHigh(dst, low[:4*n], high[:n/8*h+8-h], h, add)
}

func checkEights(n int) {
	if n%8 != 0 {
		panic("simd: packing takes multiples of eight values")
	}
}

// bytewise repeats a byte eight times.
const bytewise = 0x0101010101010101

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

func zigzagBitsGo(v []int64) uint64 {
	var a, b, c, d uint64
	for ; len(v) >= 4; v = v[4:] {
		a, b, c, d = a|zigzag(v[0]), b|zigzag(v[1]), c|zigzag(v[2]), d|zigzag(v[3])
	}
	return a | b | c | d
}

func packHighGo(low, high []byte, values []int64, h int) {
	mask := uint64(1)<<h - 1
	one, two, four := uint(h)&63, uint(2*h)&63, uint(4*h)&63
	for ; len(values) >= 8; values, low = values[8:], low[32:] {
		v, w := values[:8], low[:32]
		for i := 0; i < 8; i += 2 {
			binary.LittleEndian.PutUint64(w[4*i:], uint64(uint32(v[i]))|uint64(v[i+1])<<32)
		}
		a := uint64(v[0])>>32&mask | uint64(v[1])>>32&mask<<one
		b := uint64(v[2])>>32&mask | uint64(v[3])>>32&mask<<one
		c := uint64(v[4])>>32&mask | uint64(v[5])>>32&mask<<one
		d := uint64(v[6])>>32&mask | uint64(v[7])>>32&mask<<one
		binary.LittleEndian.PutUint64(high, a|b<<two|(c|d<<two)<<four)
		high = high[h:]
	}
}

func unpackHighGo(dst []int64, low, high []byte, h int, add bool) (all uint64) {
	up := uint(64-h) & 63   // the high bits of a value at the top of a word
	down := uint(32-h) & 63 // and then, by its sign, above the low ones
	one := uint(h) & 63
	keep := int64(0)
	if add {
		keep = -1
	}
	for ; len(dst) >= 8; dst, low = dst[8:], low[32:] {
		word := binary.LittleEndian.Uint64(high)
		l, v := low[:32], dst[:8]
		for i := 0; i < 8; i += 2 {
			pair := binary.LittleEndian.Uint64(l[4*i:])
			x := int64(word<<up)>>down&^0xffffffff | int64(uint32(pair))
			word >>= one
			y := int64(word<<up)>>down&^0xffffffff | int64(pair>>32)
			word >>= one
			all |= zigzag(x) | zigzag(y)
			v[i], v[i+1] = v[i]&keep+x, v[i+1]&keep+y
		}
		high = high[h:]
	}
	return all
}
