#!/usr/bin/env bash
# Measures the endpoint beside the emulators that npm and Python have, with the
# same client in one run. Needs node, npm and python3.
#
#   bash sdktest/golang/compare.sh [benchtime] [benchmarks]
#
# kinesis-mock takes minutes even for a few calls.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
tmp=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$tmp"' EXIT
(cd "$tmp" && npm install --no-audit --no-fund --silent kinesalite@3.3.3 kinesis-local)
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check 'moto[server,kinesis]'
"$tmp/node_modules/.bin/kinesalite" --port 4571 --shardLimit 1000 >"$tmp/kinesalite.log" 2>&1 & pids+=($!)
(cd "$tmp/node_modules/kinesis-local" && KINESIS_MOCK_PLAIN_PORT=4573 KINESIS_MOCK_TLS_PORT=4574 SHARD_LIMIT=1000 LOG_LEVEL=ERROR exec node main.js) >"$tmp/mock.log" 2>&1 & pids+=($!)
"$tmp/venv/bin/moto_server" -p 4572 >"$tmp/moto.log" 2>&1 & pids+=($!)
for port in 4571 4572 4573; do
  for _ in $(seq 100); do
    (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null && break
    sleep 0.2
  done
done
SHARDLOG_COMPARE=kinesalite=http://127.0.0.1:4571,moto=http://127.0.0.1:4572,kinesis-mock=http://127.0.0.1:4573 \
  go test -timeout 30m -run '^$' -bench "${2:-Endpoints}" -benchtime "${1:-1s}" .
