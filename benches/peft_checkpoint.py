"""Writes a PEFT checkpoint as the authors of P-RLHF save theirs, with random values: LoRA on q, k, v and an
individual user model. For load tests: each user has rows of their own.

Usage: peft_checkpoint.py OUT_DIR [USERS=64] [ROWS=10] [RANK=8] [SEED=123] [LAYERS,HIDDEN,Q,K]. The last are sizes of
the base model (columns of its q and k), those of SmolLM2-135M if missing. Needs nothing but Python.
"""

import array
import json
import pathlib
import random
import struct
import sys

DEFAULTS = ["64", "10", "8", "123", "30,576,576,192"]
out = pathlib.Path(sys.argv[1])
*numbers, sizes = sys.argv[2:] + DEFAULTS[len(sys.argv) - 2 :]
users, rows, rank, seed = (int(number) for number in numbers)
LAYERS, HIDDEN, Q, K = (int(size) for size in sizes.split(","))
random.seed(seed)


def normal(count, deviation):
    return array.array("f", (random.gauss(0, deviation) for _ in range(count)))


def user_rows(count, deviation):
    """Rows of `HIDDEN`; of very many rows, each is a stretch of the same long row, from a place of its own."""
    if count <= 1000:
        return normal(count * HIDDEN, deviation)
    pool, table = normal(1000 * HIDDEN, deviation), array.array("f")
    for start in random.sample(range(len(pool) - HIDDEN), count):
        table += pool[start : start + HIDDEN]
    return table


tensors = {}
for layer in range(LAYERS):
    for name, width in (("q", Q), ("k", K), ("v", K)):
        stem = f"base_model.model.model.layers.{layer}.self_attn.{name}_proj.lora_"
        tensors[stem + "A.weight"] = ([rank, HIDDEN], normal(rank * HIDDEN, 0.02))
        tensors[stem + "B.weight"] = ([width, rank], normal(width * rank, 0.002))
# The standard deviation of SmolLM2's token embeddings is 0.136.
table = user_rows((users + 1) * rows, 0.07)
tensors["base_model.model.user_model.user_embedding.weight"] = ([(users + 1) * rows, HIDDEN], table)

header, offset = {}, 0
for name, (shape, values) in tensors.items():
    end = offset + 4 * len(values)
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, end]}
    offset = end
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
out.mkdir(parents=True, exist_ok=True)
with open(out / "adapter_model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    for _, values in tensors.values():
        file.write(values.tobytes())
config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.05, "bias": "none",
          "target_modules": ["q_proj", "k_proj", "v_proj"], "modules_to_save": ["user_embedding"]}
(out / "adapter_config.json").write_text(json.dumps(config, indent=1))
