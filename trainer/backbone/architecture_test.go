package backbone

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
)

const small = `{"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 6,
	"vocab_size": 5, "rms_norm_eps": 1e-5, "tie_word_embeddings": true`

func TestParseArchitectureRefuses(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"not JSON", `{`, "unexpected end"},
		{"unknown type", `{"model_type": "bert"}`, `model_type "bert" is not supported; supported: Dream, llada, llama, mistral, qwen2, qwen3`},
		{"no type", `{}`, `model_type "" is not supported`},
		{"no width", `{"model_type": "llama"}`, "hidden_size is 0"},
		{"wrong type", strings.Replace(small, "8", `"8"`, 1) + "}", "hidden_size"},
		{"heads", small + `, "num_key_value_heads": 3}`, "num_attention_heads 2 is not a multiple of num_key_value_heads 3"},
		{"odd head", small + `, "head_dim": 3}`, "head_dim is 3, want an even number"},
		{"activation", small + `, "hidden_act": "gelu"}`, `hidden_act "gelu" is not supported; supported: silu`},
		{"eps", small + `, "rms_norm_eps": 0}`, "rms_norm_eps is 0"},
		{"huge", small + `, "vocab_size": 99999999999}`, "vocab_size is 99999999999"},
		{"negative window", small + `, "sliding_window": -1}`, "sliding_window is -1"},
		{"theta", small + `, "rope_theta": 0}`, "rope_theta is 0"},
		{"rope type", small + `, "rope_scaling": {"rope_type": "yarn", "factor": 4}}`, `rope_type "yarn" is not supported; supported: default, llama3`},
		{"rope type, old key", small + `, "rope_scaling": {"type": "linear", "factor": 4}}`, `rope_type "linear" is not supported`},
		{"llama3 without factors", small + `, "rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}`, "rope of type llama3 has factor 0"},
		{"mask", small + `, "mask_token_id": 5}`, "mask_token_id 5 is not below vocab_size 5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ParseArchitecture([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestLoadNamesTensors spoils a sound folder: what is missing, misshaped or left over is named.
func TestLoadNamesTensors(t *testing.T) {
	a, err := ParseArchitecture([]byte(small + "}"))
	if err != nil {
		t.Fatal(err)
	}
	var sound []safetensors.Tensor
	for _, g := range a.groups(true) {
		for _, m := range g.members {
			sound = append(sound, safetensors.Tensor{Name: m.name, Shape: m.shape, Values: make([]float32, m.size())})
		}
	}
	bare := make([]safetensors.Tensor, len(sound))
	for i, s := range sound {
		s.Name = strings.TrimPrefix(s.Name, "model.")
		bare[i] = s
	}
	odd := sound[0]
	odd.Shape = []int{odd.Shape[1], odd.Shape[0]}
	for _, c := range []struct {
		name    string
		tensors []safetensors.Tensor
		want    string
	}{
		{"sound", sound, ""},
		{"names of an encoder", bare, ""},
		{"head stored twice", append(sound[:len(sound):len(sound)], safetensors.Tensor{Name: headName, Shape: []int{1}, Values: []float32{0}}), ""},
		{"missing", sound[:len(sound)-1], "1 tensors are missing: model.norm.weight"},
		{"another shape", append([]safetensors.Tensor{odd}, sound[1:]...), "model.embed_tokens.weight is [8 5], want [5 8]"},
		{"left over", append(sound[:len(sound):len(sound)], safetensors.Tensor{Name: "model.extra", Shape: []int{1}, Values: []float32{0}}), "1 tensors are unknown: model.extra"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(small+"}"), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Create(filepath.Join(dir, safetensors.SingleName))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := safetensors.Write(f, c.tensors, nil); err != nil {
				t.Fatal(err)
			}
			base, err := Load(Config{Path: dir}, 0)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("Load: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error = %v, want one with %q", err, c.want)
			}
			if base != nil {
				_ = base.Close()
			}
		})
	}
}

func FuzzParseArchitecture(f *testing.F) {
	f.Add([]byte(small + "}"))
	f.Add([]byte(`{"model_type": "llada", "d_model": 64, "n_layers": 1, "n_heads": 4, "n_kv_heads": 4, "mlp_hidden_size": 8, "block_type": "llama"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseArchitecture(text)
		if err != nil {
			return
		}
		if a.Heads%a.KV != 0 || len(a.Frequencies)*2 != a.HeadDim || a.Width < 1 {
			t.Errorf("accepted %+v", a)
		}
	})
}

func TestBucket(t *testing.T) {
	last := 0
	for n := range 5000 {
		b := bucket(n)
		if b < n || b < last || (n > 16 && 4*b > 5*n+4) {
			t.Fatalf("bucket(%d) = %d after %d", n, b, last)
		}
		last = b
	}
}

func TestPresets(t *testing.T) {
	if _, err := Load(Config{Preset: "tiny"}, 0); err == nil || !strings.Contains(err.Error(), "tiny-causal or tiny-diffusion") {
		t.Errorf("error = %v, want the presets named", err)
	}
	if _, err := Load(Config{}, 0); err == nil {
		t.Error("no error without path and preset")
	}
}
