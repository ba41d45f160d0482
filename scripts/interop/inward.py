"""Folders that Python has saved, as `counterpoint embed` reads them."""

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from outward import sentence
from texts import TEXTS

QUERY = "Instruct: find the package\nQuery: "
LIMIT = 48
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def run(ours, table, bases):
    saved = ours.work / "saved"
    folders(ours, table, bases, saved)
    adapters(ours, table, bases, saved)
    models(ours, table, bases, saved)


def compare(ours, table, what, form, dir, vectors, ids, prompts=("", "query"), effect=None, base=""):
    flags = ["--base", base] if base else []
    want = [vectors(p) for p in prompts]
    pairs = [(ours.embed(dir, p, *flags), w) for p, w in zip(prompts, want, strict=True)]
    tokens = [(ours.ids(dir, p, base), ids(p)) for p in prompts]
    table.row(what, form, "counterpoint embed", pairs, tokens, effect and [(effect(p), w) for p, w in zip(prompts, want, strict=True)])


def folders(ours, table, bases, saved):
    """Folders that sentence-transformers saves: poolings, prompts in and out of the pool, attention, length, an adapter inside."""
    for name, base, pooling, pool_prompt, causal, normalize in [
        ("mean", "qwen2", "mean", True, True, True),
        ("mean, bidirectional", "qwen2", "mean", True, False, True),
        ("mean without prompt", "qwen3", "mean", False, True, True),
        ("mean, not normalised", "smollm2", "mean", True, True, False),
        ("last token", "llama3", "lasttoken", True, True, True),
        ("last token, framed", "qwen2-framed", "lasttoken", True, True, True),
        ("weighted mean", "mistral-window", "weightedmean", True, True, True),
        ("weighted mean without prompt", "qwen2", "weightedmean", False, True, True),
        ("first token, bidirectional", "qwen3", "cls", True, False, True),
    ]:
        t = Transformer(str(bases[base]), max_seq_length=LIMIT, config_args={} if causal else {"is_causal": False})
        last = [Normalize()] if normalize else []
        model = SentenceTransformer(modules=[t, Pooling(64, pooling_mode=pooling, include_prompt=pool_prompt), *last], prompts={"query": QUERY, "document": ""})
        dir = saved / name.replace(", ", "-").replace(" ", "-")
        model.save_pretrained(str(dir))
        compare(ours, table, f"{base}, {name}", "sentence-transformers", dir, *sentence(model))

    exported = ours.work / "exports" / "qwen2-lora-sentence-transformers"
    model = SentenceTransformer(str(exported))
    model.save_pretrained(str(saved / "again"))
    compare(ours, table, "our export, saved again", "sentence-transformers", saved / "again", *sentence(model))

    plain = SentenceTransformer(str(saved / "mean"))
    model = SentenceTransformer(str(saved / "mean"))
    model.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=ALL))
    shake(model)
    dir = saved / "with-adapter"
    model.save_pretrained(str(dir))
    model.eval()
    before, _ = sentence(plain)
    compare(ours, table, "an adapter inside", "sentence-transformers", dir, *sentence(model), effect=before)


def shake(model):
    """Noise on what trains, as if it had been trained; B begins at zero."""
    torch.manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p) * 0.1)


def mean(model, tokenizer):
    """(vectors, ids) of the mean of a model's last states, normalised: what embed does where a folder does not say."""
    encoded = tokenizer(TEXTS, truncation=True)["input_ids"]

    def vectors(_):
        out = []
        for ids in encoded:
            with torch.no_grad():
                states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1]
            out.append(torch.nn.functional.normalize(states.mean(1), dim=1)[0].numpy())
        return out

    return vectors, lambda _: encoded


def adapters(ours, table, bases, saved):
    """Adapters that PEFT saves, over both classes."""
    for name, base, kind, config in [
        ("all linears", "qwen2", AutoModel, {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}),
        ("all linears of the causal LM", "qwen2", AutoModelForCausalLM, {"r": 8, "lora_alpha": 16, "target_modules": ALL, "task_type": "CAUSAL_LM"}),
        ("q and v, rsLoRA", "llama3", AutoModel, {"r": 4, "lora_alpha": 6, "use_rslora": True, "target_modules": ["q_proj", "v_proj"]}),
        ("patterns", "qwen3", AutoModel, {
            "r": 4, "lora_alpha": 8, "target_modules": ALL, "rank_pattern": {"layers.0.mlp.down_proj": 2, "q_proj": 6}, "alpha_pattern": {"v_proj": 3, r"layers\.1\.self_attn\.o_proj": 16},
        }),
        ("trained biases and norm", "qwen2", AutoModel, {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "bias": "lora_only", "modules_to_save": ["norm"]}),
    ]:
        plain = kind.from_pretrained(bases[base], dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(bases[base])
        before = mean(plain, tokenizer)[0]("")
        model = get_peft_model(plain, LoraConfig(**config))
        shake(model)
        dir = saved / f"adapter-{name.replace(' ', '-').replace(',', '')}"
        model.eval().save_pretrained(str(dir))
        compare(ours, table, f"{base}, {name}", "peft", dir, *mean(model, tokenizer), prompts=[""], effect=lambda _: before)
        merged = model.merge_and_unload()
        merged.save_pretrained(str(dir) + "-merged")
        tokenizer.save_pretrained(str(dir) + "-merged")
        compare(ours, table, f"{base}, {name}, merged", "huggingface", dir.with_name(dir.name + "-merged"), *mean(merged, tokenizer), prompts=[""])

    exported, base = ours.work / "exports" / "causal-lora-peft", ours.work / "exports" / "causal-lora-peft" / "base"
    tokenizer = AutoTokenizer.from_pretrained(exported)
    plain = AutoModel.from_pretrained(base, dtype=torch.float32).eval()
    before = mean(plain, tokenizer)[0]("")
    model = PeftModel.from_pretrained(plain, exported, is_trainable=True)
    shake(model)
    model.eval().save_pretrained(str(saved / "continued"))
    tokenizer.save_pretrained(str(saved / "continued"))
    compare(ours, table, "our adapter, trained on by PEFT", "peft", saved / "continued", *mean(model, tokenizer), prompts=[""], effect=lambda _: before, base=str(base))


def models(ours, table, bases, saved):
    """Folders that transformers saves: both classes, shards, bfloat16, is_causal."""
    for name, base, kind, load, save in [
        ("encoder class", "qwen3", AutoModel, {}, {}),
        ("causal LM in shards", "llama3", AutoModelForCausalLM, {}, {"max_shard_size": "200KB"}),
        ("bfloat16", "smollm2", AutoModelForCausalLM, {"dtype": torch.bfloat16}, {}),
        ("float16, encoder class", "qwen2", AutoModel, {"dtype": torch.float16}, {}),
        ("bidirectional", "qwen2", AutoModel, {"config": AutoConfig.from_pretrained(bases["qwen2"], is_causal=False)}, {}),
        ("sliding window", "mistral-window", AutoModelForCausalLM, {}, {}),
    ]:
        dir = saved / f"model-{name.replace(' ', '-').replace(',', '')}"
        tokenizer = AutoTokenizer.from_pretrained(bases[base])
        kind.from_pretrained(bases[base], **{"dtype": torch.float32} | load).save_pretrained(dir, **save)
        tokenizer.save_pretrained(dir)
        model = kind.from_pretrained(dir, dtype=torch.float32).eval()
        compare(ours, table, f"{base}, {name}", "huggingface", dir, *mean(model, tokenizer), prompts=[""])
