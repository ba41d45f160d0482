package trainer

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
)

// smollm2 is the shape of SmolLM2-135M.
var smollm2 = shape{width: 576, layers: 30, heads: 9, kv: 3, ff: 1536, vocab: 49152}

// shape is a Llama without biases and with a tied head.
type shape struct{ width, layers, heads, kv, ff, vocab int }

// BenchmarkLoad opens a model of bfloat16 weights for an adapter's run, packs them for the kernels, and compares the
// time with reading the file's bytes: both from a warm cache, with all processors, A B A B.
func BenchmarkLoad(b *testing.B) {
	dir := smollm2.write(b, b.TempDir())
	path := filepath.Join(dir, "model.safetensors")
	var ours, bytes []float64
	one := func() {
		bytes = append(bytes, timed(func() { readAll(b, path) }))
		ours = append(ours, timed(func() { loadLoRA(b, dir) }))
	}
	one()
	ours, bytes = ours[:0], bytes[:0]
	for b.Loop() {
		one()
	}
	for len(ours) < 5 {
		one()
	}
	ratio := make([]float64, len(ours))
	for i := range ours {
		ratio[i] = ours[i] / bytes[i]
	}
	for _, s := range [][]float64{ours, bytes, ratio} {
		slices.Sort(s)
	}
	b.ReportMetric(1e3*ours[len(ours)/2], "load-ms")
	b.ReportMetric(1e3*bytes[len(bytes)/2], "read-ms")
	b.ReportMetric(ratio[len(ratio)/2], "load/read")
}

func timed(f func()) float64 {
	runtime.GC() // what the other side left behind
	start := time.Now()
	f()
	return time.Since(start).Seconds()
}

// readAll reads a file's bytes into memory, a part per processor.
func readAll(b *testing.B, path string) {
	b.Helper()
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	content := make([]byte, info.Size())
	parts := int64(runtime.GOMAXPROCS(0))
	done := make(chan error)
	for i := range parts {
		go func() {
			lo, hi := i*info.Size()/parts, (i+1)*info.Size()/parts
			_, err := f.ReadAt(content[lo:hi], lo)
			done <- err
		}()
	}
	for range parts {
		if err := <-done; err != nil && err != io.EOF {
			b.Error(err)
		}
	}
}

// loadLoRA makes a model with an adapter and compiles a step of it, so that every weight lies as the kernels read it.
func loadLoRA(b testing.TB, dir string) {
	b.Helper()
	dev, err := cpu.New(runtime.GOMAXPROCS(0))
	if err != nil {
		b.Fatal(err)
	}
	defer dev.Close()
	config := backbone.Config{Path: dir, LoRA: &backbone.LoRAConfig{Rank: 16, Alpha: 32}}
	base, err := backbone.Load(config, 1)
	if err != nil {
		b.Fatal(err)
	}
	defer base.Close()
	m, err := backbone.New(base, dev, config, backbone.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Free()
	if _, _, err := m.Bytes(16, 1); err != nil { // compiles, which packs what is not packed
		b.Fatal(err)
	}
}

// tensors lists the names and shapes of the weights.
func (s shape) tensors() (names []string, shapes map[string][]int) {
	shapes = map[string][]int{}
	add := func(name string, shape ...int) { names, shapes[name] = append(names, name), shape }
	head := s.width / s.heads
	add("model.embed_tokens.weight", s.vocab, s.width)
	for i := range s.layers {
		layer := fmt.Sprintf("model.layers.%d.", i)
		add(layer+"input_layernorm.weight", s.width)
		add(layer+"self_attn.q_proj.weight", s.width, s.width)
		add(layer+"self_attn.k_proj.weight", s.kv*head, s.width)
		add(layer+"self_attn.v_proj.weight", s.kv*head, s.width)
		add(layer+"self_attn.o_proj.weight", s.width, s.width)
		add(layer+"post_attention_layernorm.weight", s.width)
		add(layer+"mlp.gate_proj.weight", s.ff, s.width)
		add(layer+"mlp.up_proj.weight", s.ff, s.width)
		add(layer+"mlp.down_proj.weight", s.width, s.ff)
	}
	add("model.norm.weight", s.width)
	return names, shapes
}

// write makes a folder of random bfloat16 weights, by streaming: the writer's own memory stays small.
func (s shape) write(b testing.TB, dir string) string {
	b.Helper()
	config := fmt.Sprintf(`{"model_type": "llama", "hidden_size": %d, "num_hidden_layers": %d, "num_attention_heads": %d,
		"num_key_value_heads": %d, "intermediate_size": %d, "vocab_size": %d, "rope_theta": 100000.0, "rms_norm_eps": 1e-5,
		"hidden_act": "silu", "max_position_embeddings": 8192, "tie_word_embeddings": true, "torch_dtype": "bfloat16"}`,
		s.width, s.layers, s.heads, s.kv, s.ff, s.vocab)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		b.Fatal(err)
	}
	names, shapes := s.tensors()
	header, end := map[string]any{}, 0
	for _, name := range names {
		n := 2
		for _, k := range shapes[name] {
			n *= k
		}
		header[name] = map[string]any{"dtype": "BF16", "shape": shapes[name], "data_offsets": []int{end, end + n}}
		end += n
	}
	text, err := json.Marshal(header)
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	var length [8]byte
	binary.LittleEndian.PutUint64(length[:], uint64(len(text)))
	w.Write(length[:]) // bufio keeps the first error for Flush
	w.Write(text)
	r := rand.New(rand.NewPCG(1, 2))
	for _, name := range names {
		shape := shapes[name]
		for range shape[0] {
			if len(shape) == 1 {
				w.Write([]byte{0x80, 0x3f}) // 1
				continue
			}
			for range shape[1] / 4 { // four values of magnitude 2^-7 .. 2^-6 and either sign
				bits := r.Uint64()&0x807f_807f_807f_807f | 0x3c00_3c00_3c00_3c00
				var four [8]byte
				binary.LittleEndian.PutUint64(four[:], bits)
				w.Write(four[:])
			}
		}
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return dir
}
