#!/usr/bin/env bash
# All checks that want an NVIDIA GPU. Each step takes less than ten minutes on an H100 by plan (none has
# been run yet) and prints tables for docs/experiments.md; OUT keeps them.
#
#   benches/gpu/run.sh build           # once, where cargo and nvcc are (docs/gpu.md); collects into BIN
#   benches/gpu/run.sh                 # every other step
#   benches/gpu/run.sh oracles decode  # some
#
# BIN=target/gpu  OUT=target/gpu/out  DEVICE=cuda:0  PYTHON=python3 (with torch, transformers and peft)
# POLIS=FILE: Polis votes as pairs, for `polis`. The steps want neither cargo nor a network where BIN and the
# model are there (`attune model pull` fetches it; ATTUNE_CACHE_DIR says where).
set -euo pipefail
cd "$(dirname "$0")/../.."
here=benches/gpu
BIN="$(mkdir -p "${BIN:-target/gpu}" && cd "${BIN:-target/gpu}" && pwd)"
OUT="${OUT:-$BIN/out}" DEVICE="${DEVICE:-cuda:0}" PYTHON="${PYTHON:-python3}"
export ATTUNE_DEVICE="$DEVICE" ORACLES_DIR="${ORACLES_DIR:-$PWD/tests/fixtures/oracles}"
mkdir -p "$OUT"

# The executable that cargo reports for a target of this kind and name.
collect() {
    local kind="$1" name="$2"
    "$PYTHON" -c '
import json, shutil, sys
kind, name, to = sys.argv[1:]
for line in sys.stdin:
    if not line.startswith("{"):
        continue
    message = json.loads(line)
    target = message.get("target", {})
    if message.get("executable") and kind in target["kind"] and target["name"] == name:
        shutil.copy(message["executable"], to)
' "$kind" "$name" "$BIN/$name"
}

step_build() {
    local json="--message-format=json-render-diagnostics"
    cargo build --release --features cuda --bins
    local target="${CARGO_TARGET_DIR:-target}"
    cp "$target/release/attune" "$target/release/attune-train" "$BIN/"
    cargo bench --features cuda --bench gpu --no-run $json | collect bench gpu
    cargo test --release --features cuda --test parity --no-run $json | collect test parity
    cargo test --release --features cuda --test device --no-run $json | collect test device
    ls -l "$BIN"
}

step_card() {
    nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,memory.total,power.limit --format=csv
    git log -1 --format='commit %h of %cs'
}

# Numbers of reference code, and the promises, on the device: exact tolerances in f32, wide ones in 16 bits.
step_oracles() {
    ATTUNE_TEST_DEVICE="$DEVICE" "$BIN/parity" --test-threads 1
    for dtype in bf16 f16; do
        echo "== $dtype (not: oracles of training, which are for f32)"
        ATTUNE_TEST_DEVICE="$DEVICE" ATTUNE_TEST_DTYPE=$dtype "$BIN/parity" --test-threads 1 \
            tiny:: smollm2:: prlhf::log_prob
    done
}

step_parity() {
    for dtype in f32 bf16 f16; do
        echo "== $dtype"
        ATTUNE_TEST_DEVICE="$DEVICE" ATTUNE_TEST_DTYPE=$dtype "$BIN/device" --test-threads 1
    done
}

step_floors() {
    for dtype in bf16 f16 f32; do
        echo "== $dtype"
        "$BIN/gpu" floors --device "$DEVICE" --dtype $dtype
    done
}

step_decode() {
    "$BIN/gpu" decode --device "$DEVICE" --model 8b --tokens 64
    "$BIN/gpu" decode --device "$DEVICE" --model 135m --tokens 64
}

step_prefill() {
    "$BIN/gpu" prefill --device "$DEVICE" --model 8b
    "$BIN/gpu" prefill --device "$DEVICE" --model 135m
}

step_users() {
    "$BIN/gpu" users --device "$DEVICE" --model 135m --prompt 32 --tokens 32
}

step_transformers() {
    "$PYTHON" $here/transformers_decode.py $here/8b.json --tokens 64
    "$PYTHON" $here/transformers_decode.py $here/135m.json --tokens 64
}

step_transformers_compiled() {
    "$PYTHON" $here/transformers_decode.py $here/8b.json --users 1,8,64 --tokens 64 --compile
}

# Launches of a step: kernels of 64 decode steps, counted by Nsight Systems, where it is installed.
step_launches() {
    if ! command -v nsys >/dev/null; then
        echo "nsys is not installed: no count. The launch column of \`floors\` is what one costs."
        return
    fi
    for model in 135m 8b; do
        nsys profile --force-overwrite true -o "$OUT/$model" --trace cuda \
            "$BIN/gpu" decode --device "$DEVICE" --model $model --users 1 --tokens 64 >/dev/null
        echo "== $model: kernels and memory operations; a prefill, 64 steps and the engine's run are in it"
        nsys stats --report cuda_gpu_kern_sum,cuda_gpu_mem_time_sum "$OUT/$model.nsys-rep" | head -60
    done
}

# Pairs a second: attune-train and a plain torch loop, the same shape, rank, batch and lengths.
step_train() {
    local pairs="$OUT/pairs.jsonl"
    "$PYTHON" $here/pairs.py >"$pairs"
    for dtype in bf16 f32; do
        rm -rf "$OUT/train-$dtype"
        "$BIN/attune-train" pdpo --data "$pairs" --out "$OUT/train-$dtype" --device "$DEVICE" --dtype $dtype \
            --alpha 0 --beta 0.1 --lora-targets q,v --batch-size 32 --max-steps 20 --epochs 1000 --holdout 0 --log-every 1 \
            --eval-every 1000000 --max-memory 32GiB
        grep -o '"pairs_per_second":[0-9.]*' "$OUT/train-$dtype/metrics.jsonl" | sort -t: -k2 -n |
            awk -F: -v d=$dtype '{ v[NR] = $2 } END { printf "attune %s: %.1f pairs/s (median)\n", d, v[int((NR + 1) / 2)] }'
    done
    "$PYTHON" $here/torch_dpo.py $here/135m.json "$pairs" --batch 32 --steps 20
}

# The runs of docs/experiments.md on the CPU, with everybody: needs the pairs.
step_polis() {
    : "${POLIS:?POLIS=FILE: the pairs of Bowling Green, as docs/experiments.md makes them}"
    for alpha in 0.5 0; do
        rm -rf "$OUT/polis-$alpha"
        "$BIN/attune-train" pdpo --config runs/polis-100.toml --data "$POLIS" --max-users 394 --alpha $alpha \
            --out "$OUT/polis-$alpha" --device "$DEVICE" --max-memory 48GiB
        cat "$OUT/polis-$alpha/eval.json"
    done
}

# The comparison of benches/expo.sh, with more steps than a CPU has time for. ATTUNE_DEVICE says where.
step_expo() {
    rm -rf "$OUT/expo"
    ATTUNE_BIN="$BIN" STEPS="${STEPS:-60}" EVAL_EVERY=20 benches/expo.sh "$OUT/expo"
}

all=(card oracles parity floors decode prefill users transformers transformers_compiled launches train polis expo)
steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=("${all[@]}")
failed=()
for step in "${steps[@]}"; do
    if ! declare -F "step_$step" >/dev/null; then
        echo "no step $step; there are: build ${all[*]}" >&2
        exit 2
    fi
    echo "=== $step"
    start=$SECONDS
    # A step that fails does not keep the others from running.
    if (set -e; "step_$step") 2>&1 | tee "$OUT/$step.txt"; then
        echo "=== $step: $((SECONDS - start)) s"
    else
        failed+=("$step")
        echo "=== $step FAILED after $((SECONDS - start)) s"
    fi
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
