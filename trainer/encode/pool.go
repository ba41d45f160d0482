package encode

import (
	"math"

	"github.com/counterpoint-ml/counterpoint/checkpoints/hub"
	"github.com/counterpoint-ml/counterpoint/data"
)

// pooledHere reports whether the embedding differs from what the model's own pooling gives: without the norm, or where
// sentence-transformers leaves the prompt out. There the weights of a weighted mean count the prompt's tokens all the
// same, and a text without any other token becomes zeros.
func (e *Encoder) pooledHere() bool { return !e.Normalize || e.Kind == Sentence && !e.PoolPrompt }

// pool makes the rows of states [T, d]:
//
//	e = sum_i w_i h_i / sum_i w_i over the tokens behind the prompt; w_i = 1, or i+1 for the weighted mean
func (e *Encoder) pool(states []float32, texts []data.Text) []float32 {
	d := e.model.Width()
	out := make([]float32, 0, len(texts)*d)
	sum := make([]float64, d)
	for i := range texts {
		n := len(texts[i].Tokens)
		first, last := 0, n
		if !e.PoolPrompt {
			first = min(int(texts[i].Prompt), n)
		}
		switch e.Pooling {
		case hub.LastToken:
			first = n - 1
		case hub.FirstToken:
			first, last = 0, 1
		}
		clear(sum)
		total := 0.0
		for t := first; t < last; t++ {
			w := 1.0
			if e.Pooling == hub.WeightedMean {
				w = float64(t + 1)
			}
			total += w
			for j, h := range states[t*d : (t+1)*d] {
				sum[j] += w * float64(h)
			}
		}
		states = states[n*d:]
		if e.Normalize {
			square := 0.0
			for _, s := range sum {
				square += s * s
			}
			total = math.Max(math.Sqrt(square), 1e-12)
		}
		if total == 0 {
			total = 1 // nothing was pooled: zeros
		}
		for _, s := range sum {
			out = append(out, float32(s/total))
		}
	}
	return out
}
