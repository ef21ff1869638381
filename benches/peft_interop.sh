#!/usr/bin/env bash
# The same version here and in transformers + PEFT: logits of real texts, both ways.
#
#   benches/peft_interop.sh PAIRS.jsonl [OUT_DIR]
#
# 1. A personal version (LoRA on q k v o and users' rows) and a plain one are trained for a few steps,
#    exported by `attune adapter export`, and loaded by PEFT.
# 2. TRL's DPOTrainer trains a LoRA with PEFT for a few steps; `attune adapter import` reads it.
#
# Needs python3; torch, transformers, trl and peft are installed into a virtual environment on the first run.
set -euo pipefail
cd "$(dirname "$0")/.."
pairs="$(realpath "$1")"
out="${2:-$(mktemp -d)}"
mkdir -p "$out"
target="${CARGO_TARGET_DIR:-target}"
venv="${TRL_VENV:-$target/trl}"

cargo build --release --bin attune --bin attune-train --example training_steps --example logits
model="$("$target/release/attune" model pull)"
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet torch==2.6.0 transformers==4.51.3 trl==0.16.1 peft==0.15.2 gguf==0.16.2 sentencepiece
fi

rm -rf "$out"/personal* "$out"/plain* "$out"/trl* "$out"/steps
few=(--data "$pairs" --holdout 0 --batch-size 8 --lr 1e-3 --warmup 1 --max-users 6)
"$target/release/attune-train" pdpo "${few[@]}" --max-steps 4 --user-lr 1e-2 --n-user-tokens 4 \
    --lora-targets q,k,v,o --out "$out/personal"
"$target/release/attune-train" pdpo "${few[@]}" --max-steps 4 --alpha 0 --lora-targets all-linear --out "$out/plain"
for name in personal plain; do
    "$target/release/attune" adapter export "$out/$name"/bundle/* --out "$out/$name-peft"
done

# TRL trains on the ids of four steps of a plain run, from a LoRA that begins as ours does.
"$target/release/examples/training_steps" pdpo "${few[@]}" --max-steps 4 --alpha 0 --out "$out/steps"
"$venv/bin/python" benches/trl_dpo.py "$out/steps" "$model" 2 1e-3 0.1 1 4 8 4 "$out/trl-peft" 2>"$out/trl.log"
"$target/release/attune" adapter import "$out/trl-peft" --out "$out/trl"

for name in personal plain trl; do
    "$venv/bin/python" benches/peft_interop.py ids "$pairs" "$model" "$out/$name" "$out/$name-ids.jsonl"
    bundle="$out/$name"
    [ -d "$bundle/bundle" ] && bundle="$bundle/bundle"
    "$target/release/examples/logits" smollm2-135m-instruct "$bundle" "$out/$name-ids.jsonl" "$out/$name.safetensors"
    "$venv/bin/python" benches/peft_interop.py compare "$model" "$out/$name-peft" "$out/$name-ids.jsonl" "$out/$name.safetensors"
done
