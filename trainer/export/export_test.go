package export_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/checkpoints/hub"
	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/data/tokenize"
	"github.com/counterpoint-ml/counterpoint/data/tokenize/tiny"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/encode"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/trainer/export"
)

const (
	seed   = 7
	digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" // of the base
)

func device(t testing.TB) *cpu.Device {
	t.Helper()
	dev, err := cpu.New(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dev.Close)
	return dev
}

// checkpoint writes a checkpoint of a run with random adapters, or with its initial weights where it has none.
func checkpoint(t testing.TB, config backbone.Config) string {
	t.Helper()
	t.Logf("seed %d", seed)
	base, err := backbone.Load(config, seed)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	m, err := backbone.New(base, device(t), config, backbone.Options{Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	w := m.Parameters()
	s := &checkpoints.Snapshot{Step: 12, Parameters: w, First: make([]float32, len(w)), Second: make([]float32, len(w))}
	random := rand.New(rand.NewPCG(seed, 0))
	for _, p := range m.Params() {
		tensor := checkpoints.Tensor{Name: p.Name, Shape: p.Shape}
		s.Tensors = append(s.Tensors, tensor)
		if config.LoRA != nil {
			for i := range w[p.Offset:][:tensor.Size()] {
				w[p.Offset+i] = float32(random.NormFloat64()) * 0.1
			}
		}
	}
	files := tiny.Files()
	if config.Path != "" {
		if files, err = tokenize.ReadFiles(config.Path); err != nil {
			t.Fatal(err)
		}
	}
	s.Files = files.Contents()
	if s.Files[checkpoints.ModelConfigName], err = base.ConfigJSON(config.Attention); err != nil {
		t.Fatal(err)
	}
	if l := config.LoRA; l != nil {
		s.Adapter = &checkpoints.Adapter{Base: config.Path, Rank: l.Rank, Alpha: l.Alpha, RSLoRA: l.RSLoRA, Targets: backbone.Targets, RankPattern: l.RankPattern, AlphaPattern: l.AlphaPattern}
		if len(l.Targets) > 0 {
			s.Adapter.Targets = l.Targets
		}
	} else {
		trained := map[string]bool{}
		for _, p := range m.Params() {
			trained[p.Name] = true
		}
		if s.Frozen, err = base.Rest(trained); err != nil {
			t.Fatal(err)
		}
	}
	var merged []string
	if len(base.Merged()) > 0 && config.LoRA != nil {
		merged = carry(t, s, base.Merged(), config)
	}
	known, content := config, "" // a run is known by its model's content
	known.Merge = nil
	if known.Path != "" {
		known.Path, content = "", digest
	}
	spec, err := json.Marshal(map[string]any{
		"model_digest": content, "merged_digests": merged,
		"trainer": trainer.Config{Model: known, MaxLength: 40, Seed: seed, Steps: 12, Batch: 8},
		"prompt":  map[string]any{"query": "find the package", "max_length": 40},
		"data":    []map[string]any{{"path": "pairs.jsonl", "instruction": "find the package"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Origin = checkpoints.Origin{Run: "sample", Seed: seed, Spec: spec, Metrics: map[string]float64{"dev/ndcg@10": 0.5}}
	dir := t.TempDir()
	if _, err := (&checkpoints.Series{Store: checkpoints.NewLocal(dir)}).Write(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	return dir
}

// carry puts merged adapters, and the run before, into a snapshot as a worker does.
func carry(t testing.TB, s *checkpoints.Snapshot, adapters []*hub.Adapter, config backbone.Config) (digests []string) {
	t.Helper()
	carried, err := hub.MergedFiles(adapters)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(s.Files, carried)
	s.Adapter.Base = hub.OverMerged(config.Path)
	for _, a := range adapters {
		d, err := a.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d)
	}
	history, err := encode.History(config.Merge[0], encode.TookMerged)
	if err != nil {
		t.Fatal(err)
	}
	if s.Files[encode.HistoryName], err = json.Marshal(history); err != nil {
		t.Fatal(err)
	}
	return digests
}

func lora() *backbone.LoRAConfig {
	return &backbone.LoRAConfig{Rank: 4, Alpha: 6, RSLoRA: true, Dropout: 0.1}
}

// write exports and checks the result's own figures.
func write(t *testing.T, o export.Options) *export.Result {
	t.Helper()
	o.Out, o.Version = filepath.Join(t.TempDir(), "out"), "test"
	r, err := export.Export(context.Background(), device(t), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Texts != 32 || !(r.Difference <= r.Bound) {
		t.Errorf("%d texts differ by %g, want 32 and at most %g", r.Texts, r.Difference, r.Bound)
	}
	t.Logf("%s: %d texts, largest difference %.2g; %s", o.Format, r.Texts, r.Difference, strings.Join(r.Files, " "))
	return r
}

// TestRoundTrips exports runs of every kind to every format that can hold them; Export itself compares embeddings, on
// which the adapters must have a say.
func TestRoundTrips(t *testing.T) {
	qwen := golden.Dir(t, "sentence-transformers") + "/mean"
	cases := []struct {
		name   string
		config backbone.Config
	}{
		{"preset LoRA", backbone.Config{Preset: "tiny-diffusion", LoRA: lora()}},
		{"preset full, weighted mean", backbone.Config{Preset: "tiny-causal", Pooling: "weighted_mean"}},
		{"encoder folder LoRA, bidirectional", backbone.Config{Path: qwen, Attention: backbone.Bidirectional, LoRA: lora()}},
		{"encoder folder full, prompt not pooled", backbone.Config{Path: qwen, PoolPrompt: new(bool)}},
		{"encoder folder LoRA, causal", backbone.Config{Path: qwen, LoRA: lora()}},
		{"evaluated with another attention", backbone.Config{Path: qwen, EvalAttention: backbone.Bidirectional, Pooling: "last_token", LoRA: lora()}},
		{"LoRA with patterns", backbone.Config{Path: qwen, Attention: backbone.Bidirectional, LoRA: &backbone.LoRAConfig{
			Rank: 4, Alpha: 8, Targets: []string{backbone.AllLinear},
			RankPattern: map[string]int{"q_proj": 8, `layers\.0\.mlp\..*`: 3}, AlphaPattern: map[string]float64{"layers.1.self_attn.q_proj": 4, "down_proj": 2.5},
		}}},
		{"annealed", backbone.Config{Path: qwen, Attention: backbone.Annealed, AnnealSteps: 7, LoRA: lora()}},
		{"LLaDA", backbone.Config{Path: llada(t), LoRA: lora()}},
		{"Dream", backbone.Config{Path: dream(t), LoRA: lora()}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := checkpoint(t, c.config)
			for _, format := range export.Formats {
				if c.config.LoRA == nil && format == hub.PEFTFormat {
					continue
				}
				write(t, export.Options{Checkpoint: dir, Format: format})
			}
		})
	}
}

// llada makes a LLaDA folder of a preset's weights.
func llada(t *testing.T) string {
	t.Helper()
	base, err := backbone.Load(backbone.Config{Preset: "tiny-diffusion"}, seed)
	if err != nil {
		t.Fatal(err)
	}
	names := strings.NewReplacer(
		"model.embed_tokens.", "model.transformer.wte.", "model.norm.", "model.transformer.ln_f.", "model.layers.", "model.transformer.blocks.",
		"input_layernorm", "attn_norm", "post_attention_layernorm", "ff_norm", "self_attn.o_proj", "attn_out", "self_attn.", "",
		"mlp.gate_proj", "ff_proj", "mlp.up_proj", "up_proj", "mlp.down_proj", "ff_out")
	a := base.Architecture
	files := tiny.Files().Contents()
	config, err := json.Marshal(map[string]any{
		"model_type": "llada", "d_model": a.Width, "n_heads": a.Heads, "n_kv_heads": a.KV, "n_layers": a.Layers, "mlp_hidden_size": a.FF,
		"embedding_size": a.Vocab, "vocab_size": a.Vocab - 3, "max_sequence_length": a.MaxPositions, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
		"activation_type": "silu", "block_type": "llama", "weight_tying": true, "mask_token_id": a.MaskToken,
		"auto_map": map[string]string{"AutoModel": "modeling_llada.LLaDAModelLM"},
	})
	if err != nil {
		t.Fatal(err)
	}
	files["config.json"], files["modeling_llada.py"] = config, []byte("# the model\n")
	return rename(t, base, files, names.Replace)
}

// dream makes a Dream folder of a Qwen2's weights.
func dream(t *testing.T) string {
	t.Helper()
	dir := golden.Dir(t, "sentence-transformers") + "/mean"
	base, err := backbone.Load(backbone.Config{Path: dir}, 0)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := tokenize.ReadFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := tokens.Contents()
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	files["config.json"] = bytes.Replace(config, []byte(`"qwen2"`), []byte(`"Dream"`), 1)
	return rename(t, base, files, func(name string) string { return "model." + name })
}

func rename(t *testing.T, base *backbone.Base, files map[string][]byte, name func(string) string) string {
	t.Helper()
	weights, err := base.Weights()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := &hub.Folder{Files: files, Weights: &hub.Weights{Tensors: weights, Names: map[string]string{}, DType: safetensors.F32}}
	for _, n := range weights.Names() {
		f.Weights.Names[n] = name(n)
	}
	if err := f.Write(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestAdapterKeys: over AutoModel the decoder's modules have no "model." before them, except in the families whose
// AutoModel is the language model. A wrong prefix loads nothing, and PEFT does not say so.
func TestAdapterKeys(t *testing.T) {
	for prefix, config := range map[string]backbone.Config{
		"base_model.model.layers.0.self_attn.q_proj":           {Preset: "tiny-causal", LoRA: lora()},
		"base_model.model.model.layers.0.self_attn.q_proj":     {Path: dream(t), LoRA: lora()},
		"base_model.model.model.transformer.blocks.0.attn_out": {Path: llada(t), LoRA: lora()},
		"base_model.model.model.transformer.blocks.1.ff_proj":  {Path: llada(t), LoRA: lora()},
		"base_model.model.layers.1.mlp.down_proj":              {Preset: "tiny-diffusion", LoRA: lora()},
	} {
		r := write(t, export.Options{Checkpoint: checkpoint(t, config), Format: hub.PEFTFormat})
		f, err := safetensors.Open(filepath.Join(r.Dir, checkpoints.AdapterName))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := f.Info(prefix + ".lora_A.weight"); !ok {
			t.Errorf("keys %v, want %s.lora_A.weight among them", f.Names()[:4], prefix)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		text, err := os.ReadFile(filepath.Join(r.Dir, checkpoints.AdapterConfigName))
		if err != nil {
			t.Fatal(err)
		}
		if llada := strings.Contains(prefix, "transformer"); llada != bytes.Contains(text, []byte(`"model\\.transformer\\.blocks\\.[0-9]+\\.(`)) {
			t.Errorf("%s: target_modules must leave LLaDA's head out:\n%s", prefix, text)
		}
	}
}

// TestShards: the index names every tensor, and the shards give the same embeddings.
func TestShards(t *testing.T) {
	dir := checkpoint(t, backbone.Config{Preset: "tiny-diffusion", LoRA: lora()})
	r := write(t, export.Options{Checkpoint: dir, Format: hub.ModelFormat, Shard: 1 << 20})
	if n := slices.IndexFunc(r.Files, func(s string) bool { return strings.HasPrefix(s, "model-00002-of-") }); n < 0 || slices.Contains(r.Files, "model.safetensors") {
		t.Errorf("files %v, want shards", r.Files)
	}
	files, err := filepath.Glob(filepath.Join(r.Dir, "model-*.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		tensors, err := safetensors.Open(f)
		if err != nil {
			t.Fatal(err)
		}
		const header = 8 << 10
		if n := len(tensors.Names()); info.Size() > 1<<20+header && n > 1 { // a tensor is not cut
			t.Errorf("%s has %d bytes and %d tensors, want at most 1 MiB", f, info.Size(), n)
		}
		_ = tensors.Close()
	}
}

// TestRounded: bfloat16 halves the file and stays within its bound, but not within that of float32.
func TestRounded(t *testing.T) {
	dir := checkpoint(t, backbone.Config{Preset: "tiny-causal", LoRA: lora()})
	r := write(t, export.Options{Checkpoint: dir, Format: hub.SentenceFormat, DType: "bfloat16"})
	if r.Difference < 1e-5 {
		t.Errorf("rounded weights differ by %g only: they were not rounded", r.Difference)
	}
}

// TestFramed: a tokenizer that puts special tokens around texts must not do so in the exported folder, since the run
// did not.
func TestFramed(t *testing.T) {
	source := golden.Dir(t, "sentence-transformers") + "/mean"
	dir := t.TempDir()
	for _, name := range []string{"config.json", "model.safetensors", "tokenizer_config.json"} {
		if err := os.Symlink(filepath.Join(source, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(source, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	keys["post_processor"] = map[string]any{
		"type": "TemplateProcessing", "single": []any{
			map[string]any{"SpecialToken": map[string]any{"id": "<|endoftext|>", "type_id": 0}},
			map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}},
		},
		"pair":           []any{map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}, map[string]any{"Sequence": map[string]any{"id": "B", "type_id": 1}}},
		"special_tokens": map[string]any{"<|endoftext|>": map[string]any{"id": "<|endoftext|>", "ids": []int{special(t, text)}, "tokens": []string{"<|endoftext|>"}}},
	}
	if text, err = json.Marshal(keys); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := encode.Open(t.Context(), dir, device(t), encode.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	plain, err := encode.Open(t.Context(), dir, device(t), encode.Options{Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	a, _ := e.Tokenize("", "a text")
	b, _ := plain.Tokenize("", "a text")
	if !slices.Equal(a.Tokens[1:], b.Tokens) {
		t.Errorf("Tokenize() = %v with special tokens, %v without", a.Tokens, b.Tokens)
	}
	write(t, export.Options{Checkpoint: checkpoint(t, backbone.Config{Path: dir, LoRA: lora()}), Format: hub.SentenceFormat})
}

func special(t *testing.T, tokenizer []byte) int {
	t.Helper()
	tok, err := tokenize.Parse("tokenizer.json", tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	id, ok := tok.ID("<|endoftext|>")
	if !ok {
		t.Fatal("no <|endoftext|>")
	}
	return int(id)
}

// TestCard: what a reader needs is in it.
func TestCard(t *testing.T) {
	dir := checkpoint(t, backbone.Config{Preset: "tiny-diffusion", LoRA: lora()})
	for _, format := range export.Formats {
		r := write(t, export.Options{Checkpoint: dir, Format: format})
		text, err := os.ReadFile(filepath.Join(r.Dir, hub.CardName))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"pairs.jsonl", "dev/ndcg@10 | 0.5", "model.lora.rank", "find the package: ", "bidirectional", "transformers 5", "```python"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("the card of %s lacks %q:\n%s", format, want, text)
			}
		}
	}
}

// TestCardNamesDimensions: whoever loads the folder learns where embeddings may be cut.
func TestCardNamesDimensions(t *testing.T) {
	text := string((&hub.Card{Matryoshka: []int{128, 32, 64}}).Text())
	for _, want := range []string{"the first 128, 32, 64 dimensions", "truncate_dim=32", "--dimensions 32"} {
		if !strings.Contains(text, want) {
			t.Errorf("the card lacks %q:\n%s", want, text)
		}
	}
}

// TestCardTakesTheRunsConfig: the base's config.json has a sliding window, which transformers keeps where the causal
// mask is off and ours does not: the card's program must take the export's.
func TestCardTakesTheRunsConfig(t *testing.T) {
	base, err := backbone.Load(backbone.Config{Preset: "tiny-causal"}, seed)
	if err != nil {
		t.Fatal(err)
	}
	files := tiny.Files().Contents()
	config, err := base.ConfigJSON(backbone.Causal)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(config, &keys); err != nil {
		t.Fatal(err)
	}
	keys["model_type"], keys["sliding_window"] = "mistral", 12
	if files["config.json"], err = json.Marshal(keys); err != nil {
		t.Fatal(err)
	}
	dir := rename(t, base, files, func(name string) string { return name })
	run := checkpoint(t, backbone.Config{Path: dir, Attention: backbone.Bidirectional, LoRA: lora()})
	r := write(t, export.Options{Checkpoint: run, Format: hub.PEFTFormat})
	var written map[string]any
	text, err := os.ReadFile(filepath.Join(r.Dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &written); err != nil {
		t.Fatal(err)
	}
	if written["sliding_window"] != nil || written["is_causal"] != false {
		t.Errorf("config.json has the window %v and is_causal %v, want none and false", written["sliding_window"], written["is_causal"])
	}
	card, err := os.ReadFile(filepath.Join(r.Dir, hub.CardName))
	if err != nil {
		t.Fatal(err)
	}
	if want := `AutoConfig.from_pretrained("FOLDER")`; !strings.Contains(string(card), want) {
		t.Errorf("the card lacks %s:\n%s", want, card)
	}
}

// TestAdapterConfig: an adapter's folder has a config.json only where its base's would give other embeddings.
func TestAdapterConfig(t *testing.T) {
	qwen := golden.Dir(t, "sentence-transformers") + "/mean"
	for _, c := range []struct {
		config backbone.Config
		want   bool
	}{
		{backbone.Config{Preset: "tiny-diffusion", LoRA: lora()}, false},
		{backbone.Config{Preset: "tiny-diffusion", Attention: backbone.Causal, LoRA: lora()}, false},
		{backbone.Config{Path: qwen, LoRA: lora()}, false},
		{backbone.Config{Path: qwen, Attention: backbone.Bidirectional, LoRA: lora()}, true},
		{backbone.Config{Path: qwen + "-bidirectional", LoRA: lora()}, false},
		{backbone.Config{Path: qwen + "-bidirectional", EvalAttention: backbone.Causal, LoRA: lora()}, true},
	} {
		r := write(t, export.Options{Checkpoint: checkpoint(t, c.config), Format: hub.PEFTFormat})
		if got := slices.Contains(r.Files, "config.json"); got != c.want {
			t.Errorf("%+v: config.json written %t, want %t", c.config, got, c.want)
		}
	}
}

// TestRefusals: what cannot be exported is named, and leaves nothing behind.
func TestRefusals(t *testing.T) {
	qwen := golden.Dir(t, "sentence-transformers") + "/mean"
	full := checkpoint(t, backbone.Config{Preset: "tiny-causal"})
	places := checkpoint(t, backbone.Config{Path: qwen, Pooling: "weighted_mean", PoolPrompt: new(bool)})
	moved := checkpoint(t, backbone.Config{Path: qwen, LoRA: lora()})
	for _, c := range []struct {
		name string
		o    export.Options
		want string
	}{
		{"format", export.Options{Checkpoint: full, Format: "gguf"}, `"gguf"`},
		{"dtype", export.Options{Checkpoint: full, Format: hub.ModelFormat, DType: "int4"}, `"int4"`},
		{"no adapter", export.Options{Checkpoint: full, Format: hub.PEFTFormat}, "no adapter"},
		{"places of tokens", export.Options{Checkpoint: places, Format: hub.SentenceFormat}, "weighted_mean"},
		{"no checkpoint", export.Options{Checkpoint: qwen, Format: hub.ModelFormat}, "sentence-transformers folder"},
		{"changed base", export.Options{Checkpoint: moved, Format: hub.ModelFormat, Digest: func(string) (string, error) { return "another", nil }}, "another"},
		{"other base", export.Options{Checkpoint: moved, Format: hub.ModelFormat, Base: t.TempDir()}, "config.json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parent := t.TempDir()
			c.o.Out = filepath.Join(parent, "out")
			_, err := export.Export(context.Background(), device(t), c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Export() error = %v, want %q in it", err, c.want)
			}
			if left, _ := os.ReadDir(parent); len(left) > 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
	out := t.TempDir()
	if err := os.WriteFile(filepath.Join(out, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o := export.Options{Checkpoint: full, Format: hub.ModelFormat, Out: out}
	if _, err := export.Export(context.Background(), device(t), o); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("Export() over a filled folder: %v, want a refusal", err)
	}
	o.Force = true
	if _, err := export.Export(context.Background(), device(t), o); err != nil {
		t.Errorf("Export() with force: %v", err)
	}
	if _, err := os.Stat(filepath.Join(out, "mine")); err == nil {
		t.Error("force left what was there")
	}
}

// TestSelfCheckSeesWrongWeights: an adapter whose scale is lost on the way gives other embeddings, by far more than the bound.
func TestSelfCheckSeesWrongWeights(t *testing.T) {
	dir := checkpoint(t, backbone.Config{Preset: "tiny-diffusion", LoRA: lora()})
	r := write(t, export.Options{Checkpoint: dir, Format: hub.PEFTFormat})
	path := filepath.Join(r.Dir, checkpoints.AdapterConfigName)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(text, []byte(`"use_rslora": true`), []byte(`"use_rslora": false`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	var rows [2][]float32
	for i, model := range []string{r.Dir, dir} {
		e, err := encode.Open(t.Context(), model, device(t), encode.Options{})
		if err != nil {
			t.Fatal(err)
		}
		x, _ := e.Tokenize("", "a text of some words")
		if rows[i], err = e.Embed(context.Background(), []data.Text{x}); err != nil {
			t.Fatal(err)
		}
		_ = e.Close()
	}
	worst := 0.0
	for i := range rows[0] {
		worst = max(worst, math.Abs(float64(rows[0][i]-rows[1][i])))
	}
	if worst < 1e-3 {
		t.Errorf("without rsLoRA's scale embeddings differ by %g: the check could not see it", worst)
	}
}
