package backbone

import (
	"fmt"
	"slices"
	"strings"
)

// family is a row of the table of model types: where it differs from Llama.
type family struct {
	qkvBias       bool
	headNorm      bool
	bidirectional bool
	shift         bool
	windowOff     bool            // sliding_window needs use_sliding_window
	spelling      func(*hfConfig) // translates keys of its own
	names         *strings.Replacer
	head          string // name of the language-model head; "" = lm_head.weight
}

var families = map[string]family{
	"llama":   {},
	"mistral": {},
	"qwen2":   {qkvBias: true, windowOff: true},
	"qwen3":   {headNorm: true, windowOff: true},
	"Dream":   {qkvBias: true, windowOff: true, bidirectional: true, shift: true},
	"llada": {
		bidirectional: true, spelling: lladaSpelling, head: "model.transformer.ff_out.weight",
		names: strings.NewReplacer(
			"model.embed_tokens.", "model.transformer.wte.", "model.norm.", "model.transformer.ln_f.",
			"model.layers.", "model.transformer.blocks.", "input_layernorm", "attn_norm", "post_attention_layernorm", "ff_norm",
			"self_attn.q_proj", "q_proj", "self_attn.k_proj", "k_proj", "self_attn.v_proj", "v_proj", "self_attn.o_proj", "attn_out",
			"mlp.gate_proj", "ff_proj", "mlp.up_proj", "up_proj", "mlp.down_proj", "ff_out"),
	},
}

func supported() string {
	var names []string
	for name := range families {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func lladaSpelling(c *hfConfig) {
	c.HiddenSize, c.NumLayers, c.NumHeads, c.NumKV = c.DModel, c.NLayers, c.NHeads, c.NKVHeads
	c.IntermediateSize, c.MaxPositions, c.Tied = c.MLPHiddenSize, c.MaxSequence, c.WeightTying
	if c.EmbeddingSize > 0 {
		c.VocabSize = c.EmbeddingSize
	}
	c.HiddenAct, c.MLPBias, c.AttentionBias = c.Activation, c.IncludeBias, c.IncludeBias || c.QKVBias
	if c.BlockType != "llama" {
		c.HiddenAct = fmt.Sprintf("of block_type %s", c.BlockType)
	}
}

// name returns a tensor's name on disk, given its name in Llama.
func (a *Architecture) name(llama string) string {
	row := families[a.Family]
	if llama == headName && row.head != "" {
		return row.head
	}
	if row.names != nil {
		return row.names.Replace(llama)
	}
	return llama
}

const headName = "lm_head.weight"

// tensor is one tensor of a checkpoint.
type tensor struct {
	name  string // as on disk
	shape []int
}

func (t tensor) size() int {
	n := 1
	for _, d := range t.shape {
		n *= d
	}
	return n
}

// group is one or more tensors that lie one after another and are one matrix or vector of the graph: q, k and v, for
// example.
type group struct {
	key     string
	shape   []int
	members []tensor
}

func (g group) size() int {
	n := 1
	for _, d := range g.shape {
		n *= d
	}
	return n
}

// projection is a fused linear of a layer and the names of its parts.
type projection struct {
	key    string // qkv, o, gateup, down
	module string // self_attn or mlp
	parts  []string
	widths []int
	in     int
	bias   bool
}

// projections lists the fused linears of a layer in the order of the graph.
func (a *Architecture) projections() []projection {
	q, kv := a.Heads*a.HeadDim, a.KV*a.HeadDim
	return []projection{
		{"qkv", "self_attn", []string{"q_proj", "k_proj", "v_proj"}, []int{q, kv, kv}, a.Width, a.QKVBias},
		{"o", "self_attn", []string{"o_proj"}, []int{a.Width}, q, a.OBias},
		{"gateup", "mlp", []string{"gate_proj", "up_proj"}, []int{a.FF, a.FF}, a.Width, false},
		{"down", "mlp", []string{"down_proj"}, []int{a.Width}, a.FF, false},
	}
}

// groups lists all tensors of a checkpoint, in tensor order. head: with the head, where it is not tied.
func (a *Architecture) groups(head bool) []group {
	one := func(key, name string, shape ...int) group {
		return group{key, shape, []tensor{{a.name(name), shape}}}
	}
	out := []group{one("embed", "model.embed_tokens.weight", a.Vocab, a.Width)}
	for i := range a.Layers {
		layer, prefix := fmt.Sprintf("%d.", i), fmt.Sprintf("model.layers.%d.", i)
		p := a.projections()
		out = append(out, one(layer+"norm1", prefix+"input_layernorm.weight", a.Width))
		out = append(out, a.linear(layer, prefix, p[0])...)
		if a.HeadNorm {
			out = append(out, one(layer+"qnorm", prefix+"self_attn.q_norm.weight", a.HeadDim),
				one(layer+"knorm", prefix+"self_attn.k_norm.weight", a.HeadDim))
		}
		out = append(out, a.linear(layer, prefix, p[1])...)
		out = append(out, one(layer+"norm2", prefix+"post_attention_layernorm.weight", a.Width))
		out = append(out, a.linear(layer, prefix, p[2])...)
		out = append(out, a.linear(layer, prefix, p[3])...)
	}
	out = append(out, one("norm", "model.norm.weight", a.Width))
	if head && !a.Tied {
		out = append(out, one("head", headName, a.Vocab, a.Width))
	}
	return out
}

func (a *Architecture) linear(layer, prefix string, p projection) []group {
	w, b := group{key: layer + p.key}, group{key: layer + p.key + ".bias"}
	n := 0
	for i, part := range p.parts {
		name := prefix + p.module + "." + part
		w.members = append(w.members, tensor{a.name(name + ".weight"), []int{p.widths[i], p.in}})
		b.members = append(b.members, tensor{a.name(name + ".bias"), []int{p.widths[i]}})
		n += p.widths[i]
	}
	w.shape, b.shape = []int{n, p.in}, []int{n}
	if p.bias {
		return []group{w, b}
	}
	return []group{w}
}
