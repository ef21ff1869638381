"""Usage: openvino_client.py FILE.gguf THREADS PROMPTS.rs. OpenVINO GenAI has no server of its own in the package
index, so it is driven in this process: clients, prompts and numbers are those of loadtest, without HTTP.

Prints "ready", then answers each line of its input, {"clients", "requests", "words", "max_tokens", "seed"}, with
a line of numbers, named as in a report of loadtest."""

import json
import math
import random
import re
import sys
import time

import openvino_genai

# As attune's default, and as vLLM is given.
KV_GIB = 1


def main(model, threads, prompts):
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = KV_GIB
    scheduler.max_num_seqs = 64
    properties = {"INFERENCE_NUM_THREADS": int(threads)}
    pipeline = openvino_genai.ContinuousBatchingPipeline(model, scheduler, "CPU", properties)
    words = re.findall(r'^    "(\w+)",$', open(prompts).read(), re.MULTILINE)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(level(pipeline, words, **json.loads(line))), flush=True)


def level(pipeline, vocabulary, clients, requests, words, max_tokens, seed):
    """A closed loop of `clients`."""
    chance = random.Random(seed)
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = max_tokens
    config.ignore_eos = True
    config.do_sample = False
    config.apply_chat_template = False
    texts = [f"[{seed}-{i}] " + " ".join(chance.choices(vocabulary, k=words)) for i in range(requests)]
    tokenizer = pipeline.get_tokenizer()
    prompt_tokens = sum(tokenizer.encode(text).input_ids.get_size() for text in texts)

    running, done = [], []
    start = time.perf_counter()
    while texts or running:
        while texts and len(running) < clients:
            sent = time.perf_counter()
            handle = pipeline.add_request(len(done) + len(running), texts.pop(0), config)
            running.append((handle, sent, []))
        pipeline.step()
        now = time.perf_counter()
        for answer in list(running):
            handle, _, arrivals = answer
            while handle.can_read():
                for output in handle.read().values():
                    arrivals += [now] * len(output.generated_ids)
            if handle.get_status() != openvino_genai.GenerationStatus.RUNNING:
                running.remove(answer)
                done.append(answer)
    wall = time.perf_counter() - start

    failed = sum(len(arrivals) != max_tokens for _, _, arrivals in done)
    tokens = sum(len(arrivals) for _, _, arrivals in done)
    first = [1000 * (arrivals[0] - sent) for _, sent, arrivals in done if arrivals]
    gaps = [1000 * (b - a) for _, _, arrivals in done for a, b in zip(arrivals, arrivals[1:])]
    return {
        "ok": len(done) - failed, "failed": failed, "wall_s": wall, "output_tokens": tokens,
        "output_tokens_per_s": tokens / wall, "prompt_tokens": prompt_tokens,
        "ttft_ms": summary(first), "itl_ms": summary(gaps),
    }


def summary(samples):
    """Quantiles by nearest rank, as in loadtest."""
    ordered = sorted(samples)
    if not ordered:
        return None
    rank = lambda share: ordered[max(0, math.ceil(share * len(ordered)) - 1)]
    return {"count": len(ordered), "mean": sum(ordered) / len(ordered),
            "p50": rank(0.5), "p90": rank(0.9), "p99": rank(0.99), "max": ordered[-1]}


main(*sys.argv[1:])
