#!/usr/bin/env bash
# Runs the whole comparison and writes docs/BENCHMARKS.md and its charts. The
# emulators of the Kinesis protocol come from npm and Python; if they cannot be
# installed or do not start, a line says it and they are left out.
#
#   bash benchmarks/compare/run.sh                      five rounds of everything
#   OUT= bash benchmarks/compare/run.sh -run ready      some works, without the page
#
# EMULATORS is a directory to keep the emulators in from run to run, RESULTS the
# file for the figures. Other flags are those of the program.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
tmp=$(mktemp -d)
at=${EMULATORS:-$tmp/emulators}
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$tmp"' EXIT
mkdir -p "$at"
if [ ! -d "$at/node_modules/kinesis-local" ]; then
  (cd "$at" && npm install --no-audit --no-fund --silent kinesalite@3.3.3 kinesis-local@0.6.2) || echo "no kinesalite, no kinesis-mock" >&2
fi
if [ ! -x "$at/venv/bin/moto_server" ]; then
  { python3 -m venv "$at/venv" && "$at/venv/bin/pip" install -q --disable-pip-version-check 'moto[server,kinesis]'; } || echo "no moto" >&2
fi
if [ -x "$at/node_modules/.bin/kinesalite" ]; then
  "$at/node_modules/.bin/kinesalite" --port 4571 --shardLimit 1000 >"$tmp/kinesalite.log" 2>&1 & pids+=($!)
fi
if [ -x "$at/venv/bin/moto_server" ]; then
  "$at/venv/bin/moto_server" -H 127.0.0.1 -p 4572 >"$tmp/moto.log" 2>&1 & pids+=($!)
fi
if [ -d "$at/node_modules/kinesis-local" ]; then
  (cd "$at/node_modules/kinesis-local" && KINESIS_MOCK_PLAIN_PORT=4573 KINESIS_MOCK_TLS_PORT=4574 SHARD_LIMIT=1000 LOG_LEVEL=ERROR exec node main.js) >"$tmp/mock.log" 2>&1 & pids+=($!)
fi
go build -o "$tmp/compare" ./benchmarks/compare
http=""
for e in kinesalite=4571 moto=4572 kinesis-mock=4573; do
  up=""
  for _ in $(seq $((${#pids[@]} * 50 + 1))); do
    if (exec 3<>"/dev/tcp/127.0.0.1/${e#*=}") 2>/dev/null; then up=1; break; fi
    sleep 0.2
  done
  if [ -n "$up" ]; then http+=",${e%=*}=http://127.0.0.1:${e#*=}"; else echo "${e%=*} does not run" >&2; fi
done
results=${RESULTS:-${TMPDIR:-/tmp}/shardlog-compare.json}
"$tmp/compare" -json "$results" -out "${OUT-docs}" -http "${http#,}" "$@"
echo "the figures are in $results" >&2
