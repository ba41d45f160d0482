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

// MNTP masks tokens but the first at its rate, each read from the state before it with one weight; Terms counts them
// beforehand; neither knows the packing.
func TestMaskedNext(t *testing.T) {
	r := random(t)
	var texts []Text
	tokens := 0.0
	for i := range 200 {
		x := Text{ID: uint32(7 * i)}
		for range 1 + r.IntN(60) {
			x.Tokens = append(x.Tokens, int32(r.IntN(500)))
		}
		tokens += float64(len(x.Tokens) - 1)
		texts = append(texts, x)
	}
	const mask, seed, step = 500, 42, 3
	for _, rate := range []float64{0, 0.2, 0.8, 1} {
		c := Config{Kind: MNTP, MaskRate: rate}
		p := c.Predict(texts, mask, seed, step, 10)
		if rate == 0 {
			rate = DefaultMaskRate
		}
		if n := float64(len(p.Target)); math.Abs(n-rate*tokens) > 5*math.Sqrt(tokens*rate*(1-rate)) {
			t.Errorf("rate %v: %v of %v tokens are masked", rate, n, tokens)
		}
		terms, start, at := 0, 0, 0
		for _, x := range texts {
			n, ok := c.Terms(seed, step, x.ID, len(x.Tokens))
			alone := c.Predict([]Text{x}, mask, seed, step, 10)
			if !ok || n != len(alone.Target) {
				t.Fatalf("Terms = %d, %v, want the %d of the text", n, ok, len(alone.Target))
			}
			terms += n
			if !slices.Equal(alone.Inputs, p.Inputs[start:start+len(x.Tokens)]) {
				t.Fatal("a text packed with others is masked otherwise than alone")
			}
			for i, token := range x.Tokens {
				if p.Inputs[start+i] == token {
					continue
				}
				if i == 0 || p.Position[at] != int32(start+i-1) || p.Target[at] != token || p.Weight[at] != 0.1 || p.Inputs[start+i] != mask {
					t.Fatalf("token %d: term at %d for %d of weight %v", i, p.Position[at], p.Target[at], p.Weight[at])
				}
				at++
			}
			start += len(x.Tokens)
		}
		if terms != len(p.Target) || at != terms {
			t.Errorf("rate %v: %d terms counted, %d seen, want %d", rate, terms, at, len(p.Target))
		}
	}
	all := Config{Kind: MNTP, MaskRate: 1}.Predict(texts, mask, seed, step, tokens)
	causal := Config{Kind: CausalLM}.Predict(texts, mask, seed, step, tokens)
	if !slices.Equal(all.Position, causal.Position) || !slices.Equal(all.Target, causal.Target) || !slices.Equal(all.Weight, causal.Weight) {
		t.Error("with all tokens masked the terms are not those of causal-lm")
	}
}
