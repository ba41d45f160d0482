package simd

import (
	"math"
	"sort"
	"sync"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
	"github.com/counterpoint-ml/counterpoint/trainer/philox"
)

// Queries and keys are taken in tiles of 64 x 64 scores. The tile is kept transposed, S[key, query], so that the softmax
// over keys runs down the rows without a horizontal reduction, and every product of the forward and of the backward is
// one kernel: A, read a value at a time with any strides, times contiguous rows of B.
const tileSize = 64

// unseen is the running maximum before any key was seen: finite, so that unseen - unseen is 0 and not NaN.
const unseen = -1e30

// blocksOf describes how a text's queries are cut: texts of up to 64 tokens put several query heads of one key/value
// head in a tile, longer ones cut each head.
type blocksOf struct{ heads, perHead, count int } // heads of a tile, tiles of a head, tiles of a key/value head

func cut(n, group int) blocksOf {
	if n <= tileSize {
		heads := min(group, max(1, tileSize/max(n, 1)))
		return blocksOf{heads, 1, (group + heads - 1) / heads}
	}
	perHead := (n + tileSize - 1) / tileSize
	return blocksOf{1, perHead, perHead * group}
}

// tile is one block of queries of one key/value head: its columns are query tokens lo .. hi of `heads` heads.
type tile struct {
	start, n     int // the text's first token and length
	kv           int // key/value head
	head, heads  int // first query head, number of query heads
	lo, hi       int // query tokens of the text
	firstK, endK int // keys that any of them sees
}

func tileOf(start, n, kv, block int, h Heads, m Mask) tile {
	group := h.Query / h.KV
	c := cut(n, group)
	t := tile{start: start, n: n, kv: kv}
	if c.perHead == 1 && n <= tileSize {
		t.head, t.lo, t.hi = block*c.heads, 0, n
		t.heads = min(c.heads, group-t.head)
	} else {
		t.head, t.heads = block/c.perHead, 1
		t.lo = block % c.perHead * tileSize
		t.hi = min(n, t.lo+tileSize)
	}
	t.head += kv * group
	t.firstK, _ = m.bounds(t.lo, n)
	_, t.endK = m.bounds(t.hi-1, n)
	return t
}

func (t tile) columns() int { return t.heads * (t.hi - t.lo) }

// limits fills the keys [lo, hi) that each column sees.
func (t tile) limits(m Mask, lo, hi *[tileSize]int32) {
	rows := t.hi - t.lo
	for i := range rows {
		a, b := m.closed(t.lo+i, t.n)
		for h := range t.heads {
			lo[h*rows+i], hi[h*rows+i] = int32(a), int32(b)
		}
	}
}

// masked says whether some column does not see all of the keys j0 .. j1.
func (t tile) masked(m Mask, j0, j1 int) bool {
	_, hi := m.closed(t.lo, t.n)
	lo, _ := m.closed(t.hi-1, t.n)
	return lo > j0 || hi < j1
}

// mask hides the scores of keys j0 .. j0+keys, of which column c sees lo[c] .. hi[c] and what is open.
func (t tile) mask(m Mask, s []float32, keys, j0 int, lo, hi *[tileSize]int32) {
	if m.Open == 0 {
		maskTile(s, tileSize, keys, t.columns(), j0, lo, hi)
		return
	}
	rows, columns := t.hi-t.lo, t.columns()
	minusInf := math.Float32bits(float32(math.Inf(-1)))
	for i := range rows {
		from, to := int(lo[i]), int(hi[i])
		for block := j0 >> 4; block<<4 < j0+keys; block++ {
			first, last := max(j0, block<<4), min(j0+keys, (block+1)<<4)
			if first >= from && last <= to {
				continue
			}
			words := philox.Block(m.Key, philox.At(m.Step, 0, uint32(t.lo+i), uint32(block)))
			for j := first; j < last; j++ {
				// No branch on a random bit: hidden is all ones where the byte is not below Open.
				hidden := uint32(int32(m.Open-1-int(words[j>>2&3]>>(j&3<<3)&255)) >> 31)
				if j >= from && j < to {
					hidden = 0
				}
				for c := (j-j0)*tileSize + i; c < (j-j0)*tileSize+columns; c += rows { // the heads that share the tile
					s[c] = math.Float32frombits(math.Float32bits(s[c])&^hidden | minusInf&hidden)
				}
			}
		}
	}
}

// offsets are prefix sums of the tasks of each text, borrowed from a pool.
type offsets struct{ first []int }

var offsetPool = sync.Pool{New: func() any { return new(offsets) }}

func tasks(cu []int32, perText func(n int) int) (*offsets, int) {
	o := offsetPool.Get().(*offsets)
	o.first = append(o.first[:0], 0)
	total := 0
	for b := range len(cu) - 1 {
		if n := int(cu[b+1] - cu[b]); n > 0 {
			total += perText(n)
		}
		o.first = append(o.first, total)
	}
	return o, total
}

// find returns the text of a task and the task's number within the text.
func (o *offsets) find(task int) (text, within int) {
	text = sort.Search(len(o.first)-1, func(b int) bool { return o.first[b+1] > task })
	return text, task - o.first[text]
}

// one is the factor of rows that are copied as they are.
var one = []float32{1}

// pad8 rounds up to what the transpose kernel takes.
func pad8(n int) int { return (n + 7) &^ 7 }

// Attention: qkv [T, Width] packed and rotated, out [T, Query*Dim], lse [T, Query] (the log of each query's sum of
// exponentials, for the backward).
//
//	S = scale Q K^T, masked; P = exp(S - lse); out = P V
//
// Blocked with a running maximum (Dao: "FlashAttention-2", 2023, algorithm 1); the scores are never stored.
func Attention(p *pool.Pool, out, lse, qkv []float32, cu []int32, h Heads, m Mask, scale float32) {
	if len(cu) < 2 {
		return
	}
	tokens := int(cu[len(cu)-1])
	check("Attention qkv", len(qkv), tokens*h.Width())
	check("Attention out", len(out), tokens*h.Query*h.Dim)
	check("Attention lse", len(lse), tokens*h.Query)
	group := h.Query / h.KV
	list, total := tasks(cu, func(n int) int { return h.KV * cut(n, group).count })
	defer offsetPool.Put(list)
	p.For(total, func(task int) {
		b, i := list.find(total - 1 - task) // the long texts first, as in the backward
		n := int(cu[b+1] - cu[b])
		count := cut(n, group).count
		attend(tileOf(int(cu[b]), n, i/count, i%count, h, m), out, lse, qkv, h, m, scale)
	})
}

// attend computes one tile of the forward.
func attend(t tile, out, lse, qkv []float32, h Heads, m Mask, scale float32) {
	d, pad, width := h.Dim, pad8(h.Dim), h.Width()
	cols, rows := t.columns(), t.hi-t.lo
	buf := lend(5*tileSize*pad + tileSize*tileSize)
	defer buf.giveBack()
	a := arena{buf.f}
	q, qt := a.take(tileSize*pad), a.take(tileSize*pad)
	k, v := a.take(tileSize*pad), a.take(tileSize*pad)
	o, s := a.take(tileSize*pad), a.take(tileSize*tileSize)

	factor := [1]float32{scale}
	for i := range t.heads {
		scaleRows(q[i*rows*pad:], pad, qkv[(t.start+t.lo)*width+(t.head+i)*d:], width, rows, d, factor[:], 0)
	}
	transpose(qt, tileSize, q, pad, pad8(cols), pad)

	var lo, hi [tileSize]int32
	t.limits(m, &lo, &hi)
	var top, sum, shrink [tileSize]float32
	for c := range cols {
		top[c] = unseen
	}
	for j0 := t.firstK; j0 < t.endK; j0 += tileSize {
		keys := min(tileSize, t.endK-j0)
		row := qkv[(t.start+j0)*width:]
		scaleRows(k, pad, row[(h.Query+t.kv)*d:], width, keys, d, one, 0)
		scaleRows(v, pad, row[(h.Query+h.KV+t.kv)*d:], width, keys, d, one, 0)
		multiply(keys, cols, d, k, pad, 1, qt, tileSize, s, tileSize, false)
		if t.masked(m, j0, j0+keys) {
			t.mask(m, s, keys, j0, &lo, &hi)
		}
		softmaxTile(s, tileSize, keys, cols, &top, &sum, &shrink)
		if j0 > t.firstK {
			scaleRows(o, pad, o, pad, cols, d, shrink[:], 1)
		}
		multiply(cols, d, keys, s, 1, tileSize, v, pad, o, pad, j0 > t.firstK)
	}
	for i := range t.heads {
		first := i * rows
		for c := first; c < first+rows; c++ {
			at := (t.start+t.lo+c-first)*h.Query + t.head + i
			lse[at] = top[c] + float32(math.Log(float64(sum[c])))
			shrink[c] = 1 / sum[c]
		}
		at := (t.start+t.lo)*h.Query*d + (t.head+i)*d
		scaleRows(out[at:], h.Query*d, o[first*pad:], pad, rows, d, shrink[first:], 1)
	}
}
