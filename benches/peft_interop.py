"""Compares logits of attune with those of transformers + PEFT on the same ids, in f32.

    peft_interop.py ids PAIRS.jsonl MODEL.gguf BUNDLE IDS.jsonl    texts of PAIRS as ids, for some users
    peft_interop.py compare MODEL.gguf BUNDLE PEFT_DIR IDS.jsonl LOGITS.safetensors
    peft_interop.py make MODEL.gguf GOOD_DIR BAD_DIR               checkpoints for import to read and to refuse
"""

import copy
import glob
import json
import os
import pathlib
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, logging

PAIRS, LIMIT = 4, 5e-4
logging.set_verbosity_error()
torch.set_num_threads(int(os.environ.get("THREADS", "2")))


def load(model):
    gguf = pathlib.Path(model)
    return AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, torch_dtype=torch.float32).eval()


def manifest(bundle):
    return json.load(open(glob.glob(f"{bundle}/**/manifest.json", recursive=True)[0]))


def ids(pairs, model, bundle, out):
    gguf = pathlib.Path(model)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    encode = lambda text: tokenizer(text, add_special_tokens=False).input_ids
    users = [{"user": None, "row": 0}] + manifest(bundle).get("users", [])[:2]
    texts = open(pairs).read().splitlines()
    with open(out, "w") as lines:
        for pair in map(json.loads, texts[:: len(texts) // PAIRS][:PAIRS]):
            prompt = encode(f"<|im_start|>user\n{pair['prompt']}<|im_end|>\n<|im_start|>assistant\n")
            for answer in (pair["chosen"], pair["rejected"]):
                # The model has no BOS, after which the rows would go.
                line = {"ids": prompt + encode(f"{answer}<|im_end|>"), "answer_at": len(prompt), "soft_at": 0}
                for user in users:
                    lines.write(json.dumps({**line, "user": user["user"], "row": user["row"]}) + "\n")


def soft_rows(directory, user_model, row):
    """e_i = e_0 + o_i (P-RLHF's individual model), from the exported tables."""
    if not user_model:
        return None
    assert user_model["kind"] == "individual", user_model
    tensors = load_file(f"{directory}/adapter_model.safetensors")
    table, t = tensors["base_model.model.user_model.user_embedding.weight"], user_model["n_user_tokens"]
    return table[:t] + (table[row * t : (row + 1) * t] if row else 0)


def theirs(peft, line, soft):
    embeds = peft.get_input_embeddings()(torch.tensor(line["ids"]))
    if soft is not None:
        embeds = torch.cat([embeds[: line["soft_at"]], soft, embeds[line["soft_at"] :]])
    return peft(inputs_embeds=embeds[None]).logits[0]


def answer(log_probs, line):
    """Of each token of the answer, whatever number of soft rows stands before."""
    scored = line["ids"][line["answer_at"] :]
    return log_probs[-len(scored) - 1 : -1].gather(1, torch.tensor(scored)[:, None])


@torch.no_grad()
def compare(model, bundle, directory, lines, logits):
    peft = PeftModel.from_pretrained(load(model), directory).eval()
    user_model = manifest(bundle).get("user_model")
    ours = load_file(logits)
    distance = lambda a, b: (a - b).abs().max().item()
    worst = dict.fromkeys(["logits", "rows", "answers", "lora", "user"], 0.0)
    rows, answers, generic = 0, 0, None
    for i, line in enumerate(map(json.loads, open(lines))):
        mine, other = ours[str(i)], theirs(peft, line, soft_rows(directory, user_model, line["row"]))
        with peft.disable_adapter():
            bare = theirs(peft, line, soft_rows(directory, user_model, line["row"]))
        assert mine.shape == other.shape, (mine.shape, other.shape)
        mine_p, other_p, bare_p = (torch.log_softmax(x.double(), -1) for x in (mine, other, bare))
        scored = answer(other_p, line)
        generic = scored if line["user"] is None else generic
        found = {
            "logits": distance(mine, other),
            "rows": distance(mine_p, other_p),
            "answers": distance(answer(mine_p, line), scored),
            "lora": distance(scored, answer(bare_p, line)),
            "user": distance(scored, generic),
        }
        worst = {name: max(worst[name], value) for name, value in found.items()}
        rows, answers = rows + len(mine), answers + len(scored)
    print(
        f"{pathlib.Path(directory).name}: {answers} tokens of answers: log-probabilities differ by at most {worst['answers']:.1e}; "
        f"{rows} whole rows: {worst['rows']:.1e}, logits {worst['logits']:.1e}. "
        f"The LoRA moves an answer's token by up to {worst['lora']:.2f}, a user's rows by {worst['user']:.2f}",
        flush=True,
    )
    assert worst["rows"] <= LIMIT and worst["lora"] > 100 * LIMIT


def per_block(projections, blocks):
    return [f"model.layers.{block}.self_attn.{name}" for block in blocks for name in projections]


GOOD = {
    "rslora": dict(r=6, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "v_proj"]),
    "patterns": dict(
        target_modules=["q_proj", "v_proj", "down_proj"],
        rank_pattern={"q_proj": 4, "layers.3.mlp.down_proj": 2},
        alpha_pattern={"v_proj": 30, "model.layers.29.self_attn.q_proj": 1.5},
    ),
    "layers": dict(target_modules=["o_proj"], layers_to_transform=[1, 5, 29]),
    # What people write who adapt some blocks only.
    "blocks": dict(target_modules=per_block(["q_proj", "k_proj"], range(20))),
    "bf16": dict(target_modules="all-linear"),
}
BAD = {
    "dora": dict(target_modules=["q_proj"], use_dora=True),
    "biases": dict(target_modules=["q_proj"], bias="all"),
    "lora-bias": dict(target_modules=["q_proj"], lora_bias=True),
    "whole-head": dict(target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "head": dict(target_modules=["q_proj", "lm_head"]),
    "embeddings": dict(target_modules=["q_proj", "embed_tokens"]),
    "new-tokens": dict(target_modules=["q_proj"], trainable_token_indices=[1, 2]),
    "pattern-of-modules": dict(target_modules=r".*\.(q|v)_proj"),
    "pattern-of-ranks": dict(target_modules=["q_proj"], rank_pattern={r".*\.[13]\.self_attn\.q_proj": 2}),
    "uneven-blocks": dict(target_modules=per_block(["q_proj"], range(20)) + per_block(["k_proj"], range(5))),
    "pissa": dict(target_modules=["q_proj"], init_lora_weights="pissa"),
}


@torch.no_grad()
def make(model, good, bad):
    base = load(model)
    for directory, kinds in ((good, GOOD), (bad, BAD)):
        for name, settings in kinds.items():
            torch.manual_seed(123)
            settings = {"r": 8, "lora_alpha": 16, "init_lora_weights": False, "task_type": "CAUSAL_LM", **settings}
            peft = get_peft_model(copy.deepcopy(base), LoraConfig(**settings))
            for parameter_name, parameter in peft.named_parameters():
                # As drawn, B is far larger than training makes it.
                if "lora_B" in parameter_name:
                    parameter.mul_(0.1)
                if name == "bf16" and "lora_" in parameter_name:
                    parameter.data = parameter.data.bfloat16()
            peft.save_pretrained(f"{directory}/{name}")


{"ids": ids, "compare": compare, "make": make}[sys.argv[1]](*sys.argv[2:])
