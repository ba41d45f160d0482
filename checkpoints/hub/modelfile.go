package hub

import (
	"encoding/json"
	"fmt"
	"strings"
)

// ModelConfig is how an exported config.json differs from the one that it was trained with.
type ModelConfig struct {
	Causal  bool   // attention of the embeddings
	Encoder bool   // the weights are those of the encoder class, without a head
	DType   string // float32 or bfloat16
}

// Whole reports whether transformers' AutoModel makes the language model with its head, under whose "model." the
// decoder lies: so for the families whose code comes with their weights.
func Whole(config []byte) bool {
	var c struct {
		Type string `json:"model_type"`
	}
	return json.Unmarshal(config, &c) == nil && (c.Type == "Dream" || c.Type == "llada")
}

// Apply returns config.json in the spelling that transformers 4 and 5 read: rope_theta and rope_scaling.
func (m ModelConfig) Apply(config []byte) ([]byte, error) {
	keys := map[string]any{}
	d := json.NewDecoder(strings.NewReader(string(config)))
	d.UseNumber() // as they are written
	if err := d.Decode(&keys); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	keys["dtype"], keys["torch_dtype"] = m.DType, m.DType
	if rope, ok := keys["rope_parameters"].(map[string]any); ok {
		scaling := map[string]any{}
		for k, v := range rope {
			if k == "rope_theta" {
				keys["rope_theta"] = v
			} else {
				scaling[k] = v
			}
		}
		delete(keys, "rope_parameters")
		keys["rope_scaling"] = nil
		if kind := scaling["rope_type"]; kind != nil && kind != "default" {
			keys["rope_scaling"] = scaling
		}
	}
	if theta, ok := keys["rope_theta"].(json.Number); ok && !strings.ContainsAny(theta.String(), ".eE") {
		keys["rope_theta"] = theta + ".0" // an integer is warned about
	}
	if m.Encoder {
		keys["architectures"] = encoders(keys["architectures"])
	}
	if keys["is_causal"] = m.Causal; !m.Causal {
		// transformers keeps a window around each token where the causal mask is off; our attention does not
		if _, ok := keys["sliding_window"]; ok {
			keys["sliding_window"] = nil
			keys["use_sliding_window"] = false
		}
		if layers, ok := keys["layer_types"].([]any); ok {
			for i := range layers {
				layers[i] = "full_attention"
			}
		}
	}
	text, err := json.MarshalIndent(keys, "", "  ")
	return append(text, '\n'), err
}

func encoders(architectures any) any {
	list, ok := architectures.([]any)
	if !ok {
		return architectures
	}
	out := make([]any, len(list))
	for i, a := range list {
		out[i] = strings.Replace(fmt.Sprint(a), "ForCausalLM", "Model", 1)
	}
	return out
}

// Tokenizer returns a tokenizer's files so that transformers makes the same tokens of a text as the run did: no special
// tokens around it (framed says that the post-processor adds some), padding on the right, cut at maxLength.
func Tokenizer(files map[string][]byte, framed bool, maxLength int) (map[string][]byte, error) {
	out := map[string][]byte{}
	for name, content := range files {
		out[name] = content
	}
	if text, ok := files["tokenizer.json"]; ok && framed {
		keys := map[string]json.RawMessage{}
		if err := json.Unmarshal(text, &keys); err != nil {
			return nil, fmt.Errorf("tokenizer.json: %w", err)
		}
		keys["post_processor"] = json.RawMessage("null")
		stripped, err := json.Marshal(keys)
		if err != nil {
			return nil, fmt.Errorf("tokenizer.json: %w", err)
		}
		out["tokenizer.json"] = stripped
	}
	keys := map[string]any{}
	if text, ok := files["tokenizer_config.json"]; ok {
		if err := json.Unmarshal(text, &keys); err != nil {
			return nil, fmt.Errorf("tokenizer_config.json: %w", err)
		}
	}
	keys["padding_side"], keys["truncation_side"] = "right", "right"
	if maxLength > 0 {
		keys["model_max_length"] = maxLength
	}
	if keys["pad_token"] == nil { // batches need one; it is masked
		for _, other := range []string{"eos_token", "unk_token", "bos_token"} {
			if keys[other] != nil {
				keys["pad_token"] = keys[other]
				break
			}
		}
	}
	class, _ := keys["tokenizer_class"].(string)
	if strings.TrimSuffix(class, "Fast") == "DreamTokenizer" { // Qwen2's, in code of its own
		keys["tokenizer_class"] = "Qwen2Tokenizer"
		delete(keys, "auto_map")
	}
	for _, key := range []string{"add_bos_token", "add_eos_token"} { // these overrule the post-processor
		if _, ok := keys[key]; ok || strings.HasPrefix(class, "Llama") {
			keys[key] = false
		}
	}
	text, err := json.MarshalIndent(keys, "", "  ")
	out["tokenizer_config.json"] = append(text, '\n')
	return out, err
}
