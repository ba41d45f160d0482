package backbone

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
)

const tinyConfig = `"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
	"intermediate_size": 12, "vocab_size": 10, "rms_norm_eps": 1e-5, "tie_word_embeddings": true`

// What is not supported is refused by name, with the reason.
func TestRefusals(t *testing.T) {
	for config, want := range map[string][]string{
		`{"model_type": "mixtral", "num_local_experts": 8}`:                                      {"num_local_experts is 8", "mixture of experts", `"mixtral"`},
		`{"model_type": "qwen3_moe", "num_experts": 128}`:                                        {"num_experts is 128", "mixture of experts"},
		`{"model_type": "deepseek_v3", "n_routed_experts": 256, "auto_map": {"AutoModel": "x"}}`: {"n_routed_experts is 256", "mixture of experts"},
		`{` + tinyConfig + `, "quantization_config": {"quant_method": "fp8"}}`:                   {"quantised by fp8", "8-bit floats", "bf16"},
		`{` + tinyConfig + `, "quantization_config": {"quant_method": "gptq", "bits": 4}}`:       {"quantised by gptq", "bf16"},
		`{` + tinyConfig + `, "quantization_config": {"quant_method": "awq"}}`:                   {"quantised by awq"},
		`{` + tinyConfig + `, "quantization_config": {"load_in_4bit": true}}`:                    {"quantised by bitsandbytes"},
		`{` + tinyConfig + `, "compression_config": {}}`:                                         {"compression_config"},
		`{"model_type": "nomic_bert", "auto_map": {"AutoModel": "modeling.NomicBert"}}`:          {`"nomic_bert"`, "trust_remote_code", "unknown here", "llama"},
		`{"model_type": "qwen2_vl", "text_config": {}}`:                                          {`"qwen2_vl"`, "several modalities"},
		`{"model_type": "bert"}`: {`"bert" is not supported`, "supported: ", "qwen2"},
		`{}`:                     {`model_type "" is not supported`},
		`{` + tinyConfig + `, "hidden_act": "gelu"}`:                               {`hidden_act "gelu"`, "silu"},
		`{` + tinyConfig + `, "rope_scaling": {"rope_type": "yarn", "factor": 4}}`: {`rope_type "yarn"`, "llama3"},
	} {
		_, err := ParseArchitecture([]byte(config))
		if err == nil {
			t.Errorf("%s is accepted", config)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: error %q, want it to say %q", config, err, w)
			}
		}
	}
}

// A tensor that is missing, left over or of another shape is named, with the shape that it should have.
func TestTensorsAreCompared(t *testing.T) {
	a, err := ParseArchitecture([]byte("{" + tinyConfig + "}"))
	if err != nil {
		t.Fatal(err)
	}
	const q, down = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight"
	for name, c := range map[string]struct {
		drop    string
		reshape map[string][]int
		add     string
		dtype   safetensors.DType
		want    []string
	}{
		"missing":   {drop: q, want: []string{"1 tensors are missing", q, "want [8 8]"}},
		"misshaped": {reshape: map[string][]int{down: {12, 8}}, want: []string{"1 tensors are of another shape", down + " is [12 8], want [8 12]"}},
		"extra":     {add: "model.layers.1.mlp.router.weight", want: []string{"1 tensors are unknown", "model.layers.1.mlp.router.weight"}},
		"fp8":       {dtype: "F8_E4M3", want: []string{"F8_E4M3", "not supported"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte("{"+tinyConfig+"}"), 0o644); err != nil {
				t.Fatal(err)
			}
			var all []safetensors.Tensor
			for _, g := range a.groups(true) {
				for _, x := range g.members {
					shape := x.shape
					if s, ok := c.reshape[x.name]; ok {
						shape = s
					}
					if x.name != c.drop {
						all = append(all, safetensors.Tensor{Name: x.name, Shape: shape, Values: make([]float32, x.size())})
					}
				}
			}
			if c.add != "" {
				all = append(all, safetensors.Tensor{Name: c.add, Shape: []int{1}, Values: []float32{1}})
			}
			var file strings.Builder
			if err := safetensors.Write(&file, all, nil); err != nil {
				t.Fatal(err)
			}
			text := file.String()
			if c.dtype != "" {
				text = eight(t, c.dtype)
			}
			if err := os.WriteFile(filepath.Join(dir, safetensors.SingleName), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			b, err := Load(Config{Path: dir}, 1)
			if err == nil {
				b.Close()
				t.Fatal("the folder is accepted")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q, want it to say %q", err, w)
				}
			}
		})
	}
}

// eight is a file of one tensor of an 8-bit type.
func eight(t *testing.T, dtype safetensors.DType) string {
	t.Helper()
	header := fmt.Sprintf(`{"model.embed_tokens.weight":{"dtype":%q,"shape":[10,8],"data_offsets":[0,80]}}`, dtype)
	return string([]byte{byte(len(header)), 0, 0, 0, 0, 0, 0, 0}) + header + strings.Repeat("\x00", 80)
}

func TestGGUFIsNamed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "model-Q4_K_M.gguf"), []byte("GGUF"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, config := range []bool{false, true} {
		if config {
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte("{"+tinyConfig+"}"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Load(Config{Path: dir}, 1); err == nil || !strings.Contains(err.Error(), "model-Q4_K_M.gguf is a GGUF file") {
			t.Errorf("Load of a folder with a GGUF file = %v, want an error that names it", err)
		}
	}
}
