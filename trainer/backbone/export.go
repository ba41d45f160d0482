package backbone

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
)

// ConfigJSON returns the config.json of a checkpoint of this base that was trained with an attention: that of the
// base's folder, or the preset's in Llama's keys, with `is_causal` as transformers reads it.
func (b *Base) ConfigJSON(attention string) ([]byte, error) {
	keys := map[string]any{}
	if b.dir != "" {
		text, err := os.ReadFile(filepath.Join(b.dir, "config.json"))
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", b.dir, err)
		}
		if err := json.Unmarshal(text, &keys); err != nil {
			return nil, fmt.Errorf("model %s: config.json: %w", b.dir, err)
		}
	} else {
		a := &b.Architecture
		keys = map[string]any{
			"architectures": []string{"LlamaForCausalLM"}, "model_type": a.Family, "hidden_act": "silu", "dtype": "float32", "torch_dtype": "float32",
			"hidden_size": a.Width, "num_hidden_layers": a.Layers, "num_attention_heads": a.Heads, "num_key_value_heads": a.KV, "head_dim": a.HeadDim,
			"intermediate_size": a.FF, "vocab_size": a.Vocab, "max_position_embeddings": a.MaxPositions,
			"rms_norm_eps": shortest(a.Eps), "rope_theta": presetTheta, "tie_word_embeddings": a.Tied,
		}
		if a.MaskToken >= 0 {
			keys["mask_token_id"] = a.MaskToken
		}
	}
	if attention == "" {
		attention = Causal
		if b.Architecture.Bidirectional {
			attention = Bidirectional
		}
	}
	keys["is_causal"] = attention == Causal
	return json.MarshalIndent(keys, "", "  ")
}

// Rest returns the base's tensors that are not in trained, as they are stored: what a checkpoint of a fully trained
// model carries along, such as the head of an encoder.
func (b *Base) Rest(trained map[string]bool) ([]safetensors.Tensor, error) {
	if b.source == nil {
		return nil, nil
	}
	var rest []safetensors.Tensor
	for _, name := range b.source.Names() {
		full := name
		if b.bare {
			full = "model." + name
		}
		if trained[name] || trained[full] {
			continue
		}
		info, _ := b.source.Info(name)
		raw, err := b.source.Bytes(name)
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", b.dir, err)
		}
		rest = append(rest, safetensors.Tensor{Name: name, Shape: info.Shape, Raw: raw, DType: info.DType})
	}
	return rest, nil
}

// shortest is a float32 as the float64 that its shortest decimal names: 1e-06, not 9.99999997e-07.
func shortest(x float32) float64 {
	var v float64
	if _, err := fmt.Sscan(fmt.Sprint(x), &v); err != nil {
		return float64(x)
	}
	return v
}

// presetTheta is the base of the presets' rotation.
const presetTheta = 10000.0

// presetFrequencies are 1 / theta^(2i/hd), as frequencies computes them from a config.json, so that a preset and its
// checkpoint rotate by the same bits.
func presetFrequencies(headDim int) []float32 {
	out := make([]float32, headDim/2)
	for i := range out {
		out[i] = 1 / float32(math.Pow(presetTheta, float64(float32(2*i)/float32(headDim))))
	}
	return out
}
