package fixed

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// random returns a generator whose seed is printed when the test fails.
func random(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// gradients returns shards of values over many magnitudes, with zeros, and their largest per tensor.
func gradients(r *rand.Rand, o Offsets, shards int, spread float64) (g [][]float32, maxima []float32) {
	maxima = make([]float32, o.Tensors())
	for range shards {
		v := make([]float32, o.Size())
		for i := range v {
			if r.IntN(8) > 0 {
				v[i] = float32(r.NormFloat64() * math.Exp(spread*r.NormFloat64()))
			}
		}
		m := make([]float32, o.Tensors())
		Maxima(m, v, o, nil)
		MaxInto(maxima, m)
		g = append(g, v)
	}
	return g, maxima
}

func TestAnyGroupingGivesTheSameBits(t *testing.T) {
	r := random(t)
	o := NewOffsets(7, 0, 130, 1, 300)
	for range 30 {
		shards := 1 + r.IntN(20)
		g, maxima := gradients(r, o, shards, 4)
		e := Exponents(maxima, o.Tensors(), shards)
		want := NewSum(e, o.Size())
		for _, v := range g {
			want.Quantise(v, o, 1)
		}
		workers := make([]*Sum, 1+r.IntN(5))
		for w := range workers {
			workers[w] = NewSum(e, o.Size())
		}
		for _, s := range r.Perm(shards) {
			lost, kept := workers[r.IntN(len(workers))], workers[r.IntN(len(workers))]
			lost.Quantise(g[s], o, 1) // added by one worker, taken back, computed again by another
			lost.Quantise(g[s], o, -1)
			cut := r.IntN(o.Size() + 1)
			kept.QuantiseRange(g[s], o, 1, cut, o.Size())
			kept.QuantiseRange(g[s], o, 1, 0, cut)
		}
		got := NewSum(e, o.Size())
		for _, w := range r.Perm(len(workers)) {
			if err := got.Add(workers[w]); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(got.Values, want.Values) {
			t.Fatalf("sum of %d shards over %d workers differs from the sum in order", shards, len(workers))
		}
		if got.Digest(nil) != want.Digest(nil) {
			t.Fatal("equal sums have different digests")
		}
		if err := got.Sub(want); err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(got.Values, func(v int64) bool { return v != 0 }); i >= 0 {
			t.Fatalf("sum - sum at %d = %d, want 0", i, got.Values[i])
		}
	}
}

func TestQuantiseRoundsOnce(t *testing.T) {
	r := random(t)
	for range 100000 {
		e := int32(r.IntN(60) - 10)
		g := float32(r.NormFloat64() * math.Ldexp(1, r.IntN(40)-int(e)-r.IntN(10)))
		s := NewSum([]int32{e}, 1)
		s.Quantise([]float32{g}, NewOffsets(1), 1)
		if want := int64(math.RoundToEven(math.Ldexp(float64(g), int(e)))); s.Values[0] != want {
			t.Fatalf("Quantise(%v, e=%d) = %d, want %d", g, e, s.Values[0], want)
		}
		out := make([]float32, 1)
		s.Float(out, NewOffsets(1))
		if want := float32(math.Ldexp(float64(s.Values[0]), -int(e))); out[0] != want {
			t.Fatalf("Float(%d, e=%d) = %v, want %v", s.Values[0], e, out[0], want)
		}
	}
}

// A shard beyond its bound is always seen, values within it always fit, and the second attempt always succeeds.
func TestOverflowIsDetectedAndRetrySucceeds(t *testing.T) {
	r := random(t)
	o := NewOffsets(3, 40)
	retried := 0
	for range 2000 {
		shards := 1 + r.IntN(300)
		history := []float32{float32(math.Exp(20 * r.NormFloat64())), 0}
		if r.IntN(4) == 0 {
			history = nil
		}
		g, observed := gradients(r, o, min(shards, 3), 8)
		if r.IntN(3) == 0 { // the largest and smallest finite values
			g[0][0], g[0][1], g[0][5] = math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32
			Maxima(observed, g[0], o, nil)
		}
		e := Exponents(history, o.Tensors(), shards)
		if _, over := Exceeds(observed, e, shards); over {
			retried++
			e = Exponents(observed, o.Tensors(), shards)
			if i, over := Exceeds(observed, e, shards); over {
				t.Fatalf("second attempt of %d shards: tensor %d with maximum %v exceeds 2^(b-%d)", shards, i, observed[i], e[i])
			}
		}
		limit := int64(1) << shardBits(shards)
		for _, v := range g {
			m := make([]float32, o.Tensors())
			Maxima(m, v, o, nil)
			if _, over := Exceeds(m, e, shards); over {
				continue // detected
			}
			s := NewSum(e, o.Size())
			s.Quantise(v, o, 1)
			for i, q := range s.Values {
				if q > limit || q < -limit {
					t.Fatalf("value %v of %d shards is %d in fixed point, beyond %d, and was not detected", v[i], shards, q, limit)
				}
			}
		}
		if limit*int64(shards) > 1<<SumBits {
			t.Fatalf("%d shards of %d sum to more than 2^%d", shards, limit, SumBits)
		}
	}
	if retried == 0 {
		t.Fatal("no case overflowed")
	}
}

func TestExponents(t *testing.T) {
	for _, c := range []struct {
		name   string
		maxima []float32
		shards int
		want   int32
	}{
		{"no history, one shard: bound 1", nil, 1, 44},
		{"no history, 64 shards: bound 1", nil, 64, 38},
		{"65 shards need 7 bits", nil, 65, 37},
		{"maximum 0 is no history", []float32{0}, 1, 44},
		{"0.75 < 2^0", []float32{0.75}, 1, 38},
		{"1 < 2^1", []float32{1}, 64, 31},
		{"a half of the last place more than 1", []float32{1.0000001}, 1, 37},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Exponents(c.maxima, 1, c.shards)[0]; got != c.want {
				t.Errorf("Exponents(%v, %d shards) = %d, want %d", c.maxima, c.shards, got, c.want)
			}
		})
	}
}

func TestMaximaSeesEveryNonFiniteValue(t *testing.T) {
	o := NewOffsets(3, 2)
	for i := range 5 {
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(math.NaN(), -1)} {
			g := []float32{1, -4, 2, 0, -0.5}
			out := make([]float32, 2)
			if !Maxima(out, g, o, nil) || out[0] != 4 || out[1] != 0.5 {
				t.Fatalf("Maxima(%v) = %v, want [4 0.5] and finite", g, out)
			}
			g[i] = float32(bad)
			if Maxima(out, g, o, nil) {
				t.Errorf("Maxima(%v) = finite", g)
			}
		}
	}
}

func TestAddRefusesOtherExponents(t *testing.T) {
	a, b := NewSum([]int32{1, 2}, 3), NewSum([]int32{1, 3}, 3)
	if err := a.Add(b); err == nil {
		t.Error("Add of other exponents = nil, want an error")
	}
	if err := a.Add(NewSum([]int32{1, 2}, 4)); err == nil {
		t.Error("Add of another size = nil, want an error")
	}
	c, d := NewSum([]int32{1, 2}, 3), NewSum([]int32{1, 2}, 3)
	d.Values[2] = 1
	if c.Digest(nil) == d.Digest(nil) || c.Digest(nil) == b.Digest(nil) {
		t.Error("different sums have one digest")
	}
}

// Any changed bit of any value, any exponent, and any exchange of two values shows.
func TestDigestShowsEveryChange(t *testing.T) {
	r := random(t)
	s := NewSum([]int32{3, -4}, Block+77)
	for i := range s.Values {
		s.Values[i] = r.Int64()
	}
	want := s.Digest(nil)
	for range 60 {
		c := s.Clone()
		for range 1 + r.IntN(3) { // flips of one bit position in one lane must not cancel
			c.Values[r.IntN(len(c.Values)/4)*4] ^= math.MinInt64
		}
		if !slices.Equal(c.Values, s.Values) && c.Digest(nil) == want {
			t.Fatal("changed signs have the same digest")
		}
		i, j := r.IntN(len(s.Values)), r.IntN(len(s.Values))
		c = s.Clone()
		c.Values[i], c.Values[j] = c.Values[j], c.Values[i]
		if i != j && c.Digest(nil) == want {
			t.Fatalf("values %d and %d exchanged have the same digest", i, j)
		}
		c = s.Clone()
		c.Values[i] ^= int64(uint64(1) << r.IntN(64))
		if c.Digest(nil) == want {
			t.Fatalf("one changed bit of value %d has the same digest", i)
		}
	}
}

// Accumulate is Maxima and Quantise in one pass, whatever values a fresh sum had.
func TestAccumulateIsMaximaAndQuantise(t *testing.T) {
	r := random(t)
	o := NewOffsets(3, Block+17, 0, 900)
	g, maxima := gradients(r, o, 3, 0)
	want := NewSum(Exponents(maxima, o.Tensors(), 3), o.Size())
	got := want.Clone()
	for i := range got.Values {
		got.Values[i] = r.Int64()
	}
	for i, x := range g {
		want.Quantise(x, o, 1)
		a, b := make([]float32, o.Tensors()), make([]float32, o.Tensors())
		if i == 2 {
			x[Block] = float32(math.Inf(-1))
		}
		finite := got.Accumulate(a, x, o, i == 0, nil)
		if wanted := Maxima(b, x, o, nil); finite != wanted || !slices.Equal(a, b) {
			t.Errorf("Accumulate = %v %v, want %v %v", a, finite, b, wanted)
		}
		if i < 2 && !slices.Equal(got.Values, want.Values) {
			t.Errorf("Accumulate of %d gradients differs from Quantise", i+1)
		}
	}
}

// The digest of a gradient's rounded values needs no sum, and is that of the sum of it alone.
func TestDigestOf(t *testing.T) {
	r := random(t)
	o := NewOffsets(3, Block+17, 0, 900)
	g, maxima := gradients(r, o, 1, 2)
	e := Exponents(maxima, o.Tensors(), 4)
	s := NewSum(e, o.Size())
	s.Quantise(g[0], o, 1)
	want := s.Digest(nil)
	if got := DigestOf(g[0], o, e, nil); got != want {
		t.Fatalf("DigestOf = %s, want the sum's %s", got, want)
	}
	i := r.IntN(len(g[0]))
	for g[0][i] == 0 {
		i = r.IntN(len(g[0]))
	}
	g[0][i] = math.Float32frombits(math.Float32bits(g[0][i]) ^ 1<<31)
	if got := DigestOf(g[0], o, e, nil); got == want {
		t.Errorf("value %d has another sign, and the digest is the same", i)
	}
}

func BenchmarkDigestOf(b *testing.B) {
	r := random(b)
	o := NewOffsets(1 << 22)
	g, maxima := gradients(r, o, 1, 0)
	e := Exponents(maxima, 1, 64)
	b.SetBytes(4 << 22)
	for b.Loop() {
		DigestOf(g[0], o, e, nil)
	}
}
