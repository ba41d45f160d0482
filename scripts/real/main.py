"""Trains a real model and checks every figure on the way: see real.sh."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import sentence
from curve import picture
from safetensors.numpy import load_file

REPO = Path(__file__).resolve().parents[2]
EXAMPLE = REPO / "configs" / "examples" / "smollm2-lora.yaml"
EMBEDDING_BOUND = 1e-5  # of the model's README
SCORE_BOUND = 1e-4  # of nDCG@10: float32 embeddings of two programs may swap two all but equal documents
GAIN_BOUND = 0.05  # of nDCG@10: less could be the choice of the seed
TRAINING_BOUND = 30 * 60  # seconds of steps, on two cores


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=REPO / "runs" / "test-real", help="folder of what is written; a run in it goes on")
    parser.add_argument("--set", action="append", default=[], help="key=value over the run file, for trials")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    a = parser.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    report = Report()
    print(f"{date.today()}, {platform.machine()} ({os.cpu_count()} CPUs), load {os.getloadavg()[0]:.1f}, {ours('version').splitlines()[0]}", flush=True)
    embeddings(a, report)
    before, after, bm25 = train(a, report)
    folder = a.work / "sentence-transformers"
    print(ours("export", a.work / "run", "--format", "sentence-transformers", "--out", folder, "--force"), flush=True)
    python = sentence.score(folder, suites(a), a.threads)
    lines = ["| nDCG@10 | " + " | ".join(before) + " |", "|---|" + "---|" * len(before)]
    for label, scores in ("BM25", bm25), ("before", before), ("after", after), ("the export in sentence-transformers", python):
        lines.append(f"| {label} | " + " | ".join(f"{scores[s]:.4f}" for s in before) + " |")
    (a.work / "table.md").write_text("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines) + "\n")
    for s in before:
        report.row(f"{s}: gain of nDCG@10", f"{after[s] - before[s]:+.4f}, at least {GAIN_BOUND:+.2f}", after[s] - before[s] >= GAIN_BOUND)
        report.row(f"{s}: ours against sentence-transformers", f"{abs(after[s] - python[s]):.1e}, at most {SCORE_BOUND:.0e}", abs(after[s] - python[s]) <= SCORE_BOUND)
    print(f"the table, the loss curve and the report are in {a.work}")
    return 1 if report.misses else 0


class Report:
    misses = 0

    def row(self, what, figure, ok):
        self.misses += not ok
        print(f"{'ok  ' if ok else 'MISS'}  {what}: {figure}", flush=True)


def ours(*args, input=None, show=False):
    """The binary, called as a user calls it; its output."""
    command = [REPO / "bin" / "counterpoint", *map(str, args)]
    with subprocess.Popen(command, stdin=subprocess.PIPE if input else None, stdout=subprocess.PIPE, text=True) as p:
        if input:
            p.stdin.write(input)
            p.stdin.close()
        lines = []
        for line in p.stdout:
            lines.append(line)
            if show:
                print(line, end="", flush=True)
    if p.returncode != 0:
        raise SystemExit(f"real: {' '.join(map(str, command))}: exit {p.returncode}\n{'' if show else ''.join(lines)}")
    return "".join(lines)


def embeddings(a, report):
    """The model's own embeddings against those of transformers."""
    recipe = a.data / "models" / "smollm2-135m"
    expected = load_file(recipe / "expected.safetensors")
    texts = "".join(json.dumps(line.rstrip("\n")) + "\n" for line in open(recipe / "texts.txt"))
    for attention in "causal", "bidirectional":
        out = a.work / f"{attention}.npy"
        ours("embed", a.model, "--attention", attention, "--pooling", "mean", "--no-special-tokens", "--max-length", 512, "--out", out, input=texts)
        difference = np.abs(np.load(out) - expected[f"embed.{attention}.mean"]).max()
        report.row(f"embeddings, {attention}", f"largest difference {difference:.1e}, at most {EMBEDDING_BOUND:.0e}", difference <= EMBEDDING_BOUND)


def config(a):
    """The example with the folders of this machine."""
    text = EXAMPLE.read_text()
    for written, here in ("../../../shared/smollm2-135m", a.model), ("../../../shared/data", a.data):
        text = text.replace(written, str(here.resolve()))
    path = a.work / EXAMPLE.name
    path.write_text(text)
    return path


def suites(a):
    """evaluate.suites of the run, as the binary reads it."""
    import yaml

    return yaml.safe_load(config(a).read_text())["evaluate"]["suites"]


def train(a, report):
    """Trains, unless the run in the folder is finished; nDCG@10 of every suite before, after and by BM25."""
    settings = [f"log.dir={a.work / 'run'}", f"checkpoint.dir={a.work / 'run' / 'checkpoints'}", *a.set]
    begin = time.time()
    text = ours("train", config(a), *(x for s in settings for x in ("--set", s)), show=True)
    events = [json.loads(line) for line in open(a.work / "run" / "events.jsonl")]
    steps = {e["step"]: e for e in events if e["kind"] == "step"}
    seconds, tokens = (sum(e.get(k, 0) for e in steps.values()) for k in ("seconds", "tokens"))
    print(f"{len(steps)} steps, {tokens:,} real tokens in {seconds / 60:.1f} min: {tokens / seconds:.0f} tokens/s; {(time.time() - begin) / 60:.1f} min with evaluation; load {os.getloadavg()[0]:.1f}")
    report.row("training", f"{seconds / 60:.1f} min, at most {TRAINING_BOUND / 60:.0f}", seconds <= TRAINING_BOUND)
    picture(a.work / "loss.svg", [(s, e["loss"]) for s, e in sorted(steps.items())])
    scores = {}
    for e in events:
        if e["kind"] == "evaluation":
            scores.setdefault(e["suite"], []).append((e.get("step", 0), e["metrics"]["ndcg@10"]))
    bm25 = {}
    for line in text.splitlines():  # the table's rows: label, suite, nDCG@10
        if line.startswith("BM25"):
            suite, value = line.split("  ", 1)[1].split()[:2]
            bm25[suite] = float(value)
    return {s: min(v)[1] for s, v in scores.items()}, {s: max(v)[1] for s, v in scores.items()}, bm25


if __name__ == "__main__":
    sys.exit(main())
