#!/usr/bin/env bash
# Makes the fleet's CA and certificates, and prints them as the Secrets that coordinators.yaml and workers.yaml mount.
#
#   scripts/kubernetes/secrets.sh ca [NAMESPACE] | kubectl apply -f -
#
# ca is the CA's folder, made if it is not there: keep it, and keep it off the cluster. Again with the same one the
# certificates are renewed, and running processes read them by themselves.
set -euo pipefail
ca=${1:?usage: scripts/kubernetes/secrets.sh CA-FOLDER [NAMESPACE]}
space=${2:-default}
bin=${BIN:-counterpoint}
umask 077
[[ -f $ca/ca.pem ]] || "$bin" certs init "$ca" --name "$space" >&2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

hosts=(--host counterpoint --host "counterpoint.$space" --host "counterpoint.$space.svc" --host localhost --host 127.0.0.1)
for i in 0 1 2; do
	hosts+=(--host "counterpoint-$i" --host "counterpoint-$i.counterpoint-peers" --host "counterpoint-$i.counterpoint-peers.$space.svc.cluster.local")
done
"$bin" certs issue --ca "$ca" --role coordinator --name coordinator "${hosts[@]}" --out "$out" >&2
"$bin" certs issue --ca "$ca" --role worker --name worker --out "$out" >&2
if [[ ! -f $ca/tokens.txt ]]; then "$bin" token --role operator --name operator --file "$ca/tokens.txt" --out "$ca/operator.token" >&2; fi
cp "$ca/tokens.txt" "$out"
cp "$ca/ca.pem" "$out"

# secret prints one Secret of files.
secret() {
	local name=$1
	shift
	printf -- '---\napiVersion: v1\nkind: Secret\ntype: Opaque\nmetadata:\n  name: %s\n  namespace: %s\n  labels: {app.kubernetes.io/name: counterpoint}\ndata:\n' "$name" "$space"
	for file in "$@"; do printf '  %s: %s\n' "$file" "$(base64 <"$out/$file" | tr -d '\n')"; done
}
secret counterpoint-coordinator ca.pem coordinator.pem coordinator.key tokens.txt
secret counterpoint-worker ca.pem worker.pem worker.key
