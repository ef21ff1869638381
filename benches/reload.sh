#!/usr/bin/env bash
# Versions change under load: 8 clients chat, first undisturbed, then while an operator promotes another version some
# twice a second and installs and retires a third one after every five. What do the clients feel, and how long does a change take?
#
#   benches/reload.sh [OUT_DIR] [more flags of loadtest run, for example --duration 20s]
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-$(mktemp -d)}"
mkdir -p "$out"
target="${CARGO_TARGET_DIR:-target}"
[ -n "${ATTUNE_BIN:-}" ] || cargo build --release -p attune -p loadtest
bin="${ATTUNE_BIN:-$target/release}"
url=http://127.0.0.1:18181

data="$(mktemp -d)"
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$data"' EXIT
users="$(seq -s, -f 'user-%g' 0 63)"
seed=0
for name in one two three; do
    seed=$((seed + 1))
    python3 benches/peft_checkpoint.py "$data/$name" 64 10 8 $seed
    "$bin/attune" adapter import "$data/$name" --name "$name" --n-user-tokens 10 --users "$users" \
        --out "$data/bundles/$name" >/dev/null
done
"$bin/attune" serve --port 18181 --no-demo --data-dir "$data/attune" --bundles "$data/bundles" \
    --threads "${THREADS:-2}" >"$out/attune.log" 2>&1 &
pid=$!
until curl --silent --fail $url/readyz >/dev/null; do
    kill -0 "$pid"
    sleep 0.5
done

admin() { # METHOD PATH BODY: the answer, and in $out/changes.csv the path, the status and the seconds
    curl --silent --show-error -X "$1" "$url/v1/admin/$2" -H 'content-type: application/json' ${3:+-d "$3"} \
        -o "$data/answer" -w "$1 ${2%%/*},%{http_code},%{time_total}\n" >>"$out/changes.csv"
    cat "$data/answer"
}
version_of() { python3 -c 'import json,sys; print(json.load(sys.stdin)["version"])'; }
promote() { admin POST aliases/attune "{\"version\": \"$1\"}" >/dev/null; }
load() { "$bin/loadtest" run --scenario loadtest/scenarios/reload.toml --quiet --url $url --json "$out/$1.json" "${@:2}" \
    --fail-on-error | tee "$out/$1.txt"; }

one="$(admin POST adapters '{"path": "one"}' | version_of)"
two="$(admin POST adapters '{"path": "two"}' | version_of)"
promote "$one"
rm -f "$out/changes.csv"
echo "== undisturbed"
load undisturbed "${@:2}"
echo "== versions change"
load changing "${@:2}" &
clients=$!
turn=0
while kill -0 "$clients" 2>/dev/null; do
    turn=$((turn + 1))
    if ((turn % 2)); then promote "$two"; else promote "$one"; fi
    if ((turn % 5 == 0)); then
        three="$(admin POST adapters '{"path": "three"}' | version_of)"
        admin DELETE "adapters/$three" >/dev/null
    fi
    # Not in step with the clients, who all began at once.
    sleep "0.$((RANDOM % 7 + 3))"
done
wait "$clients"

python3 - "$out" <<'PY' | tee "$out/changes.txt"
import csv, json, statistics, sys
out = sys.argv[1]
rows = {}
for what, status, seconds in csv.reader(open(f"{out}/changes.csv")):
    assert status[0] == "2", (what, status)
    rows.setdefault(what, []).append(float(seconds) * 1000)
for what, ms in sorted(rows.items()):
    ms.sort()
    print(f"{what:<16} {len(ms):>4} times  median {statistics.median(ms):7.1f} ms  longest {ms[-1]:7.1f} ms")
PY
