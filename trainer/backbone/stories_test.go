package backbone_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
)

// What the data's README says of a greedy continuation from the token that begins a text.
const (
	storyBegin = 1
	storyIDs   = "1 403 407 261 378 432 383 286 261 376 298 315 421 395 317 426 338 401 396 267"
	story      = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, " +
		"she saw a big, red ball. She wanted to play with it, but it was too high"
)

// TestStories continues a story greedily with a really trained Llama, converted to a Hugging Face folder.
func TestStories(t *testing.T) {
	dir := golden.Data(t, "models/stories260k")
	folder := t.TempDir()
	convertStories(t, unzip(t, filepath.Join(dir, "stories260K.bin.gz")), folder)
	pieces := storyPieces(t, unzip(t, filepath.Join(dir, "tok512.bin.gz")))
	m := model(t, device(t, 2), backbone.Config{Path: folder}, backbone.Options{Head: true})

	ids := []int32{storyBegin}
	var text strings.Builder
	for text.Len() < len(story)+1 {
		got, err := m.Logits(backbone.Batch{Texts: []data.Text{{Tokens: ids}}}, []int32{int32(len(ids) - 1)})
		if err != nil {
			t.Fatal(err)
		}
		best := 0
		for i, v := range got {
			if v > got[best] {
				best = i
			}
		}
		ids = append(ids, int32(best))
		text.WriteString(pieces[best])
	}
	if got := strings.Trim(fmt.Sprint(ids), "[]"); !strings.HasPrefix(got, storyIDs) {
		t.Errorf("ids = %s, want %s ...", got, storyIDs)
	}
	if got := strings.TrimPrefix(text.String(), " "); !strings.HasPrefix(got, story) {
		t.Errorf("story = %q, want %q", got, story)
	}
}

func unzip(t *testing.T, path string) []byte {
	t.Helper()
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// storyPieces reads llama2.c's tokenizer: the longest length, then score, length and bytes of each token.
func storyPieces(t *testing.T, raw []byte) []string {
	t.Helper()
	var pieces []string
	for raw = raw[4:]; len(raw) >= 8; {
		n := int(binary.LittleEndian.Uint32(raw[4:]))
		pieces = append(pieces, string(raw[8:8+n]))
		raw = raw[8+n:]
	}
	return pieces
}

// convertStories writes llama2.c's legacy export as a Hugging Face folder. llama2.c rotates adjacent pairs, transformers
// the halves of a head: the rows of q and k are put in that order.
func convertStories(t *testing.T, raw []byte, folder string) {
	t.Helper()
	var head [7]int32
	if _, err := binary.Decode(raw, binary.LittleEndian, &head); err != nil {
		t.Fatal(err)
	}
	raw = raw[28:]
	d, ff, layers, heads, kv, vocab, context := int(head[0]), int(head[1]), int(head[2]), int(head[3]), int(head[4]), int(head[5]), int(head[6])
	if vocab < 0 {
		t.Fatal("the classifier is not tied")
	}
	hd := d / heads
	take := func(n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
		raw = raw[4*n:]
		return out
	}
	var tensors []safetensors.Tensor
	put := func(name string, values []float32, shape ...int) {
		tensors = append(tensors, safetensors.Tensor{Name: name, Shape: shape, Values: values})
	}
	each := func(name string, rows, cols int, change func([]float32) []float32) {
		for i := range layers {
			values, shape := take(rows*cols), []int{rows, cols}
			if rows == 1 {
				shape = shape[1:]
			}
			if change != nil {
				values = change(values)
			}
			put(fmt.Sprintf("model.layers.%d.%s.weight", i, name), values, shape...)
		}
	}
	halves := func(w []float32) []float32 {
		out := make([]float32, len(w))
		for row := range len(w) / d {
			h, i := row/hd, row%hd // row 2i+p of a head becomes row p*hd/2+i
			copy(out[(h*hd+i%2*hd/2+i/2)*d:][:d], w[row*d:][:d])
		}
		return out
	}
	put("model.embed_tokens.weight", take(vocab*d), vocab, d)
	each("input_layernorm", 1, d, nil)
	each("self_attn.q_proj", d, d, halves)
	each("self_attn.k_proj", kv*hd, d, halves)
	each("self_attn.v_proj", kv*hd, d, nil)
	each("self_attn.o_proj", d, d, nil)
	each("post_attention_layernorm", 1, d, nil)
	each("mlp.gate_proj", ff, d, nil)
	each("mlp.down_proj", d, ff, nil)
	each("mlp.up_proj", ff, d, nil)
	put("model.norm.weight", take(d), d)

	config, err := json.Marshal(map[string]any{
		"model_type": "llama", "hidden_size": d, "intermediate_size": ff, "num_hidden_layers": layers, "num_attention_heads": heads,
		"num_key_value_heads": kv, "vocab_size": vocab, "max_position_embeddings": context, "rms_norm_eps": 1e-5,
		"rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(folder, safetensors.SingleName))
	if err != nil {
		t.Fatal(err)
	}
	if err := safetensors.Write(f, tensors, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
