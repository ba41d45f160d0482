package optim

import "math"

// The decays of a schedule (train.schedule.decay).
const (
	Linear   = "linear"
	Cosine   = "cosine"
	Constant = "constant"
)

// Rate returns the learning rate of step s = 0 .. steps-1, with x = (steps-s)/(steps-warmup), which falls from 1 to
// almost 0, and f = Floor:
//
//	warm-up    peak * (s+1)/warmup                       while s < warmup: not zero at the first step
//	linear     peak * (f + (1-f) x)
//	cosine     peak * (f + (1-f) (1 - cos(pi x))/2)
//	constant   peak
func (c Schedule) Rate(s, steps int64) float64 {
	if s < c.Warmup {
		return c.Peak * (float64(s+1) / float64(c.Warmup))
	}
	x := max(0, float64(steps-s)/float64(max(1, steps-c.Warmup)))
	switch c.Decay {
	case Constant:
		return c.Peak
	case Cosine:
		x = (1 - math.Cos(math.Pi*x)) / 2
	}
	return c.Peak * (c.Floor + (1-c.Floor)*x)
}

// ClipFactor returns what the gradient is multiplied by: min(1, clip/(norm + 1e-6)); 1 without clipping.
func (c Config) ClipFactor(norm float64) float64 {
	if c.Clip <= 0 {
		return 1
	}
	return min(1, c.Clip/(norm+1e-6))
}

// Filled returns c with the customary betas (0.9, 0.999) and epsilon (1e-8) where they are 0.
func (c Config) Filled() Config {
	if c.Beta1 == 0 {
		c.Beta1 = 0.9
	}
	if c.Beta2 == 0 {
		c.Beta2 = 0.999
	}
	if c.Epsilon == 0 {
		c.Epsilon = 1e-8
	}
	return c
}
