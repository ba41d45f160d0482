package simd

import "github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"

// SwiGLU: x [T, 2F] = gate | up, y [T, F].
//
//	y = silu(gate) * up, silu(g) = g / (1 + exp(-g))
//
// (Shazeer: "GLU variants improve transformer", 2020.)
func SwiGLU(p *pool.Pool, y, x []float32, f int) {
	check("SwiGLU y", len(y), len(x)/2)
	forRows(p, len(x)/(2*f), 2*f, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			row := x[2*t*f : 2*(t+1)*f]
			vecSwiGLU(y[t*f:(t+1)*f], row[:f], row[f:])
		}
	})
}

// SwiGLUBackward: dy [T, F], x and dx [T, 2F]; dx may be x.
//
//	dgate = dy * up * s * (1 + gate * (1 - s)), dup = dy * gate * s, s = 1 / (1 + exp(-gate))
func SwiGLUBackward(p *pool.Pool, dx, dy, x []float32, f int) {
	check("SwiGLUBackward dx", len(dx), len(x))
	forRows(p, len(x)/(2*f), 2*f, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			row, out := x[2*t*f:2*(t+1)*f], dx[2*t*f:2*(t+1)*f]
			vecSwiGLUGrad(out[:f], out[f:], dy[t*f:(t+1)*f], row[:f], row[f:])
		}
	})
}
