"""Plain DPO of a LoRA in torch as TRL does it, on weights of noise: pairs per second, for `run.sh train`.

    python3 torch_dpo.py 135m.json PAIRS.jsonl --batch 32 --steps 20 [--device cpu]

A word of a pair counts as one token, as in SmolLM2's vocabulary, and its chat template's tokens are there, too:
the lengths are those that attune-train sees. Rows are padded to the longest of the batch; policy and reference
(the adapter off) run on chosen and rejected at once; bf16 base, f32 LoRA of rank 8 on q and v under autocast.
"""

import argparse
import json
import time
import zlib

import peft
import torch
import torch.nn.functional as F
import transformers
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

# What the template of SmolLM2-Instruct writes around a prompt, and behind an answer.
TEMPLATE, END = [1] * 30, [2]


def batches(path, size, vocab, device):
    with open(path, encoding="utf-8") as file:
        pairs = [json.loads(line) for line in file]
    ids = lambda text: [zlib.crc32(word.encode()) % vocab for word in text.split()]
    at = 0
    while True:
        chosen_first = []
        for side in ("chosen", "rejected"):
            for i in range(size):
                pair = pairs[(at + i) % len(pairs)]
                chosen_first.append((TEMPLATE + ids(pair["prompt"]), ids(pair[side]) + END))
        at += size
        longest = max(len(p) + len(r) for p, r in chosen_first)
        tokens = torch.zeros(2 * size, longest, dtype=torch.long)
        seen = torch.zeros(2 * size, longest, dtype=torch.bool)
        scored = torch.zeros(2 * size, longest, dtype=torch.bool)
        for row, (prompt, response) in enumerate(chosen_first):
            n = len(prompt) + len(response)
            tokens[row, :n] = torch.tensor(prompt + response)
            seen[row, :n] = True
            scored[row, len(prompt) : n] = True
        yield tokens.to(device), seen.to(device), scored.to(device)


def sums(model, tokens, seen, scored):
    logits = model(input_ids=tokens, attention_mask=seen, use_cache=False).logits[:, :-1].float()
    log_p = -F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
    return (log_p * scored[:, 1:]).sum(1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shape")
    parser.add_argument("pairs")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--device", default="cuda:0")
    args = parser.parse_args()
    with open(args.shape, encoding="utf-8") as file:
        fields = json.load(file)
    fields.pop("model_type")
    base = LlamaForCausalLM(LlamaConfig(**fields, attn_implementation="sdpa")).to(args.device, torch.bfloat16)
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    device_type = args.device.split(":")[0]
    seconds = []
    source = batches(args.pairs, args.batch, fields["vocab_size"], args.device)
    for _ in range(args.steps):
        if device_type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        tokens, seen, scored = next(source)
        with torch.autocast(device_type, torch.bfloat16):
            with torch.no_grad(), model.disable_adapter():
                reference = sums(model, tokens, seen, scored)
            policy = sums(model, tokens, seen, scored)
        ratio = policy - reference
        loss = -F.logsigmoid(args.beta * (ratio[: args.batch] - ratio[args.batch :])).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        seconds.append(time.perf_counter() - start)
    steady = sorted(seconds[2:] or seconds)  # the first ones warm up
    median = steady[len(steady) // 2]
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
    print(f"{versions}, bf16: {args.batch / median:.1f} pairs/s (median)")


if __name__ == "__main__":
    main()
