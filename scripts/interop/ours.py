"""Our side: the binary, called as a user calls it."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import numpy as np
from texts import TEXTS

REPO = Path(__file__).resolve().parents[2]
INSTRUCTION = "Find the package"
PROMPT = INSTRUCTION + ": "
LENGTH = 64


class Ours:
    def __init__(self, work):
        self.work = Path(work)
        self.lines = "".join(json.dumps(t) + "\n" for t in TEXTS)
        self.vectors = 0

    def call(self, *args, input=None, program="counterpoint"):
        p = subprocess.run([self.work / program, *map(str, args)], cwd=self.work, input=input, capture_output=True, text=True)
        if p.returncode != 0:
            raise SystemExit(f"interop: {program} {' '.join(map(str, args))}\n{p.stdout}{p.stderr}")
        return p.stdout

    def train(self, name, model, steps=20):
        """A run of a few steps over 100 pairs; its folder. The rate is high, so that every adapter moves."""
        config = {
            "name": name, "model": model, "data": [{"path": "pairs.jsonl", "instruction": INSTRUCTION}],
            "loss": {"kind": "infonce", "temperature": 0.05},
            "train": {"batch": 16, "steps": steps, "max_length": LENGTH, "seed": 7, "schedule": {"peak": 5e-3, "warmup": 2, "decay": "constant"}},
            "cluster": {"workers": 1},
        }
        path = self.work / f"{name}.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        self.call("train", path)
        return self.work / "runs" / name

    def export(self, run, form, *flags):
        out = self.work / "exports" / f"{Path(run).name}-{form}"
        self.call("export", run, "--format", form, "--out", out, *flags)
        return out

    def embed(self, model, prompt_name="", *flags):
        """The texts' vectors [32, D]."""
        out = self.work / f"vectors-{self.vectors}.npy"
        self.vectors += 1
        name = ["--prompt-name", prompt_name] if prompt_name else []
        self.call("embed", model, "--out", out, *name, *flags, input=self.lines)
        return np.load(out)

    def ids(self, model, prompt_name="", base=""):
        """The texts' token ids."""
        text = self.call(model, prompt_name, base, program="ids", input=self.lines)
        return [json.loads(line) for line in text.splitlines()]


def golden(name, work):
    """A folder of reference files: of COUNTERPOINT_GOLDEN, else the repository's own."""
    if root := os.environ.get("COUNTERPOINT_GOLDEN"):
        return Path(root) / name
    to = Path(work) / "golden"
    if not (to / name).exists():
        with tarfile.open(REPO / "data" / "golden" / "files" / f"{name}.tar.gz") as t:
            t.extractall(to, filter="data")
    return to / name
