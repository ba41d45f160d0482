package philox

import (
	"math/rand/v2"
	"testing"
)

// Known-answer vectors of Random123 (kat_vectors: philox4x32 10).
func TestKnownAnswers(t *testing.T) {
	tests := []struct {
		counter Counter
		key     Key
		want    [4]uint32
	}{
		{Counter{}, Key{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{
			Counter{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
			Key{0xffffffff, 0xffffffff},
			[4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
		},
		{
			Counter{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
			Key{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
		},
	}
	for _, test := range tests {
		if got := Block(test.key, test.counter); got != test.want {
			t.Errorf("Block(%x, %x) = %x, want %x", test.key, test.counter, got, test.want)
		}
	}
}

func TestFillEqualsBlock(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, n := range []int{0, 1, 3, 4, 15, 16, 31, 32, 63, 64, 65, 100, 255, 256, 1027} {
		k, c := Key{r.Uint32(), r.Uint32()}, Counter{r.Uint32(), r.Uint32(), r.Uint32(), r.Uint32()}
		if n == 100 {
			c[0] = 0xfffffffb // wraps
		}
		got := make([]uint32, n)
		Fill(got, k, c)
		for i := range got {
			want := Block(k, Counter{c[0] + uint32(i/4), c[1], c[2], c[3]})[i%4]
			if got[i] != want {
				t.Fatalf("Fill of %d at key %x counter %x: number %d = %x, want %x", n, k, c, i, got[i], want)
			}
		}
	}
}

// A million uniform numbers: mean and variance within five standard errors, every one in [0, 1).
func TestUniform(t *testing.T) {
	const n = 1 << 20
	words := make([]uint32, n)
	Fill(words, NewKey(42, 3), At(1, 2, 3, 0))
	var sum, square float64
	for _, w := range words {
		u := float64(Float(w))
		if u < 0 || u >= 1 {
			t.Fatalf("Float(%x) = %v, want [0, 1)", w, u)
		}
		sum += u
		square += (u - 0.5) * (u - 0.5)
	}
	if mean := sum / n; mean < 0.5-5*0.000282 || mean > 0.5+5*0.000282 {
		t.Errorf("mean = %v, want 0.5 within 0.0014", mean)
	}
	if v := square / n; v < 1./12-5*0.0000728 || v > 1./12+5*0.0000728 {
		t.Errorf("variance = %v, want 1/12 within 0.00036", v)
	}
	if u := Float64(0xffffffff, 0xffffffff); u >= 1 {
		t.Errorf("Float64 of all ones = %v, want < 1", u)
	}
}

func TestKeysDiffer(t *testing.T) {
	seen := map[Key]bool{}
	for seed := range uint64(50) {
		for site := range uint32(50) {
			seen[NewKey(seed, site)] = true
		}
	}
	if len(seen) != 2500 {
		t.Errorf("NewKey gave %d different keys of 2500", len(seen))
	}
}

func BenchmarkFill(b *testing.B) {
	dst := make([]uint32, 4096)
	b.SetBytes(int64(len(dst)) * 4)
	for b.Loop() {
		Fill(dst, Key{1, 2}, Counter{3, 4, 5, 6})
	}
}
