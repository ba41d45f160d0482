package metric

import "math"

// search looks for a step that decreases f enough and flattens its slope enough:
//
//	f(step) <= f(0) + 1e-3 step f'(0)      |f'(step)| <= 0.9 |f'(0)|
//
// Moré and Thuente, "Line search algorithms with guaranteed sufficient decrease", ACM TOMS 20 (1994), as MINPACK-2's
// dcsrch, with the constants of L-BFGS-B.
type search struct {
	step          float64 // to be tried
	value, slope  float64 // at 0
	best, other   trial   // ends of the interval of uncertainty; best has the least value
	bracketed     bool
	second        bool // stage two: a step with decrease and positive slope was seen
	width, widthB float64
	lower, upper  float64 // of the next step
}

type trial struct{ step, value, slope float64 }

const (
	sufficient = 1e-3
	flat       = 0.9
	narrow     = 0.1
	longest    = 1e10
)

func newSearch(value, slope, step float64) *search {
	return &search{
		step: step, value: value, slope: slope, best: trial{0, value, slope}, other: trial{0, value, slope},
		width: longest, widthB: 2 * longest, upper: 5 * step,
	}
}

// advance takes f and f' at s.step, and reports whether the search is over; otherwise s.step is the next to try.
func (s *search) advance(value, slope float64) bool {
	test := sufficient * s.slope
	enough := s.value + float64(s.step*test)
	if !s.second && value <= enough && slope >= 0 {
		s.second = true
	}
	switch {
	case s.bracketed && (s.step <= s.lower || s.step >= s.upper), // rounding
		s.bracketed && s.upper-s.lower <= narrow*s.upper,
		s.step == longest && value <= enough && slope <= test,
		s.step == 0 && (value > enough || slope >= test),
		value <= enough && math.Abs(slope) <= flat*-s.slope:
		return true
	}
	at := trial{s.step, value, slope}
	if !s.second && value <= s.best.value && value > enough {
		// The function with the wanted decrease taken off, which has a minimum in the interval.
		less := func(t trial) trial { return trial{t.step, t.value - float64(t.step*test), t.slope - test} }
		more := func(t trial) trial { return trial{t.step, t.value + float64(t.step*test), t.slope + test} }
		s.best, s.other = less(s.best), less(s.other)
		s.interpolate(less(at))
		s.best, s.other = more(s.best), more(s.other)
	} else {
		s.interpolate(at)
	}
	if s.bracketed {
		if math.Abs(s.other.step-s.best.step) >= 0.66*s.widthB {
			s.step = s.best.step + (s.other.step-s.best.step)/2
		}
		s.widthB, s.width = s.width, math.Abs(s.other.step-s.best.step)
		s.lower, s.upper = min(s.best.step, s.other.step), max(s.best.step, s.other.step)
	} else {
		s.lower = s.step + float64(1.1*(s.step-s.best.step))
		s.upper = s.step + 4*(s.step-s.best.step)
	}
	s.step = max(0, min(longest, s.step))
	if s.bracketed && (s.step <= s.lower || s.step >= s.upper || s.upper-s.lower <= narrow*s.upper) {
		s.step = s.best.step
	}
	return false
}

// interpolate is dcstep: it chooses the next step from cubics and quadratics through the ends and the trial, and
// updates the interval.
func (s *search) interpolate(p trial) {
	x := s.best
	opposite := p.slope*math.Copysign(1, x.slope) < 0
	var next float64
	switch {
	case p.value > x.value: // higher: the minimum is between
		cubic := x.step + float64(cubicRatio(x, p, p.step < x.step)*(p.step-x.step))
		quadratic := x.step + float64(x.slope/((x.value-p.value)/(p.step-x.step)+x.slope)/2*(p.step-x.step))
		next = cubic
		if math.Abs(cubic-x.step) >= math.Abs(quadratic-x.step) {
			next = cubic + (quadratic-cubic)/2
		}
		s.bracketed = true
	case opposite: // lower, slopes of opposite sign: the minimum is between
		cubic := p.step + float64(cubicRatio(p, x, p.step > x.step)*(x.step-p.step))
		quadratic := p.step + float64(p.slope/(p.slope-x.slope)*(x.step-p.step))
		next = quadratic
		if math.Abs(cubic-p.step) > math.Abs(quadratic-p.step) {
			next = cubic
		}
		s.bracketed = true
	case math.Abs(p.slope) < math.Abs(x.slope): // lower, flatter
		next = s.extrapolate(p)
	case s.bracketed: // lower, not flatter
		next = p.step + float64(cubicRatio(p, s.other, p.step > s.other.step)*(s.other.step-p.step))
	case p.step > x.step:
		next = s.upper
	default:
		next = s.lower
	}
	if p.value > x.value {
		s.other = p
	} else {
		if opposite {
			s.other = x
		}
		s.best = p
	}
	s.step = next
}

// extrapolate is dcstep's third case.
func (s *search) extrapolate(p trial) float64 {
	x := s.best
	theta := 3*(x.value-p.value)/(p.step-x.step) + x.slope + p.slope
	scale := max(math.Abs(theta), math.Abs(x.slope), math.Abs(p.slope))
	gamma := scale * math.Sqrt(max(0, float64(theta/scale*(theta/scale))-float64(x.slope/scale*(p.slope/scale))))
	if p.step > x.step {
		gamma = -gamma
	}
	r := (gamma - p.slope + theta) / (gamma + (x.slope - p.slope) + gamma)
	cubic := 0.0
	switch {
	case r < 0 && gamma != 0:
		cubic = p.step + float64(r*(x.step-p.step))
	case p.step > x.step:
		cubic = s.upper
	default:
		cubic = s.lower
	}
	quadratic := p.step + float64(p.slope/(p.slope-x.slope)*(x.step-p.step))
	nearer := math.Abs(cubic-p.step) < math.Abs(quadratic-p.step)
	if !s.bracketed {
		if nearer {
			cubic = quadratic // the farther of the two
		}
		return max(s.lower, min(s.upper, cubic))
	}
	if !nearer {
		cubic = quadratic
	}
	limit := p.step + float64(0.66*(s.other.step-p.step))
	if p.step > x.step {
		return min(limit, cubic)
	}
	return max(limit, cubic)
}

// cubicRatio is where between a and b the cubic through both values and slopes has its minimum, as a share of b - a
// from a.
func cubicRatio(a, b trial, negative bool) float64 {
	// dcstep: theta = 3 (f_a - f_b) / (b - a) + g_a + g_b
	theta := 3*(a.value-b.value)/(b.step-a.step) + a.slope + b.slope
	scale := max(math.Abs(theta), math.Abs(a.slope), math.Abs(b.slope))
	gamma := scale * math.Sqrt(float64(theta/scale*(theta/scale))-float64(a.slope/scale*(b.slope/scale)))
	if negative {
		gamma = -gamma
	}
	return (gamma - a.slope + theta) / (gamma - a.slope + gamma + b.slope)
}
