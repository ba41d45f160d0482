package encode

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
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

// BenchmarkEncode measures embedding in real tokens a second, as the PyTorch peer does (--encode): bidirectional, mean
// pooling, the texts of a step at a time. COUNTERPOINT_BATCHES names a file that `peer_step.py --batches` wrote, for the
// peer's own lengths; without it lengths are drawn alike. GFLOP/s counts 2 a weight and token; %peak is its share of the
// float32 multiply-adds that the processors did between the steps.
func BenchmarkEncode(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			b.Run("fp32", func(b *testing.B) { s.bench(b, cpu.New) })
			b.Run("int8", func(b *testing.B) { s.bench(b, cpu.NewInt8) })
		})
	}
}

func (s shape) bench(b *testing.B, open func(threads int) (*cpu.Device, error)) {
	dev, err := open(runtime.GOMAXPROCS(0))
	if err != nil {
		b.Fatal(err)
	}
	defer dev.Close()
	e := s.encoder(b, dev)
	defer e.Close()
	steps := s.steps(b)
	var rates, peaks []float64
	n := 0
	one := func() {
		texts := steps[n%len(steps)]
		n++
		tokens := 0
		for i := range texts {
			tokens += len(texts[i].Tokens)
		}
		start := time.Now()
		if _, err := e.Embed(b.Context(), texts); err != nil {
			b.Fatal(err)
		}
		rates = append(rates, float64(tokens)/time.Since(start).Seconds())
		peaks = append(peaks, peak(dev.Pool()))
	}
	for range min(2, len(steps)) {
		one()
	}
	rates, peaks = rates[:0], peaks[:0]
	for b.Loop() {
		one()
	}
	slices.Sort(rates)
	slices.Sort(peaks)
	rate := rates[len(rates)/2]
	flops := 2 * float64(s.linear()) * rate
	b.ReportMetric(rate, "tokens/s")
	b.ReportMetric(flops/1e9, "GFLOP/s")
	b.ReportMetric(100*flops/peaks[len(peaks)/2], "%peak")
}

// peak is the rate of float32 multiply-adds of all processors just now.
func peak(p *pool.Pool) float64 {
	var mu sync.Mutex
	var flop float64
	start := time.Now()
	p.For(4*p.Threads(), func(int) {
		n := gemm.Probe(20000)
		mu.Lock()
		flop += n
		mu.Unlock()
	})
	return flop / time.Since(start).Seconds()
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
	add := func(name string, dims ...int) { m[name] = safetensors.Info{Name: name, DType: safetensors.F32, Shape: dims} }
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

// steps are the texts of the peer's steps.
func (s shape) steps(b *testing.B) (all [][]data.Text) {
	b.Helper()
	add := func(columns ...[][]int32) {
		var texts []data.Text
		for _, column := range columns {
			for _, ids := range column {
				for i := range ids { // a file of another size's vocabulary serves for its lengths
					ids[i] %= int32(s.vocab)
				}
				texts = append(texts, data.Text{Tokens: ids})
			}
		}
		all = append(all, texts)
	}
	if path := os.Getenv("COUNTERPOINT_BATCHES"); path != "" {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<26)
		for lines.Scan() {
			var t struct{ Query, Positive, Negative [][]int32 }
			if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
				b.Fatal(err)
			}
			add(t.Query, t.Positive, t.Negative)
		}
		if len(all) == 0 {
			b.Fatalf("%s: no batches (%v)", path, lines.Err())
		}
		return all
	}
	r := rand.New(rand.NewPCG(1, 1))
	column := func(median float64) (ids [][]int32) {
		for range s.rows {
			text := make([]int32, int(min(s.longest, max(4, math.Round(median*math.Exp(0.6*r.NormFloat64()))))))
			for i := range text {
				text[i] = int32(r.IntN(s.vocab))
			}
			ids = append(ids, text)
		}
		return ids
	}
	for range 8 {
		add(column(24), column(96), column(96))
	}
	return all
}
