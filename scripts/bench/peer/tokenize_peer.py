#!/usr/bin/env python3
"""The peer of tokenizing: Hugging Face's Rust library on one core.

  tokenize_peer.py --write DATA REPOSITORY FOLDER   english, code and cjk: texts with NUL between them; and the tokenizer qwen3, unpacked
  tokenize_peer.py FOLDER KIND                      MB per processor second as JSON, the best of three; words are cached anew in each, as ours
"""

import gzip
import json
import sys
import time
from pathlib import Path

MOST = 4 << 20  # bytes of a kind


def rows(path):
    with gzip.open(path, "rt") as f:
        for line in f:
            yield json.loads(line)


def texts(kind, data, repository):
    if kind == "english":
        for r in rows(data / "debian-packages" / "train.jsonl.gz"):
            yield from (r["query"], r["positive"])
    elif kind == "code":
        for path in sorted(repository.glob("*/**/*.go")):
            yield path.read_text()
    else:
        for r in rows(data / "xquad" / "zh.jsonl.gz"):
            yield r["query"]


def write(data, repository, folder):
    for kind in "english", "code", "cjk":
        chosen, size = [], 0
        for text in texts(kind, data, repository):
            chosen.append(text)
            size += len(text.encode())
            if size > MOST:
                break
        (folder / kind).write_text("\0".join(chosen))
    (folder / "qwen3").mkdir(exist_ok=True)
    for name in "tokenizer.json", "tokenizer_config.json":
        packed, plain = data / "tokenizers" / "qwen3" / (name + ".gz"), data / "tokenizers" / "qwen3" / name
        (folder / "qwen3" / name).write_bytes(gzip.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes())


def measure(folder, kind):
    from tokenizers import Tokenizer, __version__

    lines = (folder / kind).read_text().split("\0")
    size, seconds = sum(len(t.encode()) for t in lines), []
    for _ in range(3):
        tokenizer = Tokenizer.from_file(str(folder / "qwen3" / "tokenizer.json"))
        start = time.process_time()
        tokens = sum(len(e.ids) for e in tokenizer.encode_batch_fast(lines, add_special_tokens=False))
        seconds.append(time.process_time() - start)
    print(json.dumps({"rate": size / 1e6 / min(seconds), "tokens": tokens, "version": __version__}))


if __name__ == "__main__":
    if sys.argv[1] == "--write":
        write(*map(Path, sys.argv[2:]))
    else:
        measure(Path(sys.argv[1]), sys.argv[2])
