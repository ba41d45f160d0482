package simd

import (
	"math"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
	"github.com/counterpoint-ml/counterpoint/trainer/philox"
)

// Random is philox.Fill, vectorised: equal to it bit for bit on every level.
func Random(dst []uint32, k philox.Key, c philox.Counter) {
	n := vecRandom(dst, &k, &c)
	c[0] += uint32(n / 4)
	philox.Fill(dst[n:], k, c)
}

// Dropout keeps each element with probability 1 - drop, times 1/(1 - drop), and sets the others to 0: y, x [T, d]; y may
// be x. Applied to the gradient it is its own backward.
//
// Element e of the token at position i of a text is decided by word e%4 of Philox block (step, text, i, e/4) under
// key, so it does not depend on packing; texts [B] holds an identity for each text (its row and role). Exact on every level.
func Dropout(p *pool.Pool, y, x []float32, cu []int32, texts []uint32, d int, key philox.Key, step uint32, drop float64) {
	if len(cu) < 2 {
		return
	}
	tokens := int(cu[len(cu)-1])
	check("Dropout x", len(x), tokens*d)
	check("Dropout y", len(y), tokens*d)
	check("Dropout texts", len(texts), len(cu)-1)
	if drop <= 0 {
		copy(y, x)
		return
	}
	threshold := uint32(min(math.Round(math.Ldexp(drop, 32)), math.MaxUint32)) // dropped: word < threshold
	scale := float32(1 / (1 - drop))
	forRows(p, tokens, d, func(lo, hi int) {
		var words [256]uint32
		b := textOf(cu, lo)
		for t := lo; t < hi; t++ {
			for t >= int(cu[b+1]) {
				b++
			}
			c := philox.At(step, texts[b], uint32(t-int(cu[b])), 0)
			for e := 0; e < d; e += len(words) {
				n := min(len(words), d-e)
				c[0] = uint32(e / 4)
				Random(words[:n], key, c)
				at := t*d + e
				vecDrop(y[at:at+n], x[at:at+n], words[:n], threshold, scale)
			}
		}
	})
}
