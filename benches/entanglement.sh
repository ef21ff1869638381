#!/usr/bin/env bash
# Gradient entanglement on the real model (arXiv 2410.13828): pairs that share no ending, a short or a long one, trained
# by plain, normalized and masked DPO. What becomes of the chosen response's log-probability?
#
#   benches/entanglement.sh [OUT_DIR]
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-$(mktemp -d)}"
[ -n "${ATTUNE_BIN:-}" ] || cargo build --release -p attune
train="${ATTUNE_BIN:-${CARGO_TARGET_DIR:-target}/release}/attune-train"
python3 benches/entanglement_pairs.py "$out/data"

common=(--alpha 0 --loss dpo --beta 0.1 --lr "${LR:-1e-4}" --schedule constant --warmup 0 --batch-size 8 --max-steps 20
    --epochs 100 --holdout 0.2 --log-every 5 --eval-every 5 --diagnose-gradients 4)
for set in single short long; do
    "$train" entangle --data "$out/data/$set.jsonl" --pairs 8 --heat-maps 1 --out "$out/$set-at-the-start" \
        --loss dpo:beta=0.1 --loss simpo --loss cpo >"$out/$set-at-the-start.txt"
    for way in plain normalized masked; do
        case $way in plain) flags=() ;; normalized) flags=(--normalized) ;; masked) flags=(--mask lcs) ;; esac
        "$train" pdpo "${common[@]}" "${flags[@]}" --data "$out/data/$set.jsonl" --out "$out/$set-$way" >/dev/null
    done
done

python3 - "$out" <<'PY' | tee "$out/entanglement.txt"
import json, sys
out = sys.argv[1]
print(f"{'shared ending':<14} {'DPO':<11} {'cosine at first':>15} {'accuracy':>9} {'chosen log p':>20} {'rejected log p':>20}")
for name in ("single", "short", "long"):
    for way in ("plain", "normalized", "masked"):
        lines = [json.loads(line) for line in open(f"{out}/{name}-{way}/metrics.jsonl")]
        first = next(line for line in lines if "gradients/cosine" in line)
        evals = [line for line in lines if "eval_loss" in line]
        # Held-out pairs, all tokens, after 5 steps and after the last.
        chosen = [line["eval_logps/chosen"] for line in evals]
        rejected = [line["eval_logps/rejected"] for line in evals]
        accuracy = evals[-1]["eval_rewards/accuracies"]
        change = lambda values: f"{values[0]:8.2f} -> {values[-1]:8.2f}"
        print(f"{name:<14} {way:<11} {first['gradients/cosine']:>15.3f} {accuracy:>9.2f} {change(chosen):>20} {change(rejected):>20}")
PY
