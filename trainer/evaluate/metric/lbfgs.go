package metric

import "math"

// correction is a pair of differences that L-BFGS remembers: of the point and of the gradient.
type correction struct {
	s, y []float64
	rho  float64 // 1 / s.y
}

// minimise moves w from where it is towards a minimum of f, which also writes its gradient, by L-BFGS with ten
// corrections, in the steps of L-BFGS-B without bounds (Byrd, Lu, Nocedal, Zhu 1995; Moré and Thuente's search): the
// direction is -H g with the two-loop product
//
//	q = g;  newest first: a_i = rho_i s_i.q, q -= a_i y_i;  q *= s.y / y.y;  oldest first: q += (a_i - rho_i y_i.q) s_i
//
// It ends when no component of the gradient exceeds tolerance, when an iteration decreases f by no more than decrease
// * max(|f|, |f'|, 1), or after so many iterations, and returns f and the iterations done.
func minimise(f func(w, g []float64) float64, w []float64, tolerance, decrease float64, iterations int) (float64, int) {
	const memory = 10
	n := len(w)
	g, next, nextG := make([]float64, n), make([]float64, n), make([]float64, n)
	direction := make([]float64, n)
	var past []correction
	value := f(w, g)
	for done := 0; ; {
		if largest(g) <= tolerance || done == iterations {
			return value, done
		}
		newton(direction, g, past)
		slope := dotWide(g, direction)
		if slope >= 0 { // rounding has spoilt the memory
			if len(past) == 0 {
				return value, done
			}
			past = nil
			continue
		}
		step := 1.0
		if done == 0 {
			step = 1 / math.Sqrt(dotWide(direction, direction))
		}
		search := newSearch(value, slope, step)
		var nextValue, nextSlope float64
		for evaluations := 0; ; evaluations++ {
			step = search.step
			for i := range w {
				next[i] = w[i] + float64(step*direction[i])
			}
			nextValue = f(next, nextG)
			nextSlope = dotWide(nextG, direction)
			if search.advance(nextValue, nextSlope) || evaluations == 50 {
				break
			}
		}
		if !(nextValue <= value) { // no decrease can be found: once more along the gradient, or the end
			if len(past) == 0 {
				return value, done
			}
			past = nil
			continue
		}
		done++
		c := correction{s: make([]float64, n), y: make([]float64, n)}
		for i := range w {
			c.s[i] = next[i] - w[i]
			c.y[i] = nextG[i] - g[i]
		}
		before := value
		copy(w, next)
		copy(g, nextG)
		value = nextValue
		if largest(g) > tolerance && before-value <= decrease*max(math.Abs(before), math.Abs(value), 1) {
			return value, done
		}
		if sy := dotWide(c.s, c.y); sy > -slope*step/(1<<52) { // curvature that rounding has not made
			c.rho = 1 / sy
			if past = append(past, c); len(past) > memory {
				past = past[1:]
			}
		}
	}
}

// newton writes -H g.
func newton(out, g []float64, past []correction) {
	for i, v := range g {
		out[i] = -v
	}
	if len(past) == 0 {
		return
	}
	a := make([]float64, len(past))
	for i := len(past) - 1; i >= 0; i-- {
		a[i] = past[i].rho * dotWide(past[i].s, out)
		axpy(out, -a[i], past[i].y)
	}
	last := past[len(past)-1]
	scale := 1 / (last.rho * dotWide(last.y, last.y))
	for i := range out {
		out[i] *= scale
	}
	for i, c := range past {
		axpy(out, a[i]-float64(c.rho*dotWide(c.y, out)), c.s)
	}
}

// axpy adds a*x to y.
func axpy(y []float64, a float64, x []float64) {
	for i, v := range x {
		y[i] += float64(a * v)
	}
}

func largest(g []float64) float64 {
	top := 0.0
	for _, v := range g {
		top = max(top, math.Abs(v))
	}
	return top
}
