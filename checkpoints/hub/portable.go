package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// lladaKeys are the keys of LLaDA's config.json that Llama's has under other names.
var lladaKeys = map[string]string{
	"d_model": "hidden_size", "n_heads": "num_attention_heads", "n_kv_heads": "num_key_value_heads", "n_layers": "num_hidden_layers",
	"mlp_hidden_size": "intermediate_size", "embedding_size": "vocab_size", "max_sequence_length": "max_position_embeddings",
	"rms_norm_eps": "rms_norm_eps", "rope_theta": "rope_theta", "weight_tying": "tie_word_embeddings",
	"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "pad_token_id": "pad_token_id", "mask_token_id": "mask_token_id",
}

// lladaNames turn LLaDA's tensor names into those of Llama's encoder class.
var lladaNames = strings.NewReplacer(
	"model.transformer.wte.", "embed_tokens.", "model.transformer.ln_f.", "norm.", "model.transformer.blocks.", "layers.",
	"attn_norm", "input_layernorm", "ff_norm", "post_attention_layernorm", "q_proj", "self_attn.q_proj", "k_proj", "self_attn.k_proj",
	"v_proj", "self_attn.v_proj", "attn_out", "self_attn.o_proj", "ff_proj", "mlp.gate_proj", "up_proj", "mlp.up_proj", "ff_out", "mlp.down_proj")

// Portable returns the config.json of a family whose own code makes a language model, as that of the family in
// transformers itself that computes the same states: Dream is Qwen2 and LLaDA is Llama without the causal mask. A
// library that embeds wants states, and then needs no code from the folder.
func Portable(config []byte) ([]byte, error) {
	keys := map[string]any{}
	d := json.NewDecoder(strings.NewReader(string(config)))
	d.UseNumber()
	if err := d.Decode(&keys); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	switch keys["model_type"] {
	case "Dream":
		delete(keys, "auto_map")
		keys["model_type"], keys["architectures"] = "qwen2", []any{"Qwen2Model"}
	case "llada":
		if keys["include_bias"] == true || keys["include_qkv_bias"] == true {
			return nil, errors.New("config.json: a LLaDA with biases cannot be written as a Llama")
		}
		llama := map[string]any{"model_type": "llama", "architectures": []any{"LlamaModel"}, "hidden_act": "silu", "is_causal": keys["is_causal"]}
		for from, to := range lladaKeys {
			if v, ok := keys[from]; ok {
				llama[to] = v
			}
		}
		if llama["vocab_size"] == nil {
			llama["vocab_size"] = keys["vocab_size"]
		}
		keys = llama
	default:
		return config, nil
	}
	return json.Marshal(keys)
}

// Names returns the names under which a folder's tensors are written. encoder: those of the encoder class in
// transformers, without "model." and without the head.
func Names(tensors []string, encoder bool) map[string]string {
	out := map[string]string{}
	for _, name := range tensors {
		switch {
		case strings.HasSuffix(name, "rotary_emb.inv_freq"): // buffers of old versions
		case !encoder:
			out[name] = name
		case name == "lm_head.weight" || name == "model.transformer.ff_out.weight": // the head
		case strings.HasPrefix(name, "model.transformer."):
			out[name] = lladaNames.Replace(name)
		default:
			out[name] = strings.TrimPrefix(name, "model.")
		}
	}
	return out
}
