package simd

import "math"

// The kernels in plain Go: the meaning of every assembly kernel, and what runs where there is none.

func expGo(dst, x []float32) {
	for i, v := range x {
		dst[i] = exp32(v)
	}
}

// exp32 is exp with results below 2^-126 flushed to 0, as the vector kernels do.
func exp32(x float32) float32 {
	y := float32(math.Exp(float64(x)))
	if y < 0x1p-126 {
		return 0
	}
	return y
}

func sigmoid32(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }

func sigmoidGo(dst, x []float32) {
	for i, v := range x {
		dst[i] = sigmoid32(v)
	}
}

func siluGo(dst, x []float32) {
	for i, v := range x {
		dst[i] = v * sigmoid32(v)
	}
}

func addGo(dst, a, b []float32) {
	for i := range dst {
		dst[i] = a[i] + b[i]
	}
}

func axpyGo(y, x []float32, alpha float32) {
	for i := range y {
		y[i] += alpha * x[i]
	}
}

func scaleGo(dst, x []float32, alpha float32) {
	for i := range dst {
		dst[i] = alpha * x[i]
	}
}

func dotGo(a, b []float32) float32 {
	var s [4]float32
	n := len(a) &^ 3
	for i := 0; i < n; i += 4 {
		s[0] += a[i] * b[i]
		s[1] += a[i+1] * b[i+1]
		s[2] += a[i+2] * b[i+2]
		s[3] += a[i+3] * b[i+3]
	}
	for i := n; i < len(a); i++ {
		s[0] += a[i] * b[i]
	}
	return (s[0] + s[1]) + (s[2] + s[3])
}

func dot3Go(a, b, c []float32) float32 {
	var s [2]float32
	for i := range a {
		s[i&1] += a[i] * b[i] * c[i]
	}
	return s[0] + s[1]
}

// maxGo is the largest value, -Inf of none; NaN values may be passed over.
func maxGo(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		if v > m {
			m = v
		}
	}
	return m
}

// expSumGo sets dst = exp(scale x - shift) and returns the sum.
func expSumGo(dst, x []float32, scale, shift float32) float32 {
	var s float32
	for i, v := range x {
		e := exp32(scale*v - shift)
		dst[i] = e
		s += e
	}
	return s
}

func normGo(y, x, w []float32, rstd float32) {
	for i := range y {
		y[i] = x[i] * rstd * w[i]
	}
}

// normGradGo sets dx = r (w dy) - c x.
func normGradGo(dx, dy, w, x []float32, r, c float32) {
	for i := range dx {
		dx[i] = r*(w[i]*dy[i]) - c*x[i]
	}
}

// normGradAddGo sets dx = r (w dy) - c x + residual.
func normGradAddGo(dx, dy, w, x, residual []float32, r, c float32) {
	for i := range dx {
		dx[i] = r*(w[i]*dy[i]) - c*x[i] + residual[i]
	}
}

// mulAddGo adds a b c to dst.
func mulAddGo(dst, a, b []float32, c float32) {
	for i := range dst {
		dst[i] += a[i] * (b[i] * c)
	}
}

func swigluGo(y, g, u []float32) {
	for i := range y {
		y[i] = g[i] * sigmoid32(g[i]) * u[i]
	}
}

func swigluGradGo(dg, du, dy, g, u []float32) {
	for i := range dy {
		s := sigmoid32(g[i])
		gs, d := g[i]*s, dy[i]
		// silu'(g) = s + g s (1 - s)
		dg[i], du[i] = d*u[i]*(s+gs*(1-s)), d*gs
	}
}

// rotateGo rotates each head of 2 len(cos) values of x.
func rotateGo(y, x, cos, sin []float32, sign float32) {
	half := len(cos)
	if half == 0 {
		copy(y, x)
		return
	}
	for at := 0; at+2*half <= len(x); at += 2 * half {
		for i, c := range cos {
			a, b, s := x[at+i], x[at+half+i], sign*sin[i]
			y[at+i], y[at+half+i] = a*c-b*s, b*c+a*s
		}
	}
}

func dropGo(y, x []float32, words []uint32, threshold uint32, scale float32) {
	for i := range y {
		if words[i] < threshold {
			y[i] = 0
		} else {
			y[i] = x[i] * scale
		}
	}
}

func adamwGo(w, m, v, g []float32, k *AdamWScalars) {
	m, v, g = m[:len(w)], v[:len(w)], g[:len(w)]
	for i := range w {
		x := float32(g[i] * k.Clip)
		m[i] = float32(k.Beta1*m[i]) + float32(k.Rest1*x)
		v[i] = float32(k.Beta2*v[i]) + float32(float32(k.Rest2*x)*x)
		d := float32(float32(math.Sqrt(float64(v[i])))/k.Root) + k.Epsilon
		w[i] = float32(w[i]*k.Keep) - float32(float32(k.Size*m[i])/d)
	}
}

// maxBitsGo compares bit patterns without the sign, which are ordered as the absolute values are; from 0x7f800000 on
// lie infinity and NaN.
func maxBitsGo(x []float32) uint32 {
	var top uint32
	for _, v := range x {
		top = max(top, math.Float32bits(v)&0x7fffffff)
	}
	return top
}

// magic turns rounding into an addition: for |x| < 2^51, x + 1.5*2^52 has a last place of 1, so the sum rounds x to an
// integer, ties to even, in its low bits.
const (
	magic     = 3 << 51
	magicBits = 0x4338000000000000
)

func quantiseGo(sum []int64, g []float32, scale float64) uint32 {
	for i := range sum {
		x := float64(float64(g[i])*scale) + magic
		sum[i] += int64(math.Float64bits(x)) - magicBits
	}
	return maxBitsGo(g)
}

func dequantiseGo(dst []float32, sum []int64, scale float64) {
	for i := range dst {
		dst[i] = float32(float64(sum[i]) * scale)
	}
}

// squaresGo adds squares to 16 lanes; len(x) is a multiple of 16.
func squaresGo(lanes *[16]float64, x []float32) {
	for i, v := range x {
		lanes[i&15] += float64(v) * float64(v)
	}
}
