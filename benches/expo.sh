#!/usr/bin/env bash
# ExPO on the real model (arXiv 2507.02834): a task that it cannot do, learned by GRPO, by GRPO beside expert solutions,
# and by ExP-GRPO, with the same tasks, steps and answers per step; and, among themselves likewise, by DPO with expert
# solutions or self-explanations as chosen.
#
#   benches/expo.sh [OUT_DIR]     (SEEDS="1 2 3" STEPS=24 WAYS="exp-grpo grpo grpo-expert exp-dpo dpo-expert")
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-$(mktemp -d)}"
[ -n "${ATTUNE_BIN:-}" ] || cargo build --release -p attune
train="${ATTUNE_BIN:-${CARGO_TARGET_DIR:-target}/release}/attune-train"
mkdir -p "$out"
failed=

python3 benches/expo_tasks.py "$out"

common=(--tasks "$out/train.jsonl" --held-out-tasks "$out/held.jsonl" --max-held-out 30 --max-tokens 48 --explanation-tokens 44
    --eval-samples 4 --k 1,4 --lr "${LR:-5e-4}" --lora-rank 16 --lora-alpha 32 --lora-targets q,k,v,o --schedule constant
    --warmup 5 --max-steps "${STEPS:-24}" --epochs 1000 --log-every 5 --eval-every "${EVAL_EVERY:-12}")
groups=(--batch-size 4 --samples 4 --explanations 4 --kl 0)
pairs=(--batch-size 4 --samples 2 --explanations 4 --max-tasks 48 --beta 0.1 --regenerate-every 12)
for seed in ${SEEDS:-1 2 3}; do
    for way in ${WAYS:-exp-grpo grpo grpo-expert exp-dpo dpo-expert}; do
        case $way in
        exp-grpo) flags=(exp-grpo "${groups[@]}" --signals 12) ;;
        grpo) flags=(exp-grpo "${groups[@]}" --positive none) ;;
        grpo-expert) flags=(exp-grpo "${groups[@]}" --positive expert) ;;
        exp-dpo) flags=(exp-dpo "${pairs[@]}") ;;
        dpo-expert) flags=(exp-dpo "${pairs[@]}" --positive expert) ;;
        esac
        [ -e "$out/$way-$seed/solved.json" ] ||
            "$train" "${flags[@]}" "${common[@]}" --seed "$seed" --out "$out/$way-$seed" >"$out/$way-$seed.txt" 2>&1 ||
            { failed+=" $way-$seed" && tail -1 "$out/$way-$seed.txt"; }
    done
done

python3 - "$out" <<'PY' | tee "$out/expo.txt"
import glob, json, sys
out = sys.argv[1]
print(f"{'way':<13} {'seed':>4} {'base pass@1':>11} {'pass@1':>22} {'pass@4':>22} {'all wrong, first and last':>26} {'rollouts':>18}")
for way in ("grpo", "grpo-expert", "exp-grpo", "dpo-expert", "exp-dpo"):
    for path in sorted(glob.glob(f"{out}/{way}-[0-9]*/metrics.jsonl")):
        lines = [json.loads(line) for line in open(path)]
        try:
            solved = json.load(open(path.replace("metrics.jsonl", "solved.json")))["solved"]
        except FileNotFoundError:
            continue
        first = next(line for line in lines if "eval_pass@1" in line)
        show = lambda p: f"{p['rate']:.3f} [{p['interval'][0]:.3f}, {p['interval'][1]:.3f}]"
        unsolved = [line["groups/unsolved"] for line in lines if "groups/unsolved" in line] or [float("nan")]
        speed = [(line["rollout_tokens_per_second"], line["rollout_time_share"]) for line in lines if "rollout_time_share" in line]
        tokens, share = (sum(values) / len(speed) for values in zip(*speed))
        seed = path.split("/")[-2].split("-")[-1]
        print(f"{way:<13} {seed:>4} {first['eval_pass@1']:>11.3f} {show(solved['pass'][0]):>22} {show(solved['pass'][1]):>22} "
              f"{unsolved[0]:>12.2f} {unsolved[-1]:>13.2f} {tokens:>7.0f}/s {share:>6.0%}")
PY
[ -z "$failed" ] || { echo "failed:$failed" && exit 1; }
