#!/usr/bin/env bash
# Ours against PyTorch on the same token lengths, alternating; prints median ratios. Installs torch into .venv (5 GB)
# unless PEER_PYTHON names a Python that has it. Arguments go to scripts/benchpeer (-h lists them).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PEER_PYTHON:-.venv/bin/python}
if ! "$python" -c 'import torch' 2>/dev/null; then
	python3 -m venv .venv
	.venv/bin/pip install --quiet torch==2.13.0 numpy
	python=.venv/bin/python
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp scripts/benchpeer/peer/peer_step.py "$work/"
if command -v gcc >/dev/null; then gcc -O3 -march=native -pthread -o "$work/peak" scripts/benchpeer/peer/peak.c; fi
go test -c -o "$work/ours.test" ./trainer
go run ./scripts/benchpeer -python "$python" -work "$work" "$@"
