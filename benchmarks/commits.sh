#!/usr/bin/env bash
# Compares two commits with benchstat: the Go benchmarks of packages, run in
# turn, so that what else the machine does hits both.
#
#   bash benchmarks/commits.sh OLD [NEW]      NEW is the files as they are if it is not given
#
# PKG names packages (./...), BENCH is an expression for the benchmarks (.),
# COUNT says how often each is run (8), TIME how long (go test's default).
# With WORKLOADS, names of "shardlog bench list", these are run instead and
# compared by "shardlog bench compare"; FLAGS are for them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

BENCHSTAT=golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
old=${1:?usage: commits.sh OLD [NEW]}
new=${2:-}
tmp=$(mktemp -d)
clean() {
  git worktree remove --force "$tmp/old" 2>/dev/null || true
  git worktree remove --force "$tmp/new" 2>/dev/null || true
  rm -rf "$tmp"
}
trap clean EXIT

git worktree add --quiet --detach "$tmp/old" "$old"
if [ -n "$new" ]; then
  git worktree add --quiet --detach "$tmp/new" "$new"
else
  ln -s "$PWD" "$tmp/new"
fi

count=${COUNT:-8}
if [ -n "${WORKLOADS:-}" ]; then
  for side in old new; do
    (cd "$tmp/$side/" && go build -o "$tmp/bench-$side" ./cmd/shardlog)
  done
  for ((i = 1; i <= count; i++)); do
    for side in old new; do
      echo "run $i of $count, $side" >&2
      # shellcheck disable=SC2086
      "$tmp/bench-$side" bench $WORKLOADS ${FLAGS:-} -quiet -json "$tmp/$side-$i.json" >/dev/null
    done
  done
  for side in old new; do
    "$tmp/bench-new" bench merge "$tmp/$side".json "$tmp/$side"-*.json
  done
  "$tmp/bench-new" bench compare "$tmp/old.json" "$tmp/new.json"
  exit
fi

for ((i = 1; i <= count; i++)); do
  for side in old new; do
    echo "run $i of $count, $side" >&2
    # shellcheck disable=SC2086
    (cd "$tmp/$side/" && go test -run '^$' -bench "${BENCH:-.}" -benchmem ${TIME:+-benchtime "$TIME"} ${PKG:-./...}) >>"$tmp/$side.txt"
  done
done
go run "$BENCHSTAT" "old=$tmp/old.txt" "new=$tmp/new.txt"
