package encode_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/encode"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
)

// embedTolerance is that of the goldens' READMEs.
const embedTolerance = 5e-6

func device(t testing.TB) *cpu.Device {
	t.Helper()
	dev, err := cpu.New(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dev.Close)
	return dev
}

func open(t testing.TB, dir string, o encode.Options) *encode.Encoder {
	t.Helper()
	e, err := encode.Open(t.Context(), dir, device(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func embed(t testing.TB, e *encode.Encoder, prompt string, texts []string) []float32 {
	t.Helper()
	var batch []data.Text
	for _, text := range texts {
		x, _ := e.Tokenize(prompt, text)
		batch = append(batch, x)
	}
	rows, err := e.Embed(context.Background(), batch)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func difference(a, b []float32) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	worst := 0.0
	for i := range a {
		if d := math.Abs(float64(a[i]) - float64(b[i])); !(d <= worst) {
			worst = d
		}
	}
	return worst
}

func fixture(t testing.TB, path string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func floats(t testing.TB, f *safetensors.File, name string) []float32 {
	t.Helper()
	v, err := f.Float32(nil, name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// packed splits a fixture's packed ids.
func packed(t testing.TB, f *safetensors.File, prefix string) []data.Text {
	t.Helper()
	ids, err := f.Int64(nil, prefix+"input_ids")
	if err != nil {
		t.Fatal(err)
	}
	cu, err := f.Int64(nil, prefix+"cu_seqlens")
	if err != nil {
		t.Fatal(err)
	}
	var out []data.Text
	for i := range len(cu) - 1 {
		x := data.Text{Slot: int32(i)}
		for _, id := range ids[cu[i]:cu[i+1]] {
			x.Tokens = append(x.Tokens, int32(id))
		}
		out = append(out, x)
	}
	return out
}

// TestGoldenSentence: every sentence-transformers folder, ids and embeddings, without and with its query prompt.
func TestGoldenSentence(t *testing.T) {
	root := golden.Dir(t, "sentence-transformers")
	text, err := os.ReadFile(filepath.Join(root, "texts.json"))
	if err != nil {
		t.Fatal(err)
	}
	var given struct {
		Prompt string
		Length int `json:"max_seq_length"`
		Texts  []string
	}
	if err := json.Unmarshal(text, &given); err != nil {
		t.Fatal(err)
	}
	folders, err := filepath.Glob(filepath.Join(root, "*", "modules.json"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("no folders in %s: %v", root, err)
	}
	for _, path := range folders {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			e := open(t, dir, encode.Options{BatchTokens: 200})
			if e.Kind != encode.Sentence || e.MaxLength != given.Length {
				t.Errorf("kind %q, length %d, want %q, %d", e.Kind, e.MaxLength, encode.Sentence, given.Length)
			}
			want := fixture(t, filepath.Join(dir, "expected.safetensors"))
			query, err := e.Prompt("query")
			if err != nil || query != given.Prompt {
				t.Errorf("Prompt(query) = %q, %v, want %q", query, err, given.Prompt)
			}
			for name, prompt := range map[string]string{"plain": "", "prompt": query} {
				for i, x := range packed(t, want, name+".") {
					if got, _ := e.Tokenize(prompt, given.Texts[i]); !slices.Equal(got.Tokens, x.Tokens) {
						t.Errorf("%s: Tokenize(%q) = %v, want %v", name, given.Texts[i], got.Tokens, x.Tokens)
					}
				}
				d := difference(embed(t, e, prompt, given.Texts), floats(t, want, name))
				if d > embedTolerance {
					t.Errorf("%s: embeddings differ by %g, want at most %g", name, d, embedTolerance)
				}
				t.Logf("%s: largest difference %.2g", name, d)
			}
		})
	}
}

// adapters returns the folders of the golden PEFT adapters.
func adapters(t *testing.T) (dirs []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(golden.Dir(t, "lora"), "*", "adapter_config.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no adapters: %v", err)
	}
	for _, path := range paths {
		dirs = append(dirs, filepath.Dir(path))
	}
	return dirs
}

// TestGoldenAdapters: every PEFT adapter over its base, merged, with both masks.
func TestGoldenAdapters(t *testing.T) {
	bases := golden.Dir(t, "backbones")
	for _, dir := range adapters(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			want := fixture(t, filepath.Join(dir, "expected.safetensors"))
			texts := packed(t, want, "")
			var config struct {
				Base string `json:"base_model_name_or_path"`
			}
			text, err := os.ReadFile(filepath.Join(dir, "adapter_config.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &config); err != nil {
				t.Fatal(err)
			}
			for _, attention := range []string{backbone.Causal, backbone.Bidirectional} {
				name := "embed." + attention + ".mean"
				with := withTokenizer(t, dir)
				e := open(t, with, encode.Options{Base: filepath.Join(bases, filepath.Base(config.Base)), Attention: attention})
				rows, err := e.Embed(context.Background(), texts)
				if err != nil {
					t.Fatal(err)
				}
				d := difference(rows, floats(t, want, name))
				if d > embedTolerance {
					t.Errorf("%s differs by %g, want at most %g", name, d, embedTolerance)
				}
				t.Logf("%s: largest difference %.2g", name, d)
			}
		})
	}
}

// withTokenizer copies an adapter's folder and gives it a tokenizer that is smaller than the goldens' vocabularies: they
// have none, and the tests bring their own ids.
func withTokenizer(t *testing.T, dir string) string {
	t.Helper()
	out := t.TempDir()
	for _, name := range []string{"adapter_config.json", "adapter_model.safetensors"} {
		if err := os.Symlink(filepath.Join(dir, name), filepath.Join(out, name)); err != nil {
			t.Fatal(err)
		}
	}
	content := `{"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[]}}`
	if err := os.WriteFile(filepath.Join(out, "tokenizer.json"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}
