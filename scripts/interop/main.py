"""Proves exports and imports numerically: see interop.sh. Called with the folder that holds the built binaries."""

import argparse
import datetime
import gzip
import logging
import os
import platform
import sys
import time
import warnings
from pathlib import Path

import peft
import sentence_transformers
import torch
import transformers

import bases
import inward
import outward
from ours import REPO, Ours
from table import BOUND, Table
from texts import TEXTS

PAIRS = 100


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", required=True, help="empty folder with the binaries counterpoint and ids")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    begin, work = time.time(), Path(args.work)
    with gzip.open(REPO / "configs" / "quickstart" / "train.jsonl.gz", "rt") as f:
        (work / "pairs.jsonl").write_text("".join(next(f) for _ in range(PAIRS)))
    ours, table = Ours(work), Table()
    versions = ", ".join(f"{m.__name__} {m.__version__}" for m in (torch, transformers, sentence_transformers, peft))
    print(f"{datetime.date.today()}, {platform.machine()} ({os.cpu_count()} CPUs), Python {platform.python_version()}, {versions}")
    made = bases.make(work)
    table.heading("out", f"runs of 20 steps over {PAIRS} pairs, exported; {len(TEXTS)} texts against `counterpoint embed CHECKPOINT`")
    outward.run(ours, table, made)
    table.heading("in", f"folders saved by Python; {len(TEXTS)} texts, `counterpoint embed FOLDER` against Python")
    inward.run(ours, table, made)
    table.summary()
    print(f"\n{len(table.rows)} rows, {table.misses} misses: {table.vectors:,} embeddings, largest difference {table.worst:.1e} (allowed {BOUND:.0e}), {table.ids:,} lists of token ids equal; {time.time() - begin:.0f} s")
    return 1 if table.misses else 0


if __name__ == "__main__":
    sys.exit(main())
