package enginetest

import (
	"math"

	"github.com/counterpoint-ml/counterpoint/trainer/ops"
	"github.com/counterpoint-ml/counterpoint/trainer/philox"
)

// The forward passes in float64, written from the formulas of package ops, plainly.

func zeros(shape ...int) array {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return array{f: make([]float64, n), shape: shape}
}

func (a array) row(i int) []float64 {
	d := a.shape[1]
	return a.f[i*d : (i+1)*d]
}

func dot(a, b []float64) float64 {
	s := 0.0
	for i := range a {
		s += a[i] * b[i]
	}
	return s
}

func refEmbed(x []array) array {
	y := zeros(len(x[0].i), x[1].shape[1])
	for t, id := range x[0].i {
		copy(y.row(t), x[1].row(int(id)))
	}
	return y
}

func refSelect(x []array) array { return refEmbed([]array{x[1], x[0]}) }

func refAdd(x []array) array {
	y := zeros(x[0].shape...)
	for i := range y.f {
		y.f[i] = x[0].f[i] + x[1].f[i]
	}
	return y
}

func refNorm(eps float32) func([]array) array {
	return func(x []array) array {
		y := zeros(x[0].shape...)
		for t := range x[0].shape[0] {
			normalizeRow(y.row(t), x[0].row(t), x[1].f, eps)
		}
		return y
	}
}

func normalizeRow(y, x, w []float64, eps float32) {
	r := 1 / math.Sqrt(dot(x, x)/float64(len(x))+float64(eps))
	for i := range x {
		y[i] = w[i] * x[i] * r
	}
}

func refHeadNorm(s ops.HeadNorm) func([]array) array {
	return func(x []array) array {
		y := zeros(x[0].shape...)
		copy(y.f, x[0].f)
		for t := range x[0].shape[0] {
			for h := range s.Heads + s.KV {
				w := x[1].f
				if h >= s.Heads {
					w = x[2].f
				}
				lo, hi := h*s.HeadDim, (h+1)*s.HeadDim
				normalizeRow(y.row(t)[lo:hi], x[0].row(t)[lo:hi], w, s.Eps)
			}
		}
		return y
	}
}

func refNormalize(x []array) array {
	y := zeros(x[0].shape...)
	for t := range x[0].shape[0] {
		row := x[0].row(t)
		n := math.Max(math.Sqrt(dot(row, row)), 1e-12)
		for i, v := range row {
			y.row(t)[i] = v / n
		}
	}
	return y
}

func refLinear(x []array) array {
	t, n := x[0].shape[0], x[1].shape[0]
	y := zeros(t, n)
	for i := range t {
		for j := range n {
			y.row(i)[j] = dot(x[0].row(i), x[1].row(j))
			if len(x) > 2 {
				y.row(i)[j] += x[2].f[j]
			}
		}
	}
	return y
}

func refUp(s ops.Up) func([]array) array {
	return func(x []array) array {
		in := []array{x[0], x[1]}
		if s.Bias {
			in = append(in, x[4])
		}
		y := refLinear(in)
		for t := range y.shape[0] {
			h, b := x[2].row(t), x[3].f
			for _, p := range s.Parts {
				for j := range p.Width {
					y.row(t)[p.Offset+j] += float64(p.Scale) * dot(h[:p.Rank], b[j*p.Rank:])
				}
				h, b = h[p.Rank:], b[p.Width*p.Rank:]
			}
		}
		return y
	}
}

func refDown(s ops.Down) func([]array) array {
	return func(x []array) array {
		dropped := zeros(x[0].shape...)
		copy(dropped.f, x[0].f)
		if s.Dropout.Rate > 0 {
			cu := x[3].i
			for b, text := range x[2].i {
				for t := cu[b]; t < cu[b+1]; t++ {
					row := dropped.row(int(t))
					for e := range row {
						key := philox.NewKey(s.Dropout.Seed, s.Dropout.Site)
						words := philox.Block(key, philox.At(uint32(x[4].i[0]), uint32(text), uint32(t-cu[b]), uint32(e/4)))
						if float64(words[e%4]) < math.Round(s.Dropout.Rate*(1<<32)) {
							row[e] = 0
						} else {
							row[e] /= 1 - s.Dropout.Rate
						}
					}
				}
			}
		}
		y := refLinear([]array{dropped, x[1]})
		for i := range y.f {
			y.f[i] *= float64(s.Scale)
		}
		return y
	}
}

func refRotary(s ops.Rotary) func([]array) array {
	return func(x []array) array {
		y := zeros(x[0].shape...)
		copy(y.f, x[0].f)
		cu, half := x[1].i, s.HeadDim/2
		for b := range len(cu) - 1 {
			for t := cu[b]; t < cu[b+1]; t++ {
				in, out := x[0].row(int(t)), y.row(int(t))
				for h := range s.Heads + s.KV {
					for i := range half {
						angle := float64(float32(t-cu[b]) * s.Frequencies[i])
						cos, sin := float64(float32(math.Cos(angle))), float64(float32(math.Sin(angle)))
						p, q := h*s.HeadDim+i, h*s.HeadDim+half+i
						out[p], out[q] = in[p]*cos-in[q]*sin, in[q]*cos+in[p]*sin
					}
				}
			}
		}
		return y
	}
}

func sees(m ops.Mask, step, i, j int32) bool {
	if a := m.Anneal; a.Steps > 0 {
		words := philox.Block(philox.NewKey(a.Seed, ops.AnnealSite), philox.At(uint32(step), 0, uint32(i), uint32(j/16)))
		share := min(1, float64(step+1)/float64(a.Steps))
		if at := j % 16; float64(words[at/4]>>(8*(at%4))&255) < math.Floor(256*share) {
			return true
		}
	}
	switch {
	case m.Causal:
		return j <= i && (m.Window == 0 || i-j < int32(m.Window))
	case m.Window > 0:
		return max(i-j, j-i) <= int32(m.Window)
	}
	return true
}

func refAttention(s ops.Attention) func([]array) array {
	return func(x []array) array {
		hd := s.HeadDim
		y := zeros(x[0].shape[0], s.Heads*hd)
		cu, step := x[1].i, int32(0)
		if len(x) > 2 {
			step = x[2].i[0]
		}
		scale := 1 / math.Sqrt(float64(hd))
		for b := range len(cu) - 1 {
			p := make([]float64, cu[b+1]-cu[b])
			for i := cu[b]; i < cu[b+1]; i++ {
				for h := range s.Heads {
					q := x[0].row(int(i))[h*hd : (h+1)*hd]
					k := (s.Heads + h/(s.Heads/s.KV)) * hd
					top, sum := math.Inf(-1), 0.0
					for j := range p {
						p[j] = math.Inf(-1)
						if sees(s.Mask, step, i-cu[b], int32(j)) {
							p[j] = scale * dot(q, x[0].row(int(cu[b]) + j)[k:k+hd])
						}
						top = math.Max(top, p[j])
					}
					for j := range p {
						p[j] = math.Exp(p[j] - top)
						sum += p[j]
					}
					out := y.row(int(i))[h*hd : (h+1)*hd]
					for j := range p {
						if p[j] == 0 {
							continue
						}
						v := x[0].row(int(cu[b]) + j)[k+s.KV*hd:][:hd]
						for e := range out {
							out[e] += p[j] / sum * v[e]
						}
					}
				}
			}
		}
		return y
	}
}

func refSwiGLU(x []array) array {
	f := x[0].shape[1] / 2
	y := zeros(x[0].shape[0], f)
	for t := range y.shape[0] {
		for i := range f {
			g := x[0].row(t)[i]
			y.row(t)[i] = g / (1 + math.Exp(-g)) * x[0].row(t)[f+i]
		}
	}
	return y
}

func refPool(kind ops.Pooling) func([]array) array {
	return func(x []array) array {
		cu, skip := x[1].i, x[2].i
		y := zeros(len(skip), x[0].shape[1])
		for b := range skip {
			lo, hi := cu[b]+skip[b], cu[b+1]
			n := float64(hi - lo)
			for t := lo; t < hi; t++ {
				w := 0.0
				switch i := float64(t - lo); {
				case kind == ops.Mean:
					w = 1 / n
				case kind == ops.WeightedMean:
					w = (i + 1) / (n * (n + 1) / 2)
				case kind == ops.LastToken && t == hi-1, kind == ops.FirstToken && t == lo:
					w = 1
				}
				for e, v := range x[0].row(int(t)) {
					y.row(b)[e] += w * v
				}
			}
		}
		return y
	}
}
