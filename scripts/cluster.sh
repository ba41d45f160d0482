#!/usr/bin/env bash
# A fleet on this machine: N coordinators and M workers, on loopback, with their folders and logs in one place.
#
#   scripts/cluster.sh 3 2 run.yaml    trains the run, and ends when it is over
#   scripts/cluster.sh 3 2             waits for runs that are submitted, until Ctrl-C
#
# DIR is the folder (default runs/cluster; with the same one a run goes on), PORT the first of the ports (default: free
# ones), BIN the program (default bin/counterpoint, built if it is not there). The end stops every process that it started.
set -euo pipefail

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[[ $# -ge 2 && $# -le 3 && $1 =~ ^[135]$ && $2 =~ ^[0-9]+$ ]] || usage
coordinators=$1 workers=$2 run=${3:-}
root=$(cd "$(dirname "$0")/.." && pwd)
dir=${DIR:-runs/cluster} bin=${BIN:-$root/bin/counterpoint}
[[ -z $run || -f $run ]] || { echo "$run: no such file" >&2; exit 2; }
if [[ -n $run ]] && grep -q '^cluster:' "$run"; then
	echo "$run has a cluster: of its own; take it out, this script writes one" >&2
	exit 2
fi
[[ -x $bin ]] || make -s -C "$root" build
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

# free reports whether nobody listens on a loopback port.
free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port=${PORT:-0}
if [[ $port = 0 && -f $dir/port ]]; then port=$(<"$dir/port"); fi # the members of a group keep their addresses
while [[ $port = 0 ]]; do
	port=$((20000 + RANDOM % 1000 * 20))
	for ((p = port; p < port + 4 * coordinators; p++)); do
		free "$p" || { port=0; break; }
	done
done
echo "$port" >"$dir/port"

# One file for all: the run's, with the fleet in it. It lies beside the run's, which its paths are relative to.
config=$dir/cluster.yaml
if [[ -n $run ]]; then config=$(dirname "$run")/.cluster-$$.yaml; fi
{
	if [[ -n $run ]]; then cat "$run"; echo; fi
	echo "cluster:"
	echo "  coordinators:"
	for ((i = 0; i < coordinators; i++)); do
		p=$((port + 4 * i))
		echo "    - {name: c$i, raft: \"127.0.0.1:$p\", nats: \"127.0.0.1:$((p + 1))\", route: \"127.0.0.1:$((p + 2))\", api: \"127.0.0.1:$((p + 3))\"}"
	done
} >"$config"
sets=()
if [[ -n $run ]] && ! grep -Eq '^checkpoint:.*(dir|store):|^  (dir|store):' "$run"; then
	sets=(--set "checkpoint.dir=$dir/checkpoints") # one that all of them reach
fi

leaders=() crew=()
# shellcheck disable=SC2329 # by the trap
finish() {
	trap - EXIT INT TERM
	local all=("${crew[@]}" "${leaders[@]}")
	if ((${#all[@]})); then
		kill -TERM "${all[@]}" 2>/dev/null || true
		for ((i = 0; i < 300; i++)); do # what drains may take a while
			kill -0 "${all[@]}" 2>/dev/null || break
			sleep 0.1
		done
		kill -KILL "${all[@]}" 2>/dev/null || true
		wait || true
	fi
	if [[ -n $run ]]; then rm -f "$config"; fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

join="" servers=""
for ((i = 0; i < coordinators; i++)); do
	p=$((port + 4 * i))
	"$bin" coordinator --config "$config" --dir "$dir/c$i" --name "c$i" "${sets[@]}" >"$dir/c$i.log" 2>&1 &
	leaders+=($!)
	join+=${join:+,}nats://127.0.0.1:$((p + 1))
	servers+=${servers:+,}http://127.0.0.1:$((p + 3))
done
for ((i = 0; i < workers; i++)); do
	COUNTERPOINT_CACHE=${COUNTERPOINT_CACHE:-$dir/cache} "$bin" worker --join "$join" --name "w$i" >"$dir/w$i.log" 2>&1 &
	crew+=($!)
done
echo "$coordinators coordinators: $join"
echo "API: $servers"
echo "$workers workers; logs: $dir/*.log"

# The run is over when its coordinators end: with the last one's exit code. Fewer than a majority cannot go on.
left=("${leaders[@]}") code=0
while ((${#left[@]})); do
	alive=()
	for pid in "${left[@]}"; do
		if kill -0 "$pid" 2>/dev/null; then
			alive+=("$pid")
			continue
		fi
		code=0
		wait "$pid" || code=$?
		if ((code)); then echo "a coordinator ended with $code" >&2; fi
	done
	left=("${alive[@]}")
	if ((code && ${#left[@]} <= coordinators / 2)); then break; fi
	sleep 0.2
done
for log in "$dir"/c*.log; do tail -n 3 "$log" >&2; done
exit "$code"
