package trainer

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
	"github.com/counterpoint-ml/counterpoint/trainer/optim"
)

// size is a model of the PyTorch peer (peer_step.py, SIZES): d, layers, heads, key/value heads, ff, vocabulary.
type size struct {
	name                                  string
	d, layers, heads, kv, ff, vocab, rows int
}

var sizes = []size{
	{"tiny", 128, 4, 4, 2, 384, 8192, 16},
	{"small", 384, 6, 6, 2, 1536, 32768, 8},
}

// BenchmarkTrainStep measures whole training steps in real tokens a second, as the PyTorch peer does: triples with
// one hard negative, bidirectional, mean pooling, temperature 0.05, AdamW with clipping. COUNTERPOINT_BATCHES names a
// file that `peer_step.py --batches` wrote, for the peer's own lengths; without it lengths are drawn alike.
func BenchmarkTrainStep(b *testing.B) {
	for _, s := range sizes {
		dir := s.folder(b)
		for _, mode := range []string{"lora", "full"} {
			b.Run(s.name+"/"+mode, func(b *testing.B) { s.bench(b, dir, mode) })
		}
	}
}

func (s size) bench(b *testing.B, dir, mode string) {
	config := Config{
		Model: backbone.Config{Path: dir, Attention: backbone.Bidirectional},
		Loss:  contrastive.Config{Kind: contrastive.InfoNCEKind, Temperature: 0.05},
		Optimizer: optim.Config{
			Schedule: optim.Schedule{Peak: 1e-4, Decay: optim.Constant}, Clip: 1, WeightDecay: 0.01,
		},
		Steps: 1 << 30,
	}
	if mode == "lora" {
		config.Model.LoRA = &backbone.LoRAConfig{Rank: 16, Alpha: 32}
	}
	tr := onCPU(b, config, runtime.GOMAXPROCS(0), Options{Keep: 8 << 30})
	batches := s.batches(b)
	var rates, cpu []float64
	step := int64(0)
	one := func() {
		header, shards := tripleBatch(batches[int(step)%len(batches)])
		start, used := time.Now(), cpuSeconds(b)
		o, err := tr.Step(b.Context(), header, step, NewSolo(tr, shards, header.Slots))
		if err != nil {
			b.Fatal(err)
		}
		rates = append(rates, float64(o.Tokens)/time.Since(start).Seconds())
		cpu = append(cpu, float64(o.Tokens)/(cpuSeconds(b)-used)*float64(runtime.GOMAXPROCS(0)))
		step++
	}
	for range 3 { // the first steps of a run compile programs and repeat an attempt
		one()
	}
	rates, cpu = rates[:0], cpu[:0]
	for b.Loop() {
		one()
	}
	slices.Sort(rates)
	slices.Sort(cpu)
	b.ReportMetric(rates[len(rates)/2], "tokens/s")
	b.ReportMetric(cpu[len(cpu)/2], "tokens/cpu-s*threads") // what a quiet machine would give, at best
}

// cpuSeconds is the processor time of this process.
func cpuSeconds(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

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
			n := int(min(256, max(4, math.Round(median*math.Exp(0.6*r.NormFloat64())))))
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
	return h, pack(&h, texts, 2048)
}

// folder writes a Qwen2 folder of random weights.
func (s size) folder(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	config := fmt.Sprintf(`{"model_type": "qwen2", "hidden_size": %d, "num_hidden_layers": %d, "num_attention_heads": %d,
		"num_key_value_heads": %d, "intermediate_size": %d, "vocab_size": %d, "rope_theta": 1000000.0, "rms_norm_eps": 1e-6,
		"hidden_act": "silu", "max_position_embeddings": 4096, "tie_word_embeddings": true}`,
		s.d, s.layers, s.heads, s.kv, s.ff, s.vocab)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var tensors []safetensors.Tensor
	add := func(name string, shape ...int) {
		n := 1
		for _, k := range shape {
			n *= k
		}
		v := make([]float32, n)
		for i := range v {
			if v[i] = float32(0.02 * r.NormFloat64()); len(shape) == 1 && name[len(name)-6:] == "weight" {
				v[i] = 1
			}
		}
		tensors = append(tensors, safetensors.Tensor{Name: name, Shape: shape, Values: v})
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
			{"self_attn.q_proj", s.d, s.d, true},
			{"self_attn.k_proj", kv, s.d, true},
			{"self_attn.v_proj", kv, s.d, true},
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
