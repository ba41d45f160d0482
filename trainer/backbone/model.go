package backbone

import (
	"errors"
	"fmt"
	"slices"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// Param is one trainable tensor.
type Param struct {
	Name   string // as on the hub; of an adapter as PEFT writes it
	Shape  []int
	Offset int  // of its first value in Parameters
	Decay  bool // two-dimensional: weight decay applies
}

// Options are what a model is made for, besides its Config.
type Options struct {
	Head   bool // a language objective: the head takes part, and trains if all parameters do
	Frozen bool // nothing trains: the model only embeds, and without config.LoRA has no parameters
	Raw    bool // training embeds as pooled, without normalising: for a loss of plain products
	Seed   uint64
}

// Model is a backbone on a device: trainable parameters of its own, frozen weights shared with the other models of its
// Base, and compiled programs. Its methods are called from one goroutine at a time.
type Model struct {
	arch    Architecture
	config  Config
	options Options
	dev     engine.Device
	pooling ops.Pooling

	params     []Param
	groups     []group // trainable, in tensor order
	parameters []float32
	flat, grad engine.Tensor            // [P]
	weights    map[string]engine.Tensor // of every group that may be in a graph

	graphs   map[kind]*graph
	programs map[programKey]*program
	idle     []engine.Memory // arenas that no frame uses
	lent     int             // arenas that frames use
	most     int             // of them at once, since all were back
	pack     packed
}

// New makes a model of the base's weights. Without config.LoRA all parameters train; with it only the adapters do.
func New(base *Base, dev engine.Device, config Config, o Options) (*Model, error) {
	m := &Model{
		arch: base.Architecture, config: config, options: o, dev: dev,
		weights: map[string]engine.Tensor{}, graphs: map[kind]*graph{}, programs: map[programKey]*program{},
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	frozen := m.arch.groups(o.Head)
	switch {
	case config.LoRA != nil:
		m.groups = m.arch.adapters(config.LoRA)
	case !o.Frozen:
		m.groups, frozen = frozen, nil
	}
	if err := m.allocate(); err != nil {
		return nil, err
	}
	for _, g := range frozen {
		t, err := base.share(dev, g)
		if err != nil {
			return nil, err
		}
		m.weights[g.key] = t
	}
	at := 0
	for i, g := range m.groups {
		dst := m.parameters[at : at+g.size()]
		if config.LoRA != nil {
			initAdapter(g, dst, o.Seed, i)
		} else if err := base.read(g, dst); err != nil {
			return nil, err
		}
		at += g.size()
	}
	if config.LoRA != nil && config.Adapter != "" {
		if base.initial == nil {
			return nil, fmt.Errorf("model.adapter: %s: the base was loaded without it", config.Adapter)
		}
		if err := base.continueFrom(m); err != nil {
			return nil, err
		}
	}
	return m, m.Updated()
}

func (m *Model) check() error {
	switch m.config.Pooling {
	case "":
		m.pooling = ops.Mean
	case string(ops.Mean), string(ops.WeightedMean), string(ops.LastToken), string(ops.FirstToken):
		m.pooling = ops.Pooling(m.config.Pooling)
	default:
		return fmt.Errorf("model.pooling: %q, want %s, %s, %s or %s", m.config.Pooling, ops.Mean, ops.WeightedMean, ops.LastToken, ops.FirstToken)
	}
	c := &m.config
	switch {
	case !slices.Contains([]string{"", Causal, Bidirectional, Annealed, bidirectionalWindow}, c.Attention):
		return fmt.Errorf("model.attention: %q, want %s, %s or %s", c.Attention, Causal, Bidirectional, Annealed)
	case !slices.Contains([]string{"", Causal, Bidirectional, bidirectionalWindow}, c.EvalAttention):
		return fmt.Errorf("model.eval_attention: %q, want %s or %s", c.EvalAttention, Causal, Bidirectional)
	case (c.Attention == Annealed) != (c.AnnealSteps > 0):
		return fmt.Errorf("model.anneal_steps: %d with model.attention: %q, want some steps for %s and 0 for others", c.AnnealSteps, c.Attention, Annealed)
	}
	if m.config.LoRA != nil {
		return errors.Join(m.config.LoRA.check(), m.arch.checkPatterns(m.config.LoRA))
	}
	return nil
}

// allocate lays the trainable tensors out and makes the flat parameters and their gradient.
func (m *Model) allocate() error {
	size := 0
	for _, g := range m.groups {
		at := size
		for _, t := range g.members {
			m.params = append(m.params, Param{Name: t.name, Shape: t.shape, Offset: at, Decay: len(t.shape) == 2})
			at += t.size()
		}
		size = at
	}
	for _, t := range []*engine.Tensor{&m.flat, &m.grad} {
		*t = engine.Tensor{Rank: 1, Shape: [2]int{size}}
		mem, err := m.dev.Alloc(t.Bytes())
		if err != nil {
			return fmt.Errorf("model: memory of %d parameters: %w", size, err)
		}
		t.Mem = mem
	}
	if host := m.dev.Host(m.flat); host != nil {
		m.parameters = engine.View[float32](host)
	} else {
		m.parameters = make([]float32, size)
	}
	at := 0
	for _, g := range m.groups {
		m.weights[g.key] = slice(m.flat, at, g.shape)
		at += g.size()
	}
	return nil
}

// slice is the part of a flat tensor that holds a group.
func slice(flat engine.Tensor, at int, shape []int) engine.Tensor {
	t := engine.Tensor{Rank: len(shape), Mem: flat.Mem, Offset: flat.Offset + 4*int64(at)}
	copy(t.Shape[:], shape)
	return t
}

// Params lists the trainable tensors in tensor order.
func (m *Model) Params() []Param { return m.params }

// Parameters returns the trainable parameters [P], shared: who writes them calls Updated before the next computation.
func (m *Model) Parameters() []float32 { return m.parameters }

// Updated brings changed parameters to the device.
func (m *Model) Updated() error {
	if len(m.parameters) == 0 || m.dev.Host(m.flat) != nil {
		return nil
	}
	return m.dev.Write(m.flat, engine.Bytes(m.parameters))
}

// Architecture returns what the model is.
func (m *Model) Architecture() Architecture { return m.arch }

// Width returns D, the length of an embedding.
func (m *Model) Width() int { return m.arch.Width }

// MaskToken returns the id that masked diffusion puts in the place of a token, -1 if the family has none.
func (m *Model) MaskToken() int32 { return int32(m.arch.MaskToken) }

// Free gives back the memory of the model's own tensors and arenas. The base's weights stay.
func (m *Model) Free() {
	m.flat.Mem.Free()
	m.grad.Mem.Free()
	for _, a := range m.idle {
		a.Free()
	}
	m.idle = nil
}

// attention returns the mask of training or evaluation.
func (m *Model) attention(training bool) string {
	a := m.config.Attention
	if !training {
		a = m.config.Evaluation()
	}
	switch {
	case a != "":
		return a
	case m.arch.Bidirectional:
		return Bidirectional
	default:
		return Causal
	}
}
