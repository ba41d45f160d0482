package contrastive

import (
	"math"
	"slices"
	"testing"
)

// What is masked is the same in any packing, another at every step, and of the stated frequency.
func TestDiffusionDoesNotDependOnPacking(t *testing.T) {
	r := random(t)
	texts := make([]Text, 40)
	for i := range texts {
		texts[i].ID = uint32(1000 + i)
		for range 1 + r.IntN(60) {
			texts[i].Tokens = append(texts[i].Tokens, int32(r.IntN(500)))
		}
	}
	const mask = 500
	c := Config{Kind: MaskedDiffusion}
	alone := map[uint32]Prediction{}
	for _, x := range texts {
		alone[x.ID] = c.Diffusion([]Text{x}, mask, 42, 7, 100)
	}
	r.Shuffle(len(texts), func(i, j int) { texts[i], texts[j] = texts[j], texts[i] })
	all := c.Diffusion(texts, mask, 42, 7, 100)
	var want Prediction
	for _, x := range texts {
		start := int32(len(want.Inputs))
		p := alone[x.ID]
		want.Inputs, want.Target, want.Weight = append(want.Inputs, p.Inputs...), append(want.Target, p.Target...), append(want.Weight, p.Weight...)
		for _, at := range p.Position {
			want.Position = append(want.Position, start+at)
		}
	}
	if !slices.Equal(all.Inputs, want.Inputs) || !slices.Equal(all.Position, want.Position) || !slices.Equal(all.Weight, want.Weight) {
		t.Error("masks of texts packed together differ from those of each alone")
	}
	for _, other := range []Prediction{c.Diffusion(texts, mask, 42, 8, 100), c.Diffusion(texts, mask, 43, 7, 100)} {
		if slices.Equal(all.Inputs, other.Inputs) {
			t.Error("another step or seed has the same masks")
		}
	}
	for i, at := range all.Position {
		if all.Inputs[at] != mask || all.Weight[i] < 1.0/100 || float64(all.Weight[i]) > 1/(100*DefaultEpsilon) {
			t.Errorf("term %d: input %d, weight %v, want the mask and a weight of 1/(t divisor)", i, all.Inputs[at], all.Weight[i])
		}
	}
}

// E[sum over masked 1/t] is the number of tokens: the objective is unbiased.
func TestDiffusionWeightsAddUpToTokens(t *testing.T) {
	text := []Text{{Tokens: make([]int32, 400)}}
	sum, sumSquares, n := 0.0, 0.0, 0.0
	for step := range int64(400) {
		x := 0.0
		for _, w := range (Config{Epsilon: 0.05}).Diffusion(text, 1, 1, step, 400).Weight {
			x += float64(w)
		}
		sum, sumSquares, n = sum+x, sumSquares+x*x, n+1
	}
	mean := sum / n
	deviation := math.Sqrt((sumSquares/n - mean*mean) / n)
	if math.Abs(mean-1) > 5*deviation {
		t.Errorf("mean weight = %v +- %v, want 1", mean, deviation)
	}
}

func TestShiftDropsAMaskedFirstToken(t *testing.T) {
	texts := []Text{{Tokens: []int32{5, 6}}, {Tokens: []int32{7, 8, 9}}}
	all := func(int, int) bool { return true }
	p := Config{Shift: true}.diffusion(texts, 0, 1, []float64{1, 1}, all)
	if want := []int32{0, 2, 3}; !slices.Equal(p.Position, want) {
		t.Errorf("positions = %v, want %v", p.Position, want)
	}
	if want := []int32{6, 8, 9}; !slices.Equal(p.Target, want) {
		t.Errorf("targets = %v, want %v", p.Target, want)
	}
	c := Causal(texts, 3)
	if !slices.Equal(c.Position, p.Position) || !slices.Equal(c.Target, p.Target) || !slices.Equal(c.Inputs, []int32{5, 6, 7, 8, 9}) {
		t.Errorf("Causal = %+v, want the same terms over unmasked inputs", c)
	}
}
