package simd

import "github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"

// longestChunk is how many query tiles one task of the backward takes: more are cut into chunks whose sums of dK and
// dV are added in order, so that a long text keeps all threads busy.
const (
	longestChunk = 32
	mostChunks   = 16
)

func chunks(n, group int) (count, tiles int) {
	c := cut(n, group).count
	tiles = max(longestChunk, (c+mostChunks-1)/mostChunks)
	return (c + tiles - 1) / tiles, tiles
}

// AttentionBackward: qkv, out, lse as left by Attention, dout [T, Query*Dim]; dqkv [T, Width] is set.
//
//	P = exp(S - lse), dV = P^T dO, dP = dO V^T, dS = P * (dP - sum(dO * O)), dQ = scale dS K, dK = scale dS^T Q
//
// (FlashAttention-2, algorithm 2.) dqkv must be none of the others.
func AttentionBackward(p *pool.Pool, dqkv, qkv, out, lse, dout []float32, cu []int32, h Heads, m Mask, scale float32) {
	if len(cu) < 2 {
		return
	}
	tokens := int(cu[len(cu)-1])
	check("AttentionBackward qkv", len(qkv), tokens*h.Width())
	check("AttentionBackward dqkv", len(dqkv), tokens*h.Width())
	check("AttentionBackward dout", len(dout), tokens*h.Query*h.Dim)
	group, pad := h.Query/h.KV, pad8(h.Dim)

	// Sums of dK and dV: [task][2, n, pad]; a text with one chunk writes its result without them.
	list, total := tasks(cu, func(n int) int { c, _ := chunks(n, group); return h.KV * c })
	defer offsetPool.Put(list)
	parts, floats := tasks(cu, func(n int) int {
		if c, _ := chunks(n, group); c > 1 {
			return h.KV * c * 2 * n * pad
		}
		return 0
	})
	defer offsetPool.Put(parts)
	sums := lend(floats)
	defer sums.giveBack()

	p.For(total, func(task int) {
		b, i := list.find(total - 1 - task) // shards are sorted by length: the long ones first, so that threads end together
		start, n := int(cu[b]), int(cu[b+1]-cu[b])
		count, tiles := chunks(n, group)
		g := gradient{qkv: qkv, out: out, lse: lse, dout: dout, dqkv: dqkv, h: h, m: m, scale: scale}
		var sum []float32
		if count > 1 {
			at := parts.first[b] + i*2*n*pad
			sum = sums.f[at : at+2*n*pad]
		}
		g.chunk(start, n, i/count, i%count*tiles, min(cut(n, group).count, (i%count+1)*tiles), sum)
	})
	if floats == 0 {
		return
	}
	p.For((len(cu)-1)*h.KV, func(i int) {
		b, kv := i/h.KV, i%h.KV
		n := int(cu[b+1] - cu[b])
		count, _ := chunks(n, group)
		if n == 0 || count == 1 {
			return
		}
		at := parts.first[b] + kv*count*2*n*pad
		first := sums.f[at : at+2*n*pad]
		for c := 1; c < count; c++ {
			vecAdd(first, first, sums.f[at+c*2*n*pad:at+(c+1)*2*n*pad])
		}
		storeKV(dqkv, first, int(cu[b]), n, kv, h)
	})
}

// storeKV copies dK, dV [2, n, pad] to their columns of dqkv.
func storeKV(dqkv, sum []float32, start, n, kv int, h Heads) {
	d, pad, width := h.Dim, pad8(h.Dim), h.Width()
	row := dqkv[start*width:]
	scaleRows(row[(h.Query+kv)*d:], width, sum, pad, n, d, one, 0)
	scaleRows(row[(h.Query+h.KV+kv)*d:], width, sum[n*pad:], pad, n, d, one, 0)
}

// gradient is one call of AttentionBackward.
type gradient struct {
	qkv, out, lse, dout, dqkv []float32
	h                         Heads
	m                         Mask
	scale                     float32
}

// nearKeys is how many values of a head's keys stay in the second-level cache, with its values and both gradients, while
// all queries of a chunk pass over them: 512 KiB for the four.
const nearKeys = 1 << 15

// chunk runs query tiles [first, last) of a key/value head against all keys. It stores dQ, and dK and dV either in sum
// [2, n, pad] or, when sum is nil, in dqkv.
func (g *gradient) chunk(start, n, kv, first, last int, sum []float32) {
	d, pad, width := g.h.Dim, pad8(g.h.Dim), g.h.Width()
	near := max(tileSize, nearKeys/pad&^(tileSize-1))
	tiles := 1
	if n > near {
		tiles = last - first
	}
	buf := lend((4+tiles)*tileSize*pad + 2*tileSize*tileSize + 4*n*pad + 64)
	defer buf.giveBack()
	a := arena{buf.f}
	w := workspace{
		q: a.take(tileSize * pad), qt: a.take(tileSize * pad), do: a.take(tileSize * pad), dot: a.take(tileSize * pad),
		s: a.take(tileSize * tileSize), dp: a.take(tileSize * tileSize),
		k: a.take(n * pad), v: a.take(n * pad),
	}
	dq := a.take(tiles * tileSize * pad)
	direct := sum == nil
	if direct {
		sum = a.take(2 * n * pad)
	}
	clear(sum)
	w.dk, w.dv = sum[:n*pad], sum[n*pad:]
	row := g.qkv[start*width:]
	scaleRows(w.k, pad, row[(g.h.Query+kv)*d:], width, n, d, one, 0)
	scaleRows(w.v, pad, row[(g.h.Query+g.h.KV+kv)*d:], width, n, d, one, 0)
	for lo := 0; lo < n; lo += near {
		for block := first; block < last; block++ {
			w.dq = dq[(block-first)%tiles*tileSize*pad:]
			g.tile(tileOf(start, n, kv, block, g.h, g.m), &w, lo, min(n, lo+near))
		}
	}
	if direct {
		storeKV(g.dqkv, sum, start, n, kv, g.h)
	}
}

// workspace holds copies of a head's rows (k, v and their gradients [n, pad]) and of a tile's (the others).
type workspace struct{ q, qt, do, dot, dq, s, dp, k, v, dk, dv []float32 }

// tile runs a query tile against the keys from .. to; dQ is kept in w.dq and stored with the last of its keys.
func (g *gradient) tile(t tile, w *workspace, from, to int) {
	from, to = max(from, t.firstK), min(to, t.endK)
	if from >= to {
		return
	}
	h, d, pad, width := g.h, g.h.Dim, pad8(g.h.Dim), g.h.Width()
	cols, rows := t.columns(), t.hi-t.lo
	var lo, hi [tileSize]int32
	var lse, delta [tileSize]float32
	t.limits(g.m, &lo, &hi)
	scale := [1]float32{g.scale}
	for i := range t.heads {
		head := t.head + i
		first := t.start + t.lo
		scaleRows(w.q[i*rows*pad:], pad, g.qkv[first*width+head*d:], width, rows, d, scale[:], 0)
		scaleRows(w.do[i*rows*pad:], pad, g.dout[(first*h.Query+head)*d:], h.Query*d, rows, d, one, 0)
		for r := range rows {
			at := (t.start+t.lo+r)*h.Query + head
			lse[i*rows+r] = g.lse[at]
			delta[i*rows+r] = vecDot(g.dout[at*d:(at+1)*d], g.out[at*d:(at+1)*d])
		}
	}
	transpose(w.qt, tileSize, w.q, pad, pad8(cols), pad)
	transpose(w.dot, tileSize, w.do, pad, pad8(cols), pad)
	for j0 := from; j0 < to; j0 += tileSize {
		keys := min(tileSize, to-j0)
		k, v := w.k[j0*pad:], w.v[j0*pad:]
		multiply(keys, cols, d, k, pad, 1, w.qt, tileSize, w.s, tileSize, false)
		multiply(keys, cols, d, v, pad, 1, w.dot, tileSize, w.dp, tileSize, false)
		if t.masked(g.m, j0, j0+keys) {
			t.mask(g.m, w.s, keys, j0, &lo, &hi)
		}
		gradTile(w.s, w.dp, tileSize, keys, cols, &lse, &delta)
		multiply(keys, d, cols, w.s, tileSize, 1, w.do, pad, w.dv[j0*pad:], pad, true)
		multiply(keys, d, cols, w.dp, tileSize, 1, w.q, pad, w.dk[j0*pad:], pad, true)
		multiply(cols, d, keys, w.dp, 1, tileSize, k, pad, w.dq, pad, j0 > t.firstK)
	}
	if to < t.endK {
		return
	}
	for i := range t.heads {
		at := (t.start+t.lo)*width + (t.head+i)*d
		scaleRows(g.dqkv[at:], width, w.dq[i*rows*pad:], pad, rows, d, scale[:], 0)
	}
}
