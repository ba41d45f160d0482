package contrastive

import "github.com/counterpoint-ml/counterpoint/trainer/philox"

// Sites of the random numbers of masked diffusion; a backbone's dropout uses small numbers.
const (
	siteTime = 0xC0FFEE00 + iota // t of a text
	siteMask                     // whether a token is masked
)

// DefaultEpsilon is the smallest t of masked diffusion where a run does not say.
const DefaultEpsilon = 1e-3

// DefaultMaskRate is the chance of a token to be masked by MNTP where a run does not say.
const DefaultMaskRate = 0.2

// Prediction is what a language objective asks of one packed shard of T tokens: P terms, each a cross-entropy.
type Prediction struct {
	Inputs   []int32   // [T] token ids that the model reads
	Position []int32   // [P] the packed position whose state predicts, ascending
	Target   []int32   // [P] the token id to predict
	Weight   []float32 // [P] factor of the term, the global divisor included
}

// Text is a text of the shard as the objectives see it.
type Text struct {
	ID     uint32 // which of the batch's texts: the same in any packing
	Tokens []int32
}

// Diffusion asks for the masked tokens (LLaDA, MDLM; reference: arXiv 2502.09992, equation 3):
//
//	t ~ U(eps, 1) for each text; each token is replaced by mask with probability t
//	L = 1/divisor sum over masked i of 1/t CE(logits_i, token_i)
//
// With shift, token i is read from the state at i-1 of its text, and a masked first token is not predicted. What is
// masked is a function of (seed, step, text, token) alone.
func (c Config) Diffusion(texts []Text, mask int32, seed uint64, step int64, divisor float64) Prediction {
	eps := c.Epsilon
	if eps == 0 {
		eps = DefaultEpsilon
	}
	times, masks := philox.NewKey(seed, siteTime), philox.NewKey(seed, siteMask)
	uniform := func(k philox.Key, text, token int) float64 {
		w := philox.Block(k, philox.At(uint32(step), texts[text].ID, uint32(token), 0))
		return philox.Float64(w[0], w[1])
	}
	t := make([]float64, len(texts))
	for i := range t {
		t[i] = eps + (1-eps)*uniform(times, i, 0)
	}
	masked := func(text, token int) bool { return uniform(masks, text, token) < t[text] }
	return c.diffusion(texts, mask, divisor, t, masked)
}

// MaskedNext asks for the masked tokens by the states before them (MNTP; BehnamGhader et al. 2024, "LLM2Vec", arXiv
// 2404.05961):
//
//	each token but the first of a text is replaced by mask with probability MaskRate
//	L = 1/divisor sum over masked i of CE(logits_(i-1), token_i), divisor = the number of masked tokens in the batch
//
// What is masked is a function of (seed, step, text, token) alone; Terms counts it.
func (c Config) MaskedNext(texts []Text, mask int32, seed uint64, step int64, divisor float64) Prediction {
	masked := c.next(seed, step)
	ones := make([]float64, len(texts))
	for i := range ones {
		ones[i] = 1
	}
	c.Shift = true
	return c.diffusion(texts, mask, divisor, ones, func(text, token int) bool { return masked(texts[text].ID, token) })
}

// next returns what MaskedNext masks.
func (c Config) next(seed uint64, step int64) func(id uint32, token int) bool {
	rate := c.MaskRate
	if rate == 0 {
		rate = DefaultMaskRate
	}
	key := philox.NewKey(seed, siteMask)
	return func(id uint32, token int) bool {
		w := philox.Block(key, philox.At(uint32(step), id, uint32(token), 0))
		return token > 0 && philox.Float64(w[0], w[1]) < rate
	}
}

// Terms returns how many terms a language objective whose loss is their plain mean takes from a text of so many tokens, for
// the divisor of a global batch, which is known before any shard is computed. ok is false for masked diffusion, whose
// divisor is the number of tokens.
func (c Config) Terms(seed uint64, step int64, id uint32, tokens int) (terms int, ok bool) {
	switch c.Kind {
	case CausalLM:
		return tokens - 1, true
	case MNTP:
		masked := c.next(seed, step)
		for i := range tokens {
			if masked(id, i) {
				terms++
			}
		}
		return terms, true
	}
	return 0, false
}

// Predict returns what the language objective asks of a shard's texts. mask is the token that stands for a masked one.
func (c Config) Predict(texts []Text, mask int32, seed uint64, step int64, divisor float64) Prediction {
	switch c.Kind {
	case CausalLM:
		return Causal(texts, divisor)
	case MNTP:
		return c.MaskedNext(texts, mask, seed, step, divisor)
	}
	return c.Diffusion(texts, mask, seed, step, divisor)
}

// diffusion is Diffusion with t [texts] and the masked tokens given.
func (c Config) diffusion(texts []Text, mask int32, divisor float64, t []float64, masked func(text, token int) bool) Prediction {
	var p Prediction
	for k, text := range texts {
		start := int32(len(p.Inputs))
		p.Inputs = append(p.Inputs, text.Tokens...)
		for i, token := range text.Tokens {
			if !masked(k, i) {
				continue
			}
			at := start + int32(i)
			p.Inputs[at] = mask
			if c.Shift {
				at--
			}
			if at >= start {
				p.add(at, token, 1/(t[k]*divisor))
			}
		}
	}
	return p
}

// Causal asks for every token but the first of each text, from the state before it:
//
//	L = 1/divisor sum_i CE(logits_(i-1), token_i), divisor = the number of terms in the batch
func Causal(texts []Text, divisor float64) Prediction {
	var p Prediction
	for _, text := range texts {
		start := int32(len(p.Inputs))
		p.Inputs = append(p.Inputs, text.Tokens...)
		for i := 1; i < len(text.Tokens); i++ {
			p.add(start+int32(i)-1, text.Tokens[i], 1/divisor)
		}
	}
	return p
}

func (p *Prediction) add(position, target int32, weight float64) {
	p.Position = append(p.Position, position)
	p.Target = append(p.Target, target)
	p.Weight = append(p.Weight, float32(weight))
}
