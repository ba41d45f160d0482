package simd

import "github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"

// AdamWScalars are one step's scalars, each computed on the host in float64 and rounded once.
type AdamWScalars struct {
	Clip         float32 // factor of the gradient: min(1, clip / norm)
	Keep         float32 // 1 - rate * decay (1 for tensors that do not decay)
	Beta1, Rest1 float32 // beta1, 1 - beta1
	Beta2, Rest2 float32
	Size         float32 // rate / (1 - beta1^k)
	Root         float32 // sqrt(1 - beta2^k)
	Epsilon      float32
}

// AdamW is one update of w, m, v (same length) by the gradient g, in IEEE float32 operations in this order, none of them
// fused, so that every level and a GPU give the same bits:
//
//	g' = g Clip;  m = Beta1 m + Rest1 g';  v = Beta2 v + (Rest2 g') g'
//	w = w Keep - (Size m) / (sqrt(v) / Root + Epsilon)
//
// (Loshchilov, Hutter: "Decoupled weight decay regularization", 2019, algorithm 2.)
func AdamW(p *pool.Pool, w, m, v, g []float32, k AdamWScalars) {
	check("AdamW m", len(m), len(w))
	check("AdamW v", len(v), len(w))
	check("AdamW g", len(g), len(w))
	forFlat(p, len(w), func(lo, hi int) { vecAdamW(w[lo:hi], m[lo:hi], v[lo:hi], g[lo:hi], &k) })
}
