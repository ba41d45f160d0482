"""Our checkpoints, exported, as Python reads them."""

import contextlib
import io
import re
import shutil

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForCausalLM

from ours import LENGTH, PROMPT
from table import largest
from texts import TEXTS

PREFIX = "base_model.model."
CASES = [  # name, base or preset, model settings
    ("diffusion-lora", "tiny-diffusion", {"lora": {"rank": 8, "alpha": 16}}),
    ("diffusion-full", "tiny-diffusion", {"pooling": "weighted_mean"}),
    ("causal-lora", "tiny-causal", {"pooling": "last_token", "lora": {"rank": 4, "alpha": 6, "rslora": True}}),
    ("causal-full", "tiny-causal", {"pool_instruction": False}),
    ("qwen2-lora", "qwen2", {"attention": "bidirectional", "lora": {"rank": 8, "alpha": 16, "rslora": True, "dropout": 0.05}}),
    ("qwen2-lora-causal", "qwen2", {"pool_instruction": False, "lora": {"rank": 4, "alpha": 6, "targets": ["q_proj", "v_proj"]}}),
    ("qwen2-full", "qwen2", {"attention": "bidirectional", "pooling": "first_token"}),
    ("qwen2-framed-lora", "qwen2-framed", {"pooling": "last_token", "lora": {"rank": 8, "alpha": 16}}),
    ("llama3-lora", "llama3", {"pooling": "weighted_mean", "lora": {"rank": 8, "alpha": 16}}),
    ("smollm2-full", "smollm2", {"attention": "bidirectional"}),
    ("mistral-window-lora", "mistral-window", {"lora": {"rank": 8, "alpha": 16}}),
    ("mistral-window-open", "mistral-window", {"attention": "bidirectional", "lora": {"rank": 8, "alpha": 16}}),
    ("qwen3-lora", "qwen3", {"attention": "bidirectional", "pooling": "last_token", "lora": {"rank": 8, "alpha": 16}}),
    ("qwen3-full", "qwen3", {}),
    ("dream-lora", "dream", {"lora": {"rank": 8, "alpha": 16}}),
    ("llada-lora", "llada", {"lora": {"rank": 8, "alpha": 16}}),
]


def card(folder):
    """The program in the folder's model card, run as it is written."""
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)[1].replace("FOLDER", str(folder))
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints similarities
        exec(compile(code, str(folder / "README.md"), "exec"), names)
    return names


def read_card(folder):
    """(vectors, ids, names) by the card's own functions; the prompt is put before the text as the card says."""
    names = card(folder)
    model, tokenizer = names["model"], names.get("tokenizer")
    if tokenizer is None:
        return (*sentence(model), names)

    def ids(prompt_name):
        prompt = PROMPT if prompt_name else ""
        return tokenizer([prompt + t for t in TEXTS], truncation=True, max_length=LENGTH)["input_ids"]

    return lambda prompt_name: names["embed"](TEXTS, PROMPT if prompt_name else "").numpy(), ids, names


def sentence(model):
    """(vectors, ids) by sentence-transformers."""
    def ids(prompt_name):
        prompt = model.prompts[prompt_name] if prompt_name else ""
        return [model.preprocess([prompt + t])["input_ids"][0].tolist() for t in TEXTS]

    return lambda prompt_name: model.encode(TEXTS, prompt_name=prompt_name or None, batch_size=7), ids


def run(ours, table, bases):
    for name, base, settings in CASES:
        model = {"preset": base} if base.startswith("tiny-") else {"path": str(bases[base])}
        checkpoint = ours.train(name, model | settings)
        want = {p: ours.embed(checkpoint, p) for p in ("", "query")}
        own = base in ("dream", "llada")  # AutoModel needs code that comes with the real weights
        folders = {f: ours.export(checkpoint, f) for f in ["peft"] * ("lora" in settings) + ["sentence-transformers", "huggingface"]}
        for form, folder in folders.items():
            compare(table, ours, name, form, "counterpoint embed", folder, want, lambda p: ours.embed(folder, p))
            if own and form != "sentence-transformers":
                continue
            vectors, ids, names = read_card(folder)
            reader = {"peft": "PEFT over AutoModel", "huggingface": "AutoModel"}.get(form, "SentenceTransformer")
            effect = None
            if form == "peft":
                with names["model"].disable_adapter():
                    effect = {p: vectors(p) for p in want}
            compare(table, ours, name, form, reader, folder, want, vectors, ids, effect)
            if form == "peft":
                alone(table, ours, name, folder, want)
                trap(table, name, folder, names, effect, ours.work)
            if form == "huggingface":
                compare(table, ours, name, form, "SentenceTransformer", folder, want, *sentence(SentenceTransformer(str(folder))))
                complete(table, name, folder)
        if own:
            modules(table, name, folders, bases[base])


def compare(table, ours, name, form, reader, folder, want, vectors, ids=None, off=None):
    pairs = [(vectors(p), w) for p, w in want.items()]
    tokens = ids and [(ours.ids(folder, p), ids(p)) for p in want]
    table.row(name, form, reader, pairs, tokens, off and [(off[p], w) for p, w in want.items()])


def complete(table, name, folder):
    """Both classes find every tensor they want in the folder; the encoder class has no use for the head alone."""
    for kind in (AutoModel, AutoModelForCausalLM):
        _, info = kind.from_pretrained(folder, output_loading_info=True)
        missing, more = set(info["missing_keys"]), set(info["unexpected_keys"]) - ({"lm_head.weight"} if kind is AutoModel else set())
        table.fact(name, "huggingface", kind.__name__, f"{len(missing)} tensors missing, {len(more)} unknown", not missing and not more)


def alone(table, ours, name, folder, want):
    """The adapter's folder by itself, without the base's name. Where the base's config.json has another attention, it must
    be refused, since the libraries would take that one."""
    try:
        with contextlib.chdir(folder):  # a preset's base lies in the folder
            model = SentenceTransformer(".")
    except OSError:
        table.fact(name, "peft", "SentenceTransformer", "refused: the base has another attention", (folder / "config.json").exists())
        return
    compare(table, ours, name, "peft", "SentenceTransformer", folder, want, *sentence(model))


def trap(table, name, folder, names, off, work):
    """Every tensor of the adapter's file is in PEFT's model, and nothing else was left at its start; and what the table
    would show if the keys had the other prefix: an adapter that PEFT does not load moves nothing, without an error."""
    stored = load_file(folder / "adapter_model.safetensors")
    table.fact(name, "peft", "PEFT over AutoModel", f"{loaded(names['model'], stored)} of {len(stored)} tensors loaded", loaded(names["model"], stored) == len(stored))
    wrong = work / "wrong" / folder.name
    shutil.copytree(folder, wrong)
    save_file({k.replace(PREFIX, PREFIX + "model."): v for k, v in stored.items()}, wrong / "adapter_model.safetensors", metadata={"format": "pt"})
    broken, _, other = read_card(wrong)
    moved = max(largest(broken(p), off[p]) for p in off)
    table.fact(name + ", keys of the other class", "peft", "PEFT over AutoModel", f"{loaded(other['model'], stored)} loaded, moved by {moved:.0e}: told apart", moved == 0)


def loaded(model, stored):
    """Tensors of the file that the model holds, by value: its own keys have the adapter's name in them."""
    have = {k.replace(".default.", "."): v for k, v in model.state_dict().items() if ".lora_" in k}
    if set(have) != set(stored):
        return 0
    return sum(torch.equal(have[k], v) for k, v in stored.items())


class Modules(torch.nn.Module):
    """A tree of linears with the paths of a folder's tensors, for families whose class is not in transformers."""

    config = {"model_type": "custom"}

    def __init__(self, weights):
        super().__init__()
        for path, value in weights.items():
            at, names = self, path.split(".")
            for part in names[:-2]:
                if not hasattr(at, part):
                    at.add_module(part, torch.nn.Module())
                at = getattr(at, part)
            if value.dim() == 2 and names[-2] not in ("wte", "embed_tokens"):
                if not hasattr(at, names[-2]):
                    at.add_module(names[-2], torch.nn.Linear(value.shape[1], value.shape[0], bias=path.replace("weight", "bias") in weights))
                getattr(at, names[-2]).weight.data = value.clone()


def modules(table, name, folders, base):
    """PEFT merges the adapter into modules of the base's names; the weights must be those of the merged export."""
    weights = load_file(base / "model.safetensors")
    stored = load_file(folders["peft"] / "adapter_model.safetensors")
    model = PeftModel.from_pretrained(Modules(weights), folders["peft"])
    count = loaded(model, stored)
    table.fact(name, "peft", "PEFT over modules of its names", f"{count} of {len(stored)} tensors loaded", count == len(stored))
    merged = model.merge_and_unload().state_dict()
    exported = load_file(folders["huggingface"] / "model.safetensors")
    adapted = [k.removeprefix(PREFIX).replace("lora_A.", "") for k in stored if ".lora_A." in k]
    worst = max((merged[k] - exported[k]).abs().max().item() for k in adapted)
    moved = min((weights[k] - exported[k]).abs().max().item() for k in adapted)
    same = all(torch.equal(weights[k], exported[k]) for k in weights if k not in adapted)
    table.fact(name, "huggingface", "PEFT's merged weights", f"{worst:.1e} of {len(adapted)} matrices, moved by {moved:.2f} at least", worst <= 1e-6 and moved > 1e-3 and same)
