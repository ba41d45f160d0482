package encode

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
)

// shape is a model of the PyTorch peer (peer_step.py, SIZES).
type shape struct {
	name                                  string
	d, layers, heads, kv, ff, vocab, rows int
	bias                                  bool
	longest                               float64
}

var shapes = []shape{
	{"small", 384, 6, 6, 2, 1536, 32768, 16, true, 256},
	{"smollm2", 576, 30, 9, 3, 1536, 49152, 4, false, 256},
	{"qwen0.5b", 896, 24, 14, 2, 4864, 151936, 2, true, 128},
}

// linear counts the weights of the linear layers.
func (s shape) linear() int {
	kv := s.kv * s.d / s.heads
	return s.layers * (2*s.d*s.d + 2*kv*s.d + 3*s.d*s.ff)
}

// config is the shape's config.json.
func (s shape) config() string {
	family, theta := "qwen2", 1e6
	if !s.bias {
		family, theta = "llama", 1e5
	}
	return fmt.Sprintf(`{"model_type": %q, "hidden_size": %d, "num_hidden_layers": %d, "num_attention_heads": %d,
		"num_key_value_heads": %d, "intermediate_size": %d, "vocab_size": %d, "rope_theta": %g, "rms_norm_eps": 1e-6,
		"hidden_act": "silu", "max_position_embeddings": 32768, "tie_word_embeddings": true}`,
		family, s.d, s.layers, s.heads, s.kv, s.ff, s.vocab, theta)
}

// encoder makes a model of random weights, which are never in a file.
func (s shape) encoder(tb testing.TB, dev *cpu.Device) *Encoder {
	tb.Helper()
	a, err := backbone.ParseArchitecture([]byte(s.config()))
	if err != nil {
		tb.Fatal(err)
	}
	base, err := backbone.Open(a, newMade(s), s.name)
	if err != nil {
		tb.Fatal(err)
	}
	e := &Encoder{Settings: Settings{Pooling: "mean", PoolPrompt: true, Normalize: true}, base: base, batch: defaultBatch}
	c := backbone.Config{Attention: backbone.Bidirectional, Pooling: "mean"}
	if e.model, err = backbone.New(base, dev, c, backbone.Options{Frozen: true}); err != nil {
		tb.Fatal(err)
	}
	return e
}

// made is the tensors of a shape, made when they are asked for: normal with deviation 0.02, norms 1.
type made map[string]safetensors.Info

func newMade(s shape) made {
	m := made{}
	add := func(name string, dims ...int) {
		m[name] = safetensors.Info{Name: name, DType: safetensors.F32, Shape: dims}
	}
	kv := s.kv * s.d / s.heads
	add("model.embed_tokens.weight", s.vocab, s.d)
	add("model.norm.weight", s.d)
	for i := range s.layers {
		layer := fmt.Sprintf("model.layers.%d.", i)
		for _, p := range []struct {
			name    string
			out, in int
			bias    bool
		}{
			{"self_attn.q_proj", s.d, s.d, s.bias},
			{"self_attn.k_proj", kv, s.d, s.bias},
			{"self_attn.v_proj", kv, s.d, s.bias},
			{"self_attn.o_proj", s.d, s.d, false},
			{"mlp.gate_proj", s.ff, s.d, false},
			{"mlp.up_proj", s.ff, s.d, false},
			{"mlp.down_proj", s.d, s.ff, false},
		} {
			add(layer+p.name+".weight", p.out, p.in)
			if p.bias {
				add(layer+p.name+".bias", p.out)
			}
		}
		add(layer+"input_layernorm.weight", s.d)
		add(layer+"post_attention_layernorm.weight", s.d)
	}
	return m
}

func (m made) Names() (names []string) {
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (m made) Info(name string) (safetensors.Info, bool) {
	info, ok := m[name]
	return info, ok
}

func (m made) Bytes(string) ([]byte, error) { return nil, nil }

func (m made) Float32(dst []float32, name string) ([]float32, error) {
	r := rand.New(rand.NewPCG(uint64(len(name)), uint64(name[len(name)/2])))
	table := make([]float32, 1<<12) // a table of numbers, not a stream: this is half a billion of them
	for i := range table {
		table[i] = float32(0.02 * r.NormFloat64())
	}
	info := m[name]
	for range info.Elements() {
		v := float32(1)
		if len(info.Shape) == 2 || name[len(name)-4:] == "bias" {
			v = table[r.Uint32()%uint32(len(table))]
		}
		dst = append(dst, v)
	}
	return dst, nil
}

func (m made) Close() error { return nil }
