#!/usr/bin/env bash
# Ours against PyTorch on the same token lengths, alternating; a table with the bars. Installs torch into .venv (5 GB) unless PEER_PYTHON names
# a Python that has torch, numpy, tokenizers and faiss-cpu. Arguments go to scripts/bench (`go run ./scripts/bench peer -h` lists them).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PEER_PYTHON:-.venv/bin/python}
if ! "$python" -c 'import torch, numpy, tokenizers, faiss' 2>/dev/null; then
	if [ -n "${PEER_PYTHON:-}" ]; then
		echo "bench-peer: $PEER_PYTHON cannot import torch, numpy, tokenizers and faiss" >&2
		exit 1
	fi
	python3 -m venv .venv
	.venv/bin/pip install --quiet torch==2.13.0 numpy tokenizers faiss-cpu
	python=.venv/bin/python
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp scripts/bench/peer/*.py "$work/"
if command -v gcc >/dev/null; then gcc -O3 -march=native -pthread -o "$work/peak" scripts/bench/peer/peak.c; fi
go run ./scripts/bench peer -python "$python" -work "$work" "$@"
