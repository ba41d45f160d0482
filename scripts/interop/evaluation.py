"""The same embeddings scored by us and by mteb itself, and our results files as mteb reads them: see interop.sh."""

import argparse
import gzip
import json
import logging
import os
import sys
import warnings
from pathlib import Path

import datasets
import mteb
import mtebtasks
import numpy as np
import pyarrow.parquet
from ours import LENGTH, REPO, Ours

DIGITS = 1e-5  # five digits: mteb rounds most scores of retrieval to them
ACCURACY = 1e-3  # 0.1 points: two solvers of the same logistic regression


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="empty folder with the binary counterpoint")
    parser.add_argument("--data", type=Path, default=os.environ.get("COUNTERPOINT_DATA") or REPO.parent / "shared" / "data")
    parser.add_argument("--model", type=Path, help="a folder or run to embed with; default a small run of 3 steps")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    ours = Ours(args.work)
    model = args.model
    if model is None:
        with gzip.open(REPO / "configs" / "quickstart" / "train.jsonl.gz", "rt") as f:
            (args.work / "pairs.jsonl").write_text("".join(next(f) for _ in range(100)))
        model = ours.train("evaluation", {"preset": "tiny-diffusion"}, steps=3)

    def embed(texts):
        out = args.work / "vectors.npy"
        ours.call("embed", model, "--max-length", LENGTH, "--out", out, input="".join(json.dumps(t) + "\n" for t in texts))
        return np.load(out)

    suites = {  # the task's name at mteb, or ours
        "cranfield": (str(args.data / "cranfield"), mtebtasks.retrieval(args.data / "cranfield", "CranfieldLocal"), DIGITS),
        "STSBenchmark": (f"mteb:STSBenchmark:{args.data / 'stsb' / 'dev.jsonl.gz'}", mtebtasks.sts(args.data / "stsb" / "dev.jsonl.gz", "StsbLocal"), DIGITS),
        "Banking77Classification": (f"mteb:Banking77Classification:{args.data / 'banking77'}",
                                    mtebtasks.classification(args.data / "banking77" / "train.jsonl.gz", args.data / "banking77" / "test.jsonl.gz", "BankingLocal"), ACCURACY),
    }  # fmt: skip
    results = args.work / "results"
    ours.call("eval", model, *(s[0] for s in suites.values()), "--max-length", LENGTH, "--instruction", "", "--document-instruction", "",
              "--results", results, "--model-name", "counterpoint/interop", "--revision", "1")  # fmt: skip
    print(f"\nmteb {mteb.__version__}: the same embeddings, scored by both\n\n| task | measure | ours | mteb | difference | allowed | |\n|---|---|---|---|---|---|---|")
    misses, encoder = 0, mtebtasks.Vectors(embed)
    files = {p.stem: p for p in results.rglob("*.json") if p.name != "model_meta.json"}
    for name, (_, task, allowed) in suites.items():
        mine = mteb.TaskResult.from_disk(files[name])  # as mteb reads its own
        mine = next(iter(mine.scores.values()))[0]
        theirs = {k: float(v) for k, v in mtebtasks.score(encoder, task).items() if isinstance(v, int | float | np.number)}
        misses += compare(name, mine, theirs, allowed)
    loaded = mteb.ResultCache(cache_path=args.work).load_results(models=["counterpoint/interop"], require_model_meta=True)
    known = {t.task_name for m in loaded for t in m.task_results}
    ok = known == suites.keys()
    print(f"| results | the folder, loaded by mteb: {len(known)} tasks | | | | | {'ok' if ok else 'MISS'} |")
    texts, table, plain = (args.work / name for name in ("texts.jsonl", "vectors.parquet", "texts.npy"))
    texts.write_text("".join(json.dumps({"id": f"d{i}", "text": f"package number {i}"}) + "\n" for i in range(1000)))
    for out in table, plain:
        ours.call("embed", model, texts, "--out", out)
    read = pyarrow.parquet.read_table(table)
    same = read["id"].to_pylist() == [f"d{i}" for i in range(1000)] and np.array_equal(np.stack(read["embedding"].to_numpy()), np.load(plain))
    print(f"| Parquet | {read.num_rows:,} rows of `embed`, read by pyarrow {pyarrow.__version__}, equal those of the .npy | | | | | {'ok' if same else 'MISS'} |")
    return misses > 0 or not (ok and same)


def compare(name, mine, theirs, allowed):
    """Rows of the main score and of the measure that differs most; how many measures differ by more than allowed."""
    both = {k: (float(mine[k]), theirs[k]) for k in theirs if isinstance(mine.get(k), int | float) and not np.isnan(theirs[k])}
    far = sorted(both, key=lambda k: -abs(both[k][0] - both[k][1]))
    missing = sorted(k for k in theirs if k not in mine and not np.isnan(theirs[k]))
    misses = sum(abs(a - b) > allowed for a, b in both.values()) + (len(both) == 0)
    for key in ("main_score", far[0]) if far else ():
        a, b = both[key]
        print(f"| {name} | {key} | {a:.6f} | {b:.6f} | {abs(a - b):.1e} | {allowed:.0e} | {'ok' if abs(a - b) <= allowed else 'MISS'} |", flush=True)
    print(f"| {name} | all {len(both)} measures | | | | | {'ok' if misses == 0 else f'{misses} MISS'} |", flush=True)
    if missing:
        print(f"| {name} | not among ours: {', '.join(missing)} | | | | | |")
    return misses


if __name__ == "__main__":
    sys.exit(main())
