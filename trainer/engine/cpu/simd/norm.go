package simd

import (
	"math"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// rstdOf returns 1 / sqrt(square/d + eps).
func rstdOf(square float32, d int, eps float32) float32 {
	return float32(1 / math.Sqrt(float64(square)/float64(d)+float64(eps)))
}

// RMSNorm: x, y [T, d], w [d]; y may be x.
//
//	y = w * x * rstd, rstd = 1 / sqrt(mean(x^2) + eps)
//
// rstd [T] receives the factors when it is not nil. (Zhang, Sennrich: "Root mean square layer normalization", 2019.)
func RMSNorm(p *pool.Pool, y, x, w, rstd []float32, eps float32) {
	d := len(w)
	check("RMSNorm y", len(y), len(x))
	forRows(p, len(x)/d, d, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			row := x[t*d : (t+1)*d]
			r := rstdOf(vecDot(row, row), d, eps)
			vecNorm(y[t*d:(t+1)*d], row, w, r)
			if rstd != nil {
				rstd[t] = r
			}
		}
	})
}

// RMSNormBackward: x the input of the forward, dy [T, d].
//
//	dx = rstd * (w * dy) - x * rstd^3 / d * sum(w * dy * x)     (+ residual)
//	dw += sum over t of dy * x * rstd
//
// residual [T, d] is the gradient that passes by the norm, or nil; dx may be residual or dy, or nil. dw [d] is added to,
// or nil. rstd nil: computed again.
func RMSNormBackward(p *pool.Pool, dx, dw, dy, x, w, rstd, residual []float32, eps float32) {
	d := len(w)
	t := len(x) / d
	check("RMSNormBackward dy", len(dy), len(x))
	factor := func(i int, row []float32) float32 {
		if rstd != nil {
			return rstd[i]
		}
		return rstdOf(vecDot(row, row), d, eps)
	}
	// dw first: dx may overwrite dy.
	if dw != nil {
		sumRows(p, dw, t, func(partial []float32, lo, hi int) {
			for i := lo; i < hi; i++ {
				row := x[i*d : (i+1)*d]
				vecMulAdd(partial, dy[i*d:(i+1)*d], row, factor(i, row))
			}
		})
	}
	if dx == nil {
		return
	}
	forRows(p, t, d, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row, g := x[i*d:(i+1)*d], dy[i*d:(i+1)*d]
			r := factor(i, row)
			c := r * r * r / float32(d) * vecDot3(g, w, row)
			if residual != nil {
				vecNormGradAdd(dx[i*d:(i+1)*d], g, w, row, residual[i*d:(i+1)*d], r, c)
			} else {
				vecNormGrad(dx[i*d:(i+1)*d], g, w, row, r, c)
			}
		}
	})
}

// HeadRMSNorm normalises every query head by wq [Dim] and every key head by wk [Dim] of packed rows x [T, Width] and
// copies the values (Qwen3: before the rotation). dst may be x.
func HeadRMSNorm(p *pool.Pool, dst, x, wq, wk []float32, h Heads, eps float32) {
	width, d := h.Width(), h.Dim
	check("HeadRMSNorm dst", len(dst), len(x))
	forRows(p, len(x)/width, width, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			in, out := x[t*width:(t+1)*width], dst[t*width:(t+1)*width]
			w := wq
			for i := 0; i < h.Query+h.KV; i++ {
				if i == h.Query {
					w = wk
				}
				head := in[i*d : (i+1)*d]
				vecNorm(out[i*d:(i+1)*d], head, w, rstdOf(vecDot(head, head), d, eps))
			}
			copy(out[(h.Query+h.KV)*d:], in[(h.Query+h.KV)*d:])
		}
	})
}

// HeadRMSNormBackward: x the input of the forward, dy the gradient of its output [T, Width]; dwq, dwk [Dim] are added to,
// or nil; dx may be dy.
func HeadRMSNormBackward(p *pool.Pool, dx, dwq, dwk, dy, x, wq, wk []float32, h Heads, eps float32) {
	width, d := h.Width(), h.Dim
	t := len(x) / width
	if dwq != nil || dwk != nil {
		sum := lend(2 * d)
		defer sum.giveBack()
		both := sum.f[:2*d]
		clear(both)
		sumRows(p, both, t, func(partial []float32, lo, hi int) {
			for i := lo; i < hi; i++ {
				for j := 0; j < h.Query+h.KV; j++ {
					dst := partial[:d]
					if j >= h.Query {
						dst = partial[d:]
					}
					at := i*width + j*d
					head := x[at : at+d]
					vecMulAdd(dst, dy[at:at+d], head, rstdOf(vecDot(head, head), d, eps))
				}
			}
		})
		if dwq != nil {
			vecAdd(dwq, dwq, both[:d])
		}
		if dwk != nil {
			vecAdd(dwk, dwk, both[d:])
		}
	}
	forRows(p, t, width, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			w := wq
			for j := 0; j < h.Query+h.KV; j++ {
				if j == h.Query {
					w = wk
				}
				at := i*width + j*d
				head, g := x[at:at+d], dy[at:at+d]
				r := rstdOf(vecDot(head, head), d, eps)
				vecNormGrad(dx[at:at+d], g, w, head, r, r*r*r/float32(d)*vecDot3(g, w, head))
			}
			copy(dx[i*width+(h.Query+h.KV)*d:(i+1)*width], dy[i*width+(h.Query+h.KV)*d:(i+1)*width])
		}
	})
}

// smallestNorm is the smallest L2 norm that Normalize divides by (as torch.nn.functional.normalize).
const smallestNorm = 1e-12

// Normalize: y[b, :] = x[b, :] / max(|x[b, :]|, 1e-12) for rows of d; norms [B] receives the divisors when not nil; y may
// be x.
func Normalize(p *pool.Pool, y, x, norms []float32, d int) {
	forRows(p, len(x)/d, d, func(lo, hi int) {
		for b := lo; b < hi; b++ {
			row := x[b*d : (b+1)*d]
			n := max(float32(math.Sqrt(SumSquares(row))), smallestNorm)
			vecScale(y[b*d:(b+1)*d], row, 1/n)
			if norms != nil {
				norms[b] = n
			}
		}
	})
}

// NormalizeBackward: y the output and norms the divisors of the forward; dx may be dy.
//
//	dx = (dy - y * sum(y * dy)) / norm
func NormalizeBackward(p *pool.Pool, dx, dy, y, norms []float32, d int) {
	forRows(p, len(y)/d, d, func(lo, hi int) {
		for b := lo; b < hi; b++ {
			row, g, out := y[b*d:(b+1)*d], dy[b*d:(b+1)*d], dx[b*d:(b+1)*d]
			s := vecDot(row, g)
			vecScale(out, g, 1/norms[b])
			vecAxpy(out, row, -s/norms[b])
		}
	})
}
