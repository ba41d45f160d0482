package optim

import "math"

// Reference is AdamW in float64 by the formulas, slowly: what the float32 update is tested against.
type Reference struct {
	Config  Config
	Steps   int64
	Decay   []bool      // [tensors] whether the weight decay acts: two-dimensional tensors
	Weights [][]float64 // [tensors] of flat values
	m, v    [][]float64
	k       int64
}

// Step updates Weights with gradients before clipping and returns their norm and the rate:
//
//	norm = sqrt(sum g^2);  g *= min(1, clip/(norm + 1e-6));  k = s + 1
//	w -= rate decay w
//	m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
//	w -= rate/(1-b1^k) m / (sqrt(v)/sqrt(1-b2^k) + eps)
func (r *Reference) Step(gradients [][]float64) (norm, rate float64) {
	c := r.Config.Filled()
	if r.m == nil {
		for _, w := range r.Weights {
			r.m, r.v = append(r.m, make([]float64, len(w))), append(r.v, make([]float64, len(w)))
		}
	}
	for _, g := range gradients {
		for _, x := range g {
			norm += x * x
		}
	}
	norm = math.Sqrt(norm)
	clip := c.ClipFactor(norm)
	rate = c.Schedule.Rate(r.k, r.Steps)
	r.k++
	b1k, b2k := 1-math.Pow(c.Beta1, float64(r.k)), 1-math.Pow(c.Beta2, float64(r.k))
	for t, w := range r.Weights {
		for i := range w {
			g := clip * gradients[t][i]
			if r.Decay[t] {
				w[i] -= rate * c.WeightDecay * w[i]
			}
			r.m[t][i] = c.Beta1*r.m[t][i] + (1-c.Beta1)*g
			r.v[t][i] = c.Beta2*r.v[t][i] + (1-c.Beta2)*g*g
			w[i] -= rate / b1k * r.m[t][i] / (math.Sqrt(r.v[t][i])/math.Sqrt(b2k) + c.Epsilon)
		}
	}
	return norm, rate
}
