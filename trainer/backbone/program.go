package backbone

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
)

type programKey struct {
	kind
	engine.Extents // of the bucket
}

// program is a compiled graph and its frames that nobody uses.
type program struct {
	*engine.Program
	idle []*engine.Frame
}

// bucket rounds a size up to a multiple of a quarter of its power of two, so that a few programs serve all shards. It
// shows in memory only: kernels run on the actual size.
func bucket(n int) int {
	const least = 16
	if n <= least {
		return least
	}
	step := 1 << (bits.Len(uint(n-1)) - 3)
	return (n + step - 1) / step * step
}

func (m *Model) program(k kind, e engine.Extents) (*program, error) {
	e = engine.Extents{Tokens: bucket(e.Tokens), Texts: bucket(e.Texts), Picks: bucket(e.Picks)}
	if k.result != language && k.result != losses && k.result != logits {
		e.Picks = 0
	} else {
		k.dropout = k.dropout && k.result == language
	}
	if m.config.LoRA == nil || m.config.LoRA.Dropout == 0 {
		k.dropout = false
	}
	key := programKey{k, e}
	if p, ok := m.programs[key]; ok {
		return p, nil
	}
	g, ok := m.graphs[k]
	if !ok {
		var err error
		if g, _, err = m.build(k, symbols, nil); err != nil {
			return nil, err
		}
		m.graphs[k] = g
	}
	compiled, err := engine.Compile(m.dev, g.g, engine.Options{Largest: e, Weights: m.weights, Stages: g.stages, Fuse: true})
	if err != nil {
		return nil, fmt.Errorf("model: compile for %+v: %w", e, err)
	}
	p := &program{Program: compiled}
	m.programs[key] = p
	return p, nil
}

// frame lends a frame of the program on an idle arena, bound to the batch in m.pack.
func (m *Model) frame(p *program) (*engine.Frame, error) {
	best := -1
	for i, a := range m.idle {
		if a.Bytes() >= p.Bytes() && (best < 0 || a.Bytes() < m.idle[best].Bytes()) {
			best = i
		}
	}
	var arena engine.Memory
	m.lent++
	m.most = max(m.most, m.lent)
	if best >= 0 {
		arena = m.idle[best]
		m.idle = append(m.idle[:best], m.idle[best+1:]...)
	} else {
		if n := len(m.idle); n > 0 { // all too small: one is replaced, so that arenas do not pile up
			m.idle[n-1].Free()
			m.idle = m.idle[:n-1]
		}
		var err error
		if arena, err = engine.Arena(m.dev, p.Bytes()); err != nil {
			m.lent--
			return nil, fmt.Errorf("model: activations: %w", err)
		}
	}
	var f *engine.Frame
	if n := len(p.idle); n > 0 {
		f, p.idle = p.idle[n-1], p.idle[:n-1]
	} else {
		f = p.Frame()
	}
	err := errors.Join(f.Bind(arena, m.pack.extents), m.pack.set(f))
	if err != nil {
		m.giveBack(p, f)
		return nil, err
	}
	return f, nil
}

// giveBack takes a frame and its arena back. When the last is back, as after a step, only as many arenas stay as were
// lent at once since then: a worker that had more shards for once does not keep memory for them.
func (m *Model) giveBack(p *program, f *engine.Frame) {
	m.idle = append(m.idle, f.Arena())
	p.idle = append(p.idle, f)
	if m.lent--; m.lent > 0 {
		return
	}
	if len(m.idle) > m.most { // the largest stay
		slices.SortStableFunc(m.idle, func(a, b engine.Memory) int { return cmp.Compare(b.Bytes(), a.Bytes()) })
		for _, a := range m.idle[m.most:] {
			a.Free()
		}
		m.idle = m.idle[:m.most]
	}
	m.most = 0
}

// Bytes returns the memory that a batch of so many tokens and texts takes: to embed it, and to keep it for, and run,
// the backward pass. Of a model with a head it is the backward pass of a language objective that predicts every token,
// and embed is 0; of a frozen one backward is 0. It compiles the programs, but allocates nothing on the device.
func (m *Model) Bytes(tokens, texts int) (embed, backward int64, err error) {
	e := engine.Extents{Tokens: tokens, Texts: texts}
	if m.options.Head {
		e.Picks = tokens
		p, err := m.program(kind{result: language, attention: m.attention(true), dropout: true}, e)
		if err != nil {
			return 0, 0, err
		}
		return 0, p.Bytes(), nil
	}
	small, err := m.program(m.kind(embeddings, true), e)
	if err != nil {
		return 0, 0, err
	}
	if m.options.Frozen {
		return small.Bytes(), 0, nil
	}
	large, err := m.program(m.kind(gradients, true), e)
	if err != nil {
		return 0, 0, err
	}
	return small.Bytes(), large.Bytes(), nil
}
