"""Base models: the golden Qwen2, and random ones of every other family that transformers knows without code of its own."""

import json
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen3Config

from ours import golden

TOKENIZER = ["tokenizer.json", "tokenizer_config.json"]


def make(work):
    """Folders by name. All have the tokenizer of 600 entries of the golden sentence-transformers folders."""
    tokens = golden("sentence-transformers", work) / "mean"
    root = work / "bases"
    out = {}

    def folder(name, *sources):
        out[name] = root / name
        out[name].mkdir(parents=True)
        for source in sources:
            shutil.copyfile(source, out[name] / source.name)
        for file in TOKENIZER:
            shutil.copyfile(tokens / file, out[name] / file)
        return out[name]

    qwen = golden("backbones", work) / "qwen2"
    files = [qwen / "config.json", qwen / "model.safetensors"]
    folder("qwen2", *files)
    framed(folder("qwen2-framed", *files))
    dream(folder("dream", *files))
    common = {
        "vocab_size": 600, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "initializer_range": 0.1, "bos_token_id": 0, "eos_token_id": 0,
    }
    llama3 = {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
    }
    for name, config in {
        "llama3": LlamaConfig(**common, rope_parameters=llama3),
        "smollm2": LlamaConfig(**common, tie_word_embeddings=True),
        "mistral-window": MistralConfig(**common, sliding_window=12, head_dim=16),
        "qwen3": Qwen3Config(**common, head_dim=24),
    }.items():
        torch.manual_seed(1)
        dir = folder(name)
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(dir)
    llada(folder("llada"), out["smollm2"])
    return out


def framed(dir):
    """Its tokenizer puts a special token before every text and after it. Runs embed texts without them."""
    path = dir / "tokenizer.json"
    keys = json.loads(path.read_text())
    end = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    number = next(t["id"] for t in keys["added_tokens"] if t["content"] == "<|endoftext|>")
    a, b = ({"Sequence": {"id": s, "type_id": 0}} for s in "AB")
    keys["post_processor"] = {
        "type": "TemplateProcessing", "single": [end, a, end], "pair": [end, a, end, b, end],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [number], "tokens": ["<|endoftext|>"]}},
    }
    path.write_text(json.dumps(keys))


def dream(dir):
    """Dream is Qwen2 without the causal mask, under the same names."""
    config = json.loads((dir / "config.json").read_text())
    config |= {"model_type": "Dream", "architectures": ["DreamModel"], "mask_token_id": 1, "auto_map": {"AutoModel": "modeling_dream.DreamModel"}}
    (dir / "config.json").write_text(json.dumps(config))


def llada(dir, source):
    """LLaDA is Llama without the causal mask, under OLMo's names."""
    config = json.loads((source / "config.json").read_text())
    keys = {
        "d_model": "hidden_size", "n_heads": "num_attention_heads", "n_kv_heads": "num_key_value_heads", "n_layers": "num_hidden_layers",
        "mlp_hidden_size": "intermediate_size", "embedding_size": "vocab_size", "vocab_size": "vocab_size", "max_sequence_length": "max_position_embeddings",
        "rms_norm_eps": "rms_norm_eps",
    }
    (dir / "config.json").write_text(json.dumps({ours: config[theirs] for ours, theirs in keys.items()} | {
        "model_type": "llada", "rope_theta": config["rope_parameters"]["rope_theta"], "activation_type": "silu", "block_type": "llama", "weight_tying": True,
        "mask_token_id": 1, "eos_token_id": 0, "auto_map": {"AutoModel": "modeling_llada.LLaDAModelLM"},
    }))
    renamed = {}
    for name, value in load_file(source / "model.safetensors").items():
        for old, new in [
            ("model.embed_tokens", "model.transformer.wte"), ("model.norm", "model.transformer.ln_f"), ("model.layers", "model.transformer.blocks"),
            ("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ff_norm"), ("self_attn.o_proj", "attn_out"), ("self_attn.", ""),
            ("mlp.gate_proj", "ff_proj"), ("mlp.up_proj", "up_proj"), ("mlp.down_proj", "ff_out"),
        ]:
            name = name.replace(old, new)
        renamed[name] = value
    save_file(renamed, dir / "model.safetensors", metadata={"format": "pt"})
