package backbone

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// unsupported are the keys of a config.json that name what this program refuses, in all spellings.
type unsupported struct {
	ModelType     string          `json:"model_type"`
	AutoMap       map[string]any  `json:"auto_map"`
	Quantization  map[string]any  `json:"quantization_config"`
	Compression   map[string]any  `json:"compression_config"`
	Experts       json.RawMessage `json:"num_experts"`
	LocalExperts  json.RawMessage `json:"num_local_experts"`
	RoutedExperts json.RawMessage `json:"n_routed_experts"`
	TextConfig    map[string]any  `json:"text_config"`
}

// refuse names what kind of model a config.json describes that is not supported, and why; nil of one that may be.
func refuse(text []byte) error {
	var u unsupported
	if err := json.Unmarshal(text, &u); err != nil {
		return nil // the keys that are read say so better
	}
	if q := u.Quantization; q != nil {
		method, _ := q["quant_method"].(string)
		if method == "" && (q["load_in_4bit"] == true || q["load_in_8bit"] == true) {
			method = "bitsandbytes"
		}
		why := "training needs the weights as they were before"
		if strings.Contains(method, "fp8") {
			why = "its weights are 8-bit floats with scales beside them"
		}
		if method == "" {
			method = "an unnamed method"
		}
		return fmt.Errorf("quantization_config: quantised by %s, which is not supported: %s; take the model's bf16, fp16 or fp32 weights", method, why)
	}
	if u.Compression != nil {
		return errors.New("compression_config: compressed weights are not supported; take the model's bf16, fp16 or fp32 weights")
	}
	for _, experts := range []struct {
		key   string
		value json.RawMessage
	}{{"num_experts", u.Experts}, {"num_local_experts", u.LocalExperts}, {"n_routed_experts", u.RoutedExperts}} {
		if v := string(experts.value); v != "" && v != "null" && v != "0" {
			return fmt.Errorf("%s is %s: mixture of experts (model_type %q) is not supported: the block has one MLP, without a router", experts.key, v, u.ModelType)
		}
	}
	_, known := families[u.ModelType]
	switch {
	case known:
		return nil
	case len(u.AutoMap) > 0:
		return fmt.Errorf("model_type %q comes with code of its own (auto_map, trust_remote_code), which is not run, and is unknown here; supported: %s", u.ModelType, supported())
	case u.TextConfig != nil:
		return fmt.Errorf("model_type %q has a text_config: a model of several modalities is not supported; supported: %s", u.ModelType, supported())
	}
	return fmt.Errorf("model_type %q is not supported; supported: %s", u.ModelType, supported())
}

// gguf explains a folder without the files that are read, where it holds a GGUF file instead; else it returns err.
func gguf(dir string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	files, readErr := os.ReadDir(dir)
	if readErr != nil {
		return err
	}
	at := slices.IndexFunc(files, func(f os.DirEntry) bool { return strings.EqualFold(filepath.Ext(f.Name()), ".gguf") })
	if at < 0 {
		return err
	}
	return fmt.Errorf("%s is a GGUF file, which is not supported: its weights are in llama.cpp's layout and mostly quantised; take the model's safetensors (%w)", files[at].Name(), err)
}
