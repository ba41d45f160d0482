#!/usr/bin/env bash
# Our exports and imports against transformers, sentence-transformers and PEFT, both ways, in numbers: a table, exit 1 on any miss.
# Installs them into .venv (several GB) unless INTEROP_PYTHON names a Python that has them. Arguments go to scripts/interop/main.py (-h).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${INTEROP_PYTHON:-.venv/bin/python}
if ! "$python" -c 'import torch, transformers, sentence_transformers, peft' 2>/dev/null; then
	if [ -n "${INTEROP_PYTHON:-}" ]; then
		echo "interop: $INTEROP_PYTHON cannot import torch, transformers, sentence_transformers and peft" >&2
		exit 1
	fi
	python3 -m venv .venv
	.venv/bin/pip install --quiet 'torch==2.13.*' 'transformers==5.23.*' 'sentence-transformers==6.2.*' 'peft==0.21.*'
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CGO_ENABLED=0 HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 TOKENIZERS_PARALLELISM=false PYTHONDONTWRITEBYTECODE=1
go build -o "$work/counterpoint" .
go build -o "$work/ids" ./scripts/interop/ids
"$python" scripts/interop/main.py --work "$work" "$@"
