package trainer

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/data"
)

// size is a model of the PyTorch peer (peer_step.py, SIZES): d, layers, heads, key/value heads, ff, vocabulary, bias of
// q, k and v, theta.
type size struct {
	name                            string
	d, layers, heads, kv, ff, vocab int
	bias                            bool
	theta                           float64
	rows                            int // pairs a step
	longest                         int // tokens of a text
}

var sizes = []size{
	{"tiny", 128, 4, 4, 2, 384, 8192, true, 1e6, 16, 256},
	{"small", 384, 6, 6, 2, 1536, 32768, true, 1e6, 8, 256},
	{"smollm2", 576, 30, 9, 3, 1536, 49152, false, 1e5, 4, 256},
	{"qwen0.5b", 896, 24, 14, 2, 4864, 151936, true, 1e6, 2, 128},
}

// linear is the number of weights of the model's linear layers: N of the flops that a step needs.
func (s size) linear() float64 {
	kv := s.kv * s.d / s.heads
	return float64(s.layers) * float64(2*s.d*s.d+2*kv*s.d+3*s.d*s.ff)
}

// shardTokens is train.shard_tokens of the benchmark: a step of one worker is one shard, or two.
const shardTokens = 4096

// triples are a step's texts as token ids: queries, positives, negatives.
type triples struct{ Query, Positive, Negative [][]int32 }

func (s size) batches(b *testing.B) (all []triples) {
	b.Helper()
	if path := os.Getenv("COUNTERPOINT_BATCHES"); path != "" {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<26)
		for lines.Scan() {
			var t triples
			if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
				b.Fatal(err)
			}
			for _, column := range [][][]int32{t.Query, t.Positive, t.Negative} {
				for _, ids := range column {
					for i := range ids { // a file of another size's vocabulary serves for its lengths
						ids[i] %= int32(s.vocab)
					}
				}
			}
			all = append(all, t)
		}
		if len(all) == 0 {
			b.Fatalf("%s: no batches (%v)", path, lines.Err())
		}
		return all
	}
	r := rand.New(rand.NewPCG(1, 1))
	column := func(median float64) (ids [][]int32) {
		for range s.rows {
			n := int(min(float64(s.longest), max(4, math.Round(median*math.Exp(0.6*r.NormFloat64())))))
			text := make([]int32, n)
			for i := range text {
				text[i] = int32(r.IntN(s.vocab))
			}
			ids = append(ids, text)
		}
		return ids
	}
	for range 8 {
		all = append(all, triples{column(24), column(96), column(96)})
	}
	return all
}

func tripleBatch(t triples) (data.Header, []*data.Shard) {
	h := data.Header{Queries: len(t.Query), Slots: 3 * len(t.Query)}
	var texts []data.Text
	for role, column := range [][][]int32{t.Query, t.Positive, t.Negative} {
		for i, ids := range column {
			if role > 0 {
				h.Docs = append(h.Docs, uint64(len(texts)))
			}
			texts = append(texts, data.Text{Slot: int32(len(texts)), Row: int64(i), Role: data.Role(role), Tokens: ids})
		}
	}
	return h, pack(&h, texts, shardTokens)
}

// folder writes a folder of random weights: Qwen2, or Llama where there are no biases.
func (s size) folder(b *testing.B) string {
	b.Helper()
	dir, family := b.TempDir(), "llama"
	if s.bias {
		family = "qwen2"
	}
	config := fmt.Sprintf(`{"model_type": %q, "hidden_size": %d, "num_hidden_layers": %d, "num_attention_heads": %d,
		"num_key_value_heads": %d, "intermediate_size": %d, "vocab_size": %d, "rope_theta": %.1f, "rms_norm_eps": 1e-6,
		"hidden_act": "silu", "max_position_embeddings": 4096, "tie_word_embeddings": true}`,
		family, s.d, s.layers, s.heads, s.kv, s.ff, s.vocab, s.theta)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		b.Fatal(err)
	}
	ones, normals := make([]float32, s.ff), make([]float32, s.vocab*s.d)
	for i := range ones {
		ones[i] = 1
	}
	r := rand.New(rand.NewPCG(1, 2))
	const period = 1000003 // drawn values; the tensors repeat them
	for i := range normals {
		if i < period {
			normals[i] = float32(0.02 * r.NormFloat64())
		} else {
			normals[i] = normals[i-period]
		}
	}
	var tensors []safetensors.Tensor
	add := func(name string, shape ...int) {
		n := 1
		for _, k := range shape {
			n *= k
		}
		v := normals
		if len(shape) == 1 && strings.HasSuffix(name, "weight") {
			v = ones
		}
		at := 0
		if n < len(v) {
			at = r.IntN(len(v) - n)
		}
		tensors = append(tensors, safetensors.Tensor{Name: name, Shape: shape, Values: v[at:][:n]})
	}
	add("model.embed_tokens.weight", s.vocab, s.d)
	kv := s.kv * s.d / s.heads
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
	add("model.norm.weight", s.d)
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		b.Fatal(err)
	}
	if err := safetensors.Write(f, tensors, nil); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return dir
}
