#!/usr/bin/env bash
# 64 clients as 64 users with rows of their own, and as one user 64 times: what personalisation costs.
#
#   benches/users_64.sh [OUT_DIR]
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-$(mktemp -d)}"
mkdir -p "$out"
target="${CARGO_TARGET_DIR:-target}"
cargo build --release -p attune -p loadtest
attune="$target/release/attune"

data="$(mktemp -d)"
trap 'kill "$pid" 2>/dev/null || true; rm -rf "$data"' EXIT
python3 benches/peft_checkpoint.py "$data/checkpoint"
users="$(seq -s, -f 'user-%g' 0 63)"
"$attune" adapter import "$data/checkpoint" --name load-test --n-user-tokens 10 --users "$users" \
    --data-dir "$data/attune"
version="$("$attune" adapter list --data-dir "$data/attune" | cut -c1-12)"
"$attune" adapter promote "$version" --data-dir "$data/attune"

"$attune" serve --port 18180 --data-dir "$data/attune" --threads "${THREADS:-2}" >"$out/attune.log" 2>&1 &
pid=$!
until curl --silent --fail http://127.0.0.1:18180/readyz >/dev/null; do
    kill -0 "$pid"
    sleep 0.5
done
grep VmRSS "/proc/$pid/status" | sed 's/^/before: /' | tee "$out/memory.txt"
"$target/release/loadtest" run --scenario loadtest/scenarios/users-64.toml --quiet \
    --url http://127.0.0.1:18180 --json "$out/users-64.json" "${@:2}" | tee "$out/users-64.txt"
grep VmRSS "/proc/$pid/status" | sed 's/^/after: /' | tee -a "$out/memory.txt"
