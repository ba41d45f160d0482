package simd

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The active level packs and reads as Go does, for every width.
func TestPackingIsExact(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		h := 1 + r.IntN(7)
		v := make([]int64, 8*r.IntN(20))
		for i := range v {
			v[i] = int64(r.Uint64()) >> (32 - h) // 32 + h bits
		}
		n := len(v)
		if got, want := ZigzagBits(v), zigzagBitsGo(v); got != want {
			t.Fatalf("ZigzagBits of %d values = %x, want %x", n, got, want)
		}
		low, high := make([]byte, 4*n), make([]byte, n/8*h+8)
		low2, high2 := make([]byte, 4*n), make([]byte, n/8*h+8)
		PackHigh(low, high, v, h)
		packHighGo(low2, high2, v, h)
		if !bytes.Equal(low, low2) || !bytes.Equal(high[:n/8*h], high2[:n/8*h]) {
			t.Fatalf("PackHigh of %d values, h %d, differs from Go", n, h)
		}
		for _, add := range []bool{false, true} {
			a, b, want := make([]int64, n), make([]int64, n), make([]int64, n)
			for i := range a {
				a[i] = r.Int64()
				b[i], want[i] = a[i], v[i]
				if add {
					want[i] += a[i]
				}
			}
			x, y := UnpackHigh(a, low, high, h, add), unpackHighGo(b, low, high, h, add)
			if !slices.Equal(a, want) || !slices.Equal(b, want) || x != y || x != zigzagBitsGo(v) {
				t.Fatalf("UnpackHigh of %d values, h %d, add %v differs: or %x, in Go %x", n, h, add, x, y)
			}
		}
	}
}
