#!/usr/bin/env bash
# Our work against Python's libraries, in numbers: tables, exit 1 on any miss.
#   scripts/interop.sh models       exports and imports against transformers, sentence-transformers and PEFT, both ways
#   scripts/interop.sh evaluation   scores against mteb and pytrec_eval, results as mteb reads them, vectors as pyarrow does; needs the data (COUNTERPOINT_DATA)
# Without an argument both. Installs the libraries into .venv (several GB) unless INTEROP_PYTHON names a Python that has them.
set -euo pipefail
cd "$(dirname "$0")/.."
parts=${*:-models evaluation}
python=${INTEROP_PYTHON:-.venv/bin/python}
libraries='torch, transformers, sentence_transformers, peft, mteb, pytrec_eval, pyarrow'
if ! "$python" -c "import importlib.util as u, sys; sys.exit(not all(u.find_spec(m.strip()) for m in '$libraries'.split(',')))" 2>/dev/null; then
	if [ -n "${INTEROP_PYTHON:-}" ]; then
		echo "interop: $INTEROP_PYTHON cannot import all of $libraries" >&2
		exit 1
	fi
	python3 -m venv .venv
	.venv/bin/pip install --quiet 'torch==2.13.*' 'transformers==5.23.*' 'sentence-transformers==6.2.*' 'peft==0.21.*' 'mteb==2.26.*' 'pytrec-eval-terrier==0.5.*' pyarrow
	python=.venv/bin/python
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CGO_ENABLED=0 HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 TOKENIZERS_PARALLELISM=false PYTHONDONTWRITEBYTECODE=1
go build -o "$work/counterpoint" .
go build -o "$work/ids" ./scripts/interop/ids
for part in $parts; do
	case $part in
	models) "$python" scripts/interop/main.py --work "$work" ;;
	evaluation)
		"$python" scripts/interop/evaluation.py --work "$work"
		"$python" scripts/bench-score.py "$work/counterpoint"
		;;
	*) echo "interop: $part; models and evaluation are allowed" >&2; exit 1 ;;
	esac
done
