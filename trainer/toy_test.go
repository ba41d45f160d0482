package trainer

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
)

// toy is a model that is quick to compute: state h_t = tanh(W x_t + b) with x_t a row of a table [V, d], an embedding
// is the unit mean of a text's states, logits are h_t against the table. It rounds in float32 and has no state but its
// parameters. At step inflated the gradients of some shards are 1e4 times larger: beyond the head-room.
type toy struct {
	v, d int
	w    []float32 // table, W, b

	second, saved int // backward passes that began with a second forward pass, and that had activations
}

const inflated = 3

func newToy(v, d int) *toy {
	r := rand.New(rand.NewPCG(3, 4))
	m := &toy{v: v, d: d, w: make([]float32, v*d+d*d+d)}
	for i := range m.w {
		m.w[i] = float32(r.NormFloat64() * 0.5)
	}
	return m
}

func (m *toy) Params() []backbone.Param {
	return []backbone.Param{
		{Name: "table", Shape: []int{m.v, m.d}, Decay: true},
		{Name: "w", Shape: []int{m.d, m.d}, Offset: m.v * m.d, Decay: true},
		{Name: "b", Shape: []int{m.d}, Offset: m.v*m.d + m.d*m.d},
	}
}
func (m *toy) Parameters() []float32 { return m.w }
func (m *toy) Updated() error        { return nil }
func (m *toy) Width() int            { return m.d }
func (m *toy) MaskToken() int32      { return int32(m.v - 1) }

func (m *toy) parts(x []float32) (table, w, b []float32) {
	return x[:m.v*m.d], x[m.v*m.d : m.v*m.d+m.d*m.d], x[m.v*m.d+m.d*m.d:]
}

// states returns h [T, d] of token ids.
func (m *toy) states(ids []int32) []float32 {
	table, w, b := m.parts(m.w)
	h := make([]float32, len(ids)*m.d)
	for t, id := range ids {
		for i := range m.d {
			s := b[i]
			for j := range m.d {
				s += float32(w[i*m.d+j] * table[int(id)*m.d+j])
			}
			h[t*m.d+i] = float32(math.Tanh(float64(s)))
		}
	}
	return h
}

// back adds the gradient of the parameters below dh [T, d].
func (m *toy) back(ids []int32, h, dh, grad []float32) {
	table, w, _ := m.parts(m.w)
	dTable, dw, db := m.parts(grad)
	for t, id := range ids {
		for i := range m.d {
			g := dh[t*m.d+i] * float32(1-h[t*m.d+i]*h[t*m.d+i])
			db[i] += g
			for j := range m.d {
				dw[i*m.d+j] += float32(g * table[int(id)*m.d+j])
				dTable[int(id)*m.d+j] += float32(g * w[i*m.d+j])
			}
		}
	}
}

type toyStates []float32

func (a toyStates) Bytes() int64 { return int64(4 * len(a)) }
func (a toyStates) Free()        {}

func (m *toy) Embed(p backbone.Batch, keep int64) ([]float32, activations, error) {
	h := m.states(tokens(p.Texts))
	var rows []float32
	m.each(p.Texts, func(_ *data.Text, lo, hi int) {
		u, _ := m.pool(h, lo, hi)
		rows = append(rows, u...)
	})
	if a := toyStates(h); a.Bytes() <= keep {
		return rows, a, nil
	}
	return rows, nil, nil
}

func (m *toy) each(texts []data.Text, f func(t *data.Text, lo, hi int)) {
	lo := 0
	for i := range texts {
		f(&texts[i], lo, lo+len(texts[i].Tokens))
		lo += len(texts[i].Tokens)
	}
}

// pool returns the unit mean of h[lo:hi] and the length of the mean.
func (m *toy) pool(h []float32, lo, hi int) (u []float32, length float64) {
	mean := make([]float64, m.d)
	for t := lo; t < hi; t++ {
		for i := range m.d {
			mean[i] += float64(h[t*m.d+i]) / float64(hi-lo)
		}
	}
	u64, n := contrastive.Unit(mean, m.d)
	for _, x := range u64 {
		u = append(u, float32(x))
	}
	return u, n[0]
}

func (m *toy) EmbedBackward(p backbone.Batch, dE, grad []float32, a activations) error {
	clear(grad)
	ids := tokens(p.Texts)
	h, ok := a.(toyStates)
	if ok {
		m.saved++
	} else {
		m.second++
		h = m.states(ids)
	}
	dh := make([]float32, len(h))
	row := 0
	m.each(p.Texts, func(_ *data.Text, lo, hi int) {
		u, length := m.pool(h, lo, hi)
		g := dE[row*m.d : (row+1)*m.d]
		along := float32(0)
		for i := range m.d {
			along += float32(u[i] * g[i])
		}
		for i := range m.d {
			x := float32(float64(g[i]-float32(u[i]*along)) / length / float64(hi-lo))
			if p.Step == inflated && ids[0]%2 == 1 {
				x *= 1e4
			}
			for t := lo; t < hi; t++ {
				dh[t*m.d+i] = x
			}
		}
		row++
	})
	m.back(ids, h, dh, grad)
	return nil
}

func (m *toy) LanguageBackward(_ backbone.Batch, p backbone.Prediction, grad []float32) (loss float64, err error) {
	clear(grad)
	table, _, _ := m.parts(m.w)
	dTable, _, _ := m.parts(grad)
	h := m.states(p.Inputs)
	dh := make([]float32, len(h))
	for k, at := range p.Position {
		hk := h[int(at)*m.d : int(at+1)*m.d]
		z := make([]float64, m.v)
		sum := 0.0
		for v := range z {
			for i := range m.d {
				z[v] += float64(hk[i] * table[v*m.d+i])
			}
			sum += math.Exp(z[v])
		}
		lse := math.Log(sum)
		loss += float64(p.Weight[k]) * (lse - z[p.Target[k]])
		for v := range z {
			g := p.Weight[k] * float32(math.Exp(z[v]-lse))
			if v == int(p.Target[k]) {
				g -= p.Weight[k]
			}
			for i := range m.d {
				dh[int(at)*m.d+i] += float32(g * table[v*m.d+i])
				dTable[v*m.d+i] += float32(g * hk[i])
			}
		}
	}
	m.back(p.Inputs, h, dh, grad)
	return loss, nil
}

func tokens(texts []data.Text) (ids []int32) {
	for _, t := range texts {
		ids = append(ids, t.Tokens...)
	}
	return ids
}

// batch returns a global batch of texts with ids below v, packed into shards of at most about size tokens.
func batch(r *rand.Rand, kind string, queries, v, size int) (data.Header, []*data.Shard) {
	var texts []data.Text
	add := func(role data.Role, row int) {
		t := data.Text{Slot: int32(len(texts)), Row: int64(row), Role: role, Doc: uint64(1000 + len(texts))}
		for range 1 + r.IntN(12) {
			t.Tokens = append(t.Tokens, int32(r.IntN(v)))
		}
		texts = append(texts, t)
	}
	h := data.Header{Queries: queries}
	for role := range data.Negative {
		for i := range queries {
			add(role, i)
		}
	}
	for i := range queries {
		n := r.IntN(3)
		h.Negatives = append(h.Negatives, int32(n))
		for range n {
			add(data.Negative, i)
		}
	}
	h.Slots = len(texts)
	for _, t := range texts[queries:] {
		h.Docs = append(h.Docs, t.Doc)
	}
	if !(contrastive.Config{Kind: kind}).Embeds() {
		h.Queries, h.Negatives, h.Docs = 0, nil, nil
		for _, t := range texts {
			h.Divisor += float64(len(t.Tokens))
			if kind == contrastive.CausalLM {
				h.Divisor--
			}
		}
	}
	return h, pack(&h, texts, size)
}

// pack sorts texts by length and fills shards.
func pack(h *data.Header, texts []data.Text, size int) (shards []*data.Shard) {
	slices.SortStableFunc(texts, func(a, b data.Text) int { return len(a.Tokens) - len(b.Tokens) })
	for _, t := range texts {
		if n := len(shards); n == 0 || shards[n-1].Tokens()+len(t.Tokens) > size {
			shards = append(shards, &data.Shard{Index: n})
		}
		last := shards[len(shards)-1]
		last.Texts = append(last.Texts, t)
	}
	for _, s := range shards {
		h.Tokens = append(h.Tokens, int32(s.Tokens()))
	}
	return shards
}
