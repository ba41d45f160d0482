package fixed

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"testing"
)

func TestPackIsExact(t *testing.T) {
	r := random(t)
	for range 500 {
		values := make([]int64, r.IntN(700))
		width := r.IntN(65)
		for i := range values {
			if width > 0 {
				values[i] = int64(r.Uint64()) >> (64 - width)
			}
			if r.IntN(50) == 0 {
				width = r.IntN(65)
			}
		}
		code := Pack([]byte("x"), values)
		if most := 1 + len(values)*8 + (len(values)+packed-1)/packed; len(code) > most {
			t.Fatalf("Pack of %d values = %d bytes, want at most %d", len(values), len(code), most)
		}
		got := make([]int64, len(values))
		rest, err := Unpack(got, append(code[1:], "rest"...))
		if err != nil || string(rest) != "rest" || !slices.Equal(got, values) {
			t.Fatalf("Unpack(Pack(%d values)) = %q, %v, or other values", len(values), rest, err)
		}
		sum := slices.Clone(values)
		if _, err := UnpackAdd(sum, code[1:]); err != nil {
			t.Fatalf("UnpackAdd of %d values: %v", len(values), err)
		}
		for i, v := range values {
			if sum[i] != 2*v {
				t.Fatalf("UnpackAdd of %d to %d at %d = %d, want %d", v, v, i, sum[i], 2*v)
			}
		}
		if len(code) > 1 {
			if _, err := Unpack(got, code[1:len(code)-1]); err == nil {
				t.Fatal("Unpack of input cut short = nil, want an error")
			}
		}
	}
}

// Gradients as they are: normal values, fixed by the maximum of the step before, which had the same distribution.
func TestPackedGradientsTakeFiveBytes(t *testing.T) {
	r := random(t)
	o := NewOffsets(1 << 18)
	for _, shards := range []int{1, 8, 64, 512} {
		g, maxima := gradients(r, o, 1, 0)
		s := NewSum(Exponents(maxima, 1, shards), o.Size())
		for range min(shards, 8) {
			s.Quantise(g[0], o, 1)
		}
		size := float64(len(Pack(nil, s.Values))) / float64(o.Size())
		t.Logf("%d shards: %.2f bytes a value", shards, size)
		if size > 5 {
			t.Errorf("%d shards: Pack = %.2f bytes a value, want at most 5", shards, size)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(5, Pack(nil, []int64{1, -1, 0, math.MaxInt64, math.MinInt64}))
	f.Add(200, Pack(nil, make([]int64, 200)))
	f.Add(1, []byte{16, 0})
	f.Fuzz(func(t *testing.T, n int, code []byte) {
		values := make([]int64, min(max(n, 0), 4096))
		rest, err := Unpack(values, code)
		if err != nil {
			return
		}
		added := make([]int64, len(values))
		if _, err := UnpackAdd(added, code); err != nil || !slices.Equal(added, values) {
			t.Errorf("UnpackAdd(%x) to nothing = %v, %v, Unpack gave %v", code, added, err, values)
		}
		if again := Pack(nil, values); !bytes.Equal(again, code[:len(code)-len(rest)]) {
			t.Errorf("Pack(Unpack(%x)) = %x: two codes for the same values", code, again)
		}
	})
}

func FuzzPack(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, raw []byte) {
		values := make([]int64, len(raw)/8)
		for i := range values {
			values[i] = int64(binary.LittleEndian.Uint64(raw[i*8:]))
		}
		got := make([]int64, len(values))
		if rest, err := Unpack(got, Pack(nil, values)); err != nil || len(rest) != 0 || !slices.Equal(got, values) {
			t.Errorf("Unpack(Pack(%v)) = %v, %v", values, got, err)
		}
	})
}

func BenchmarkPack(b *testing.B) {
	r := random(b)
	o := NewOffsets(1 << 20)
	g, maxima := gradients(r, o, 1, 0)
	s := NewSum(Exponents(maxima, 1, 64), o.Size())
	s.Quantise(g[0], o, 1)
	b.Run("quantise", func(b *testing.B) {
		b.SetBytes(4 << 20)
		for b.Loop() {
			s.Quantise(g[0], o, 1)
		}
	})
	code := Pack(nil, s.Values)
	b.Run("pack", func(b *testing.B) {
		b.SetBytes(8 << 20)
		for b.Loop() {
			code = Pack(code[:0], s.Values)
		}
	})
	b.Run("unpack", func(b *testing.B) {
		b.SetBytes(8 << 20)
		for b.Loop() {
			if _, err := Unpack(s.Values, code); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("add", func(b *testing.B) {
		b.SetBytes(8 << 20)
		b.ReportMetric(float64(len(code))/float64(len(s.Values)), "B/value")
		for b.Loop() {
			if _, err := UnpackAdd(s.Values, code); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("digest", func(b *testing.B) {
		b.SetBytes(8 << 20)
		for b.Loop() {
			s.Digest(nil)
		}
	})
}
