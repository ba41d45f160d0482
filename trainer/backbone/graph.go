package backbone

import (
	"fmt"

	"gorgonia.org/gorgonia"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// what a graph computes.
type result uint8

const (
	embeddings result = iota // E
	gradients                // E; then the gradient of sum(E * dE)
	language                 // the loss of a prediction and its gradient
	losses                   // the loss of each term of a prediction
	hidden                   // states after the final norm
	logits                   // the head on picked positions
)

// kind says which graph: its result, mask, and whether dropout is on. One graph serves all sizes of batches.
type kind struct {
	result    result
	attention string
	dropout   bool
	raw       bool // embeddings are not normalised
}

// bidirectionalWindow is transformers' reading of a sliding window without a causal mask. Tests only.
const bidirectionalWindow = "bidirectional_window"

// graph is a built graph and the outputs of its stages.
type graph struct {
	g      *gorgonia.ExprGraph
	stages [][]engine.Output
}

// builder builds one graph.
type builder struct {
	*ops.Builder
	m      *Model
	k      kind
	nodes  map[string]*gorgonia.Node // weights, by group
	ids    *gorgonia.Node
	cu     *gorgonia.Node
	texts  *gorgonia.Node
	step   *gorgonia.Node
	frozen bool
}

// sizes are the dimensions of a graph: package engine's symbols, or plain numbers for other machines.
type sizes struct{ tokens, texts, picks int }

var symbols = sizes{engine.Tokens, engine.Texts, engine.Picks}

// build makes the graph of one kind. host is for gorgonia's own machines, in tests.
func (m *Model) build(k kind, s sizes, host ops.Host) (*graph, *builder, error) {
	b := &builder{Builder: ops.New(host), m: m, k: k, nodes: map[string]*gorgonia.Node{}, frozen: m.config.LoRA != nil || m.options.Frozen}
	b.ids, b.cu = b.Input(ops.Ints, "ids", s.tokens), b.Input(ops.Ints, "cu", s.texts+1)
	b.texts, b.step = b.Input(ops.Ints, "texts", s.texts), b.Input(ops.Ints, "step", 1)

	x := b.Apply(ops.Embed{Frozen: b.frozen}, b.ids, b.weight("embed"))
	for i := range m.arch.Layers {
		x = b.layer(x, i)
	}
	h := b.norm(x, "norm")

	var stages [][]*gorgonia.Node
	switch k.result {
	case hidden:
		stages = [][]*gorgonia.Node{{h}}
	case embeddings, gradients:
		skip := b.Input(ops.Ints, "skip", s.texts)
		e := b.Apply(ops.Pool{Kind: m.pooling}, h, b.cu, skip)
		if !k.raw {
			e = b.Apply(ops.Normalize{}, e)
		}
		stages = [][]*gorgonia.Node{{e}}
		if k.result == gradients {
			dE := b.Input(ops.Matrix, "dE", s.texts, m.arch.Width)
			stages = append(stages, b.differentiate(b.Apply(ops.Surrogate{}, e, dE)))
		}
	default:
		rows := b.Input(ops.Ints, "rows", s.picks)
		picked := b.Apply(ops.Select{}, h, rows)
		head := b.weight(m.headKey())
		switch k.result {
		case logits:
			stages = [][]*gorgonia.Node{{b.Apply(ops.Linear{Frozen: true}, picked, head)}}
		case losses:
			targets := b.Input(ops.Ints, "targets", s.picks)
			stages = [][]*gorgonia.Node{{b.Apply(ops.TokenLosses{}, picked, head, targets)}}
		case language:
			targets, weights := b.Input(ops.Ints, "targets", s.picks), b.Input(ops.Vector, "weights", s.picks)
			cost := b.Apply(ops.CrossEntropy{Frozen: b.frozen}, picked, head, targets, weights)
			grads := b.differentiate(cost)
			stages = [][]*gorgonia.Node{append([]*gorgonia.Node{ops.LossOf(b.Builder, cost)}, grads...)}
		}
	}
	if err := b.Err(); err != nil {
		return nil, nil, fmt.Errorf("model: graph: %w", err)
	}
	g := &graph{g: b.Graph()}
	for _, nodes := range stages {
		var outs []engine.Output
		for _, n := range nodes {
			outs = append(outs, engine.Output{Node: n, Into: b.gradientOf(n)})
		}
		g.stages = append(g.stages, outs)
	}
	return g, b, nil
}

// layer is the pre-norm block: x += o(attention(rotary(qkv(norm x)))); x += down(swiglu(gateup(norm x))).
func (b *builder) layer(x *gorgonia.Node, i int) *gorgonia.Node {
	a := &b.m.arch
	prefix := fmt.Sprintf("%d.", i)
	p := a.projections()

	qkv := b.linear(b.norm(x, prefix+"norm1"), prefix, i, 0, p)
	if a.HeadNorm {
		qkv = b.Apply(ops.HeadNorm{Heads: a.Heads, KV: a.KV, HeadDim: a.HeadDim, Eps: a.Eps, Frozen: b.frozen},
			qkv, b.weight(prefix+"qnorm"), b.weight(prefix+"knorm"))
	}
	qkv = b.Apply(ops.Rotary{Heads: a.Heads, KV: a.KV, HeadDim: a.HeadDim, Frequencies: a.Frequencies}, qkv, b.cu)
	att := b.attention(ops.Attention{Heads: a.Heads, KV: a.KV, HeadDim: a.HeadDim, Mask: b.mask(i)}, qkv)
	x = b.Apply(ops.Add{}, x, b.linear(att, prefix, i, 1, p))

	gateup := b.linear(b.norm(x, prefix+"norm2"), prefix, i, 2, p)
	return b.Apply(ops.Add{}, x, b.linear(b.Apply(ops.SwiGLU{}, gateup), prefix, i, 3, p))
}

func (b *builder) attention(spec ops.Attention, qkv *gorgonia.Node) *gorgonia.Node {
	if spec.Mask.Anneal.Steps > 0 {
		return b.Apply(spec, qkv, b.cu, b.step)
	}
	return b.Apply(spec, qkv, b.cu)
}

func (b *builder) mask(layer int) ops.Mask {
	window := 0
	if layer >= b.m.arch.WindowFrom {
		window = b.m.arch.Window
	}
	switch b.k.attention {
	case Causal:
		return ops.Mask{Causal: true, Window: window}
	case Annealed:
		return ops.Mask{Causal: true, Window: window, Anneal: ops.Anneal{Steps: b.m.config.AnnealSteps, Seed: b.m.options.Seed}}
	case bidirectionalWindow:
		return ops.Mask{Window: window}
	default:
		return ops.Mask{}
	}
}

func (b *builder) norm(x *gorgonia.Node, key string) *gorgonia.Node {
	return b.Apply(ops.RMSNorm{Eps: b.m.arch.Eps, Frozen: b.frozen}, x, b.weight(key))
}

// linear is projection j of a layer, with its adapters.
func (b *builder) linear(x *gorgonia.Node, prefix string, layer, j int, list []projection) *gorgonia.Node {
	p := list[j]
	w := b.weight(prefix + p.key)
	var bias []*gorgonia.Node
	if p.bias {
		bias = append(bias, b.weight(prefix+p.key+".bias"))
	}
	if lora := b.m.config.LoRA; lora != nil {
		if parts, scale := b.m.arch.parts(lora, layer, p); len(parts) > 0 {
			down := ops.Down{Scale: scale}
			if b.k.dropout {
				down.Dropout = ops.Dropout{Rate: lora.Dropout, Seed: b.m.options.Seed, Site: uint32(layer*len(list) + j + 1)}
			}
			h := b.Apply(down, x, b.weight(prefix+p.key+".A"), b.texts, b.cu, b.step)
			in := append([]*gorgonia.Node{x, w, h, b.weight(prefix + p.key + ".B")}, bias...)
			return b.Apply(ops.Up{Bias: p.bias, Parts: parts}, in...)
		}
	}
	return b.Apply(ops.Linear{Bias: p.bias, Frozen: b.frozen}, append([]*gorgonia.Node{x, w}, bias...)...)
}

// weight returns the leaf of a group.
func (b *builder) weight(key string) *gorgonia.Node {
	if n, ok := b.nodes[key]; ok {
		return n
	}
	t, ok := b.m.weights[key]
	if !ok {
		panic(fmt.Sprintf("backbone: no weight %q: groups and graph disagree", key))
	}
	kind := ops.Matrix
	if t.Rank == 1 {
		kind = ops.Vector
	}
	n := b.Input(kind, key, t.Shape[:t.Rank]...)
	b.nodes[key] = n
	return n
}

// differentiate returns the gradients of the trainable groups that the cost depends on.
func (b *builder) differentiate(cost *gorgonia.Node) []*gorgonia.Node {
	var wrt []*gorgonia.Node
	for _, g := range b.m.groups {
		if n, ok := b.nodes[g.key]; ok {
			wrt = append(wrt, n)
		}
	}
	return b.Grad(cost, wrt...)
}

// gradientOf returns where in the flat gradient a node belongs, nil if it is no gradient of a trainable group.
func (b *builder) gradientOf(n *gorgonia.Node) *engine.Tensor {
	at := 0
	for _, g := range b.m.groups {
		if w, ok := b.nodes[g.key]; ok && w.Deriv() == n {
			t := slice(b.m.grad, at, g.shape)
			return &t
		}
		at += g.size()
	}
	return nil
}

func (m *Model) headKey() string {
	if m.arch.Tied {
		return "embed"
	}
	return "head"
}
