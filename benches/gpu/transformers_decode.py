"""The decode and prefill tables of bench.rs by transformers, on the same card: a batch of inputs_embeds
(a soft prompt of its own for each user, then a prompt), a static cache, greedy.

    python3 transformers_decode.py 8b.json --users 1,8,32,64,256 [--compile] [--device cpu]
"""

import argparse
import json
import time

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

SOFT_ROWS = 10


def model_of(shape, device, dtype):
    with open(shape, encoding="utf-8") as file:
        fields = json.load(file)
    fields.pop("model_type")
    config = LlamaConfig(**fields, attn_implementation="sdpa")
    with torch.device(device):
        torch.set_default_dtype(dtype)
        model = LlamaForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    return model.eval()


def cache_of(model, users, length, device, dtype):
    try:
        return StaticCache(
            config=model.config, max_batch_size=users, max_cache_len=length, device=device, dtype=dtype
        )
    except TypeError:  # newer versions find batch, device and type out by themselves (5.17 ignores them)
        return StaticCache(config=model.config, max_cache_len=length)


def synchronize(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize()


@torch.no_grad()  # as generate() has it
def decode(model, users, prompt, tokens, device, dtype, compiled):
    width, vocab = model.config.hidden_size, model.config.vocab_size
    rows = SOFT_ROWS + prompt
    cache = cache_of(model, users, rows + tokens, device, dtype)
    ids = torch.randint(vocab, (users, prompt), device=device)
    soft = (torch.rand(users, SOFT_ROWS, width, device=device) - 0.5) * 0.1
    embeds = torch.cat([soft.to(dtype), model.get_input_embeddings()(ids)], dim=1)
    position = torch.arange(rows, device=device)
    # 4.x finds its place in the cache by `cache_position`; 5.x counts for itself, and passes it by.
    out = model(
        inputs_embeds=embeds, past_key_values=cache, cache_position=position, use_cache=True, logits_to_keep=1
    )
    token = out.logits[:, -1:].argmax(-1)
    step = model.forward
    if compiled:
        torch._dynamo.reset()  # each batch size gets its own program, as the first one does
        step = torch.compile(model.forward, mode="reduce-overhead", dynamic=False)
    times = []
    for i in range(tokens):
        synchronize(device)
        start = time.perf_counter()
        position = torch.tensor([rows + i], device=device)
        logits = step(input_ids=token, past_key_values=cache, cache_position=position, use_cache=True).logits
        token = logits[:, -1:].argmax(-1).clone()
        token.tolist()  # as a server, which has to look at it
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


@torch.no_grad()
def prefill(model, length, device):
    ids = torch.ones(1, length, dtype=torch.long, device=device)
    times = []
    for _ in range(10):
        synchronize(device)
        start = time.perf_counter()
        model(input_ids=ids, logits_to_keep=1)
        synchronize(device)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shape")
    parser.add_argument("--users", default="1,8,32,64,256")
    parser.add_argument("--lengths", default="128,512,2048")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype)
    model = model_of(args.shape, args.device, dtype)
    how = "compiled" if args.compile else "eager"
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, {args.dtype}, {how}")
    print("| users | step, ms | tokens/s |\n|---|---|---|")
    for users in map(int, args.users.split(",")):
        step = decode(model, users, args.prompt, args.tokens, args.device, dtype, args.compile)
        print(f"| {users} | {step * 1e3:.2f} | {users / step:.0f} |", flush=True)
    if args.compile:  # prompts are not
        return
    print("\n| prompt | tokens/s |\n|---|---|")
    for length in map(int, args.lengths.split(",")):
        print(f"| {length} | {length / prefill(model, length, args.device):.0f} |", flush=True)


if __name__ == "__main__":
    main()
