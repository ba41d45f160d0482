package hub_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints/hub"
	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
)

// base is a model of one linear, [3, 2], with and without the language model's prefix.
func base(t *testing.T, name string) safetensors.Tensors {
	t.Helper()
	var file bytes.Buffer
	if err := safetensors.Write(&file, []safetensors.Tensor{{Name: name, Shape: []int{3, 2}, Values: []float32{1, 2, 3, 4, 5, 6}}}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Parse("base", file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

type change struct {
	config  map[string]any
	tensors []safetensors.Tensor
}

// adapter writes a folder of rank 1, changed.
func adapter(t *testing.T, c change) string {
	t.Helper()
	config := map[string]any{"peft_type": "LORA", "r": 1, "lora_alpha": 2, "a_key_of_tomorrow": map[string]any{"x": 1}}
	maps.Copy(config, c.config)
	if c.tensors == nil {
		c.tensors = pair("base_model.model.layers.0.q_proj", 1, 2, 3)
	}
	dir := t.TempDir()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := safetensors.Write(&file, c.tensors, nil); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"adapter_config.json": text, "adapter_model.safetensors": file.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func pair(module string, r, in, out int) []safetensors.Tensor {
	return []safetensors.Tensor{
		{Name: module + ".lora_A.weight", Shape: []int{r, in}, Values: ones(r * in)},
		{Name: module + ".lora_B.weight", Shape: []int{out, r}, Values: ones(out * r)},
	}
}

func ones(n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = 1
	}
	return out
}

// TestAdapterFaults: what an adapter cannot be merged for is named.
func TestAdapterFaults(t *testing.T) {
	module := "base_model.model.layers.0.q_proj"
	for _, c := range []struct {
		name string
		change
		want string
	}{
		{"sound", change{}, ""},
		{"sound over the language model", change{tensors: pair("base_model.model.model.layers.0.q_proj", 1, 2, 3)}, ""},
		{"kind", change{config: map[string]any{"peft_type": "IA3"}}, `"IA3"`},
		{"DoRA", change{config: map[string]any{"use_dora": true}}, "use_dora"},
		{"transposed", change{config: map[string]any{"fan_in_fan_out": true}}, "fan_in_fan_out"},
		{"rank of the config", change{config: map[string]any{"r": 2}}, "rank 2"},
		{"rank of no sense", change{config: map[string]any{"r": 0}}, "r: 0"},
		{"pattern of no sense", change{config: map[string]any{"rank_pattern": map[string]any{"q_(": 1}}}, `"q_("`},
		{"no prefix", change{tensors: pair("layers.0.q_proj", 1, 2, 3)}, "base_model.model."},
		{"wrong prefix", change{tensors: pair("base_model.model.transformer.layers.0.q_proj", 1, 2, 3)}, "wrong prefix"},
		{"another model", change{tensors: pair("base_model.model.layers.9.q_proj", 1, 2, 3)}, "layers.9.q_proj"},
		{"another width", change{tensors: pair(module, 1, 5, 3)}, "[3 5]"},
		{"B is missing", change{tensors: pair(module, 1, 2, 3)[:1]}, "lora_B"},
		{"A is missing", change{tensors: pair(module, 1, 2, 3)[1:]}, "lora_A"},
		{"A and B disagree", change{tensors: append(pair(module, 1, 2, 3)[:1:1], pair(module, 2, 2, 3)[1])}, "[r, in]"},
		{"magnitude", change{tensors: append(pair(module, 1, 2, 3), safetensors.Tensor{Name: module + ".lora_magnitude_vector", Shape: []int{3}, Values: ones(3)})}, "magnitude"},
		{"replaced by another shape", change{tensors: append(pair(module, 1, 2, 3), safetensors.Tensor{Name: "base_model.model.layers.0.q_proj.weight", Shape: []int{3}, Values: ones(3)})}, "[3]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, name := range []string{"layers.0.q_proj.weight", "model.layers.0.q_proj.weight"} {
				err := merge(t, adapter(t, c.change), name)
				if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("over %s: error = %v, want %q in it", name, err, c.want)
				}
			}
		})
	}
}

// merge opens the adapter over the base and compares W + (2/1) B A, which adds 2 to every value.
func merge(t *testing.T, dir, name string) error {
	t.Helper()
	a, err := hub.OpenAdapter(dir)
	if err != nil {
		return err
	}
	m, err := a.Over(base(t, name))
	if err != nil {
		_ = a.Close()
		return err
	}
	defer m.Close()
	got, err := m.Float32(nil, name)
	if err != nil {
		return err
	}
	if d := difference(got, []float32{3, 4, 5, 6, 7, 8}); d != 0 {
		t.Errorf("merged values %v", got)
	}
	return nil
}

// TestFirstPatternWins: as in PEFT, patterns are tried in the order of the file.
func TestFirstPatternWins(t *testing.T) {
	for order, want := range map[string]float32{
		`{"q_proj": 4, "layers.0.q_proj": 6}`: 1 + 4,
		`{"layers.0.q_proj": 6, "q_proj": 4}`: 1 + 6,
		`{"k_proj": 6, "_proj": 4}`:           1 + 2, // a key matches whole parts of the path
	} {
		dir := adapter(t, change{config: map[string]any{"alpha_pattern": json.RawMessage(order)}})
		a, err := hub.OpenAdapter(dir)
		if err != nil {
			t.Fatal(err)
		}
		m, err := a.Over(base(t, "layers.0.q_proj.weight"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.Float32(nil, "layers.0.q_proj.weight")
		if err != nil || got[0] != want {
			t.Errorf("alpha_pattern %s: first value %v, %v, want %v", order, got, err, want)
		}
		_ = m.Close()
	}
}

// TestMissingBase: the error says where it was looked for.
func TestMissingBase(t *testing.T) {
	a, err := hub.OpenAdapter(adapter(t, change{config: map[string]any{"base_model_name_or_path": "someone/model"}}))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := a.BaseFolder(); err == nil || !strings.Contains(err.Error(), "someone/model") || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("BaseFolder() error = %v", err)
	}
}

// TestSentenceFaults: modules and poolings that would give other embeddings are refused by name.
func TestSentenceFaults(t *testing.T) {
	modules := func(kinds ...string) string {
		var list []map[string]string
		for i, k := range kinds {
			list = append(list, map[string]string{"path": []string{"", "1_Pooling", "2_X", "3_Y"}[i], "type": "sentence_transformers.models." + k})
		}
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	sound := modules("Transformer", "Pooling", "Normalize")
	for _, c := range []struct{ name, modules, pooling, prompts, want string }{
		{"sound", sound, `{"pooling_mode": "lasttoken"}`, `{}`, ""},
		{"sound, old", sound, `{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}`, `{}`, ""},
		{"dense", modules("Transformer", "Pooling", "Dense"), `{"pooling_mode": "mean"}`, `{}`, "Dense"},
		{"no pooling", modules("Transformer"), `{}`, `{}`, "1 modules"},
		{"maximum", sound, `{"pooling_mode": "max"}`, `{}`, `"max"`},
		{"two poolings", sound, `{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}`, `{}`, "2 pooling modes"},
		{"no mode", sound, `{}`, `{}`, "0 pooling modes"},
		{"unknown default", sound, `{"pooling_mode": "mean"}`, `{"default_prompt_name": "query"}`, "default_prompt_name"},
		{"not JSON", sound, `{`, `{}`, "config.json"},
		{"outside", `[{"path":"../../etc","type":"x.Transformer"}]`, `{}`, `{}`, "leaves the folder"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "1_Pooling"), 0o700); err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string]string{hub.ModulesName: c.modules, "1_Pooling/config.json": c.pooling, hub.SentenceName: c.prompts} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := hub.ReadSentence(dir)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("ReadSentence() error = %v, want %q in it", err, c.want)
			}
		})
	}
}
