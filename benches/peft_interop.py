"""Compares logits of attune with those of transformers + PEFT on the same ids, in f32.

    peft_interop.py ids PAIRS.jsonl MODEL.gguf RUN IDS.jsonl       texts of PAIRS as ids, for some users
    peft_interop.py compare MODEL.gguf PEFT_DIR IDS.jsonl LOGITS.safetensors
"""

import glob
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXTS = 6


def ids(pairs, model, run, out):
    gguf = pathlib.Path(model)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    manifest = json.loads(open(glob.glob(f"{run}/**/manifest.json", recursive=True)[0]).read())
    users = [None] + [row["user"] for row in manifest.get("users", [])[:2]]
    with open(out, "w") as lines:
        for line in open(pairs).read().splitlines()[:TEXTS]:
            pair = json.loads(line)
            text = (
                f"<|im_start|>user\n{pair['prompt']}<|im_end|>\n"
                f"<|im_start|>assistant\n{pair['chosen']}<|im_end|>"
            )
            for user in users:
                line = {"ids": tokenizer(text, add_special_tokens=False).input_ids, "user": user, "soft_at": 0}
                row = next((r["row"] for r in manifest.get("users", []) if r["user"] == user), 0)
                lines.write(json.dumps({**line, "row": row}) + "\n")


def soft_rows(tables, row):
    """e_i = e_0 + o_i (P-RLHF's individual model); T_u is told by the number of users."""
    table = tables["table"]
    t = tables["n_user_tokens"]
    return table[:t] + (table[row * t : (row + 1) * t] if row else 0)


def compare(model, directory, lines, ours):
    from peft import PeftModel

    gguf = pathlib.Path(model)
    torch.set_num_threads(2)
    base = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, torch_dtype=torch.float32)
    tables = None
    for name, tensor in load_file(f"{directory}/adapter_model.safetensors").items():
        if name.endswith("user_embedding.weight"):
            tables = {"table": tensor.float(), "n_user_tokens": N_USER_TOKENS}
    peft = PeftModel.from_pretrained(base, directory).eval()
    ours = load_file(ours)
    worst, worst_logp, rows, changed = 0.0, 0.0, 0, 0.0
    for i, line in enumerate(open(lines)):
        line = json.loads(line)
        embeds = base.get_input_embeddings()(torch.tensor([line["ids"]]))
        if tables:
            embeds = torch.cat([soft_rows(tables, line["row"])[None], embeds], dim=1)
        with torch.no_grad():
            theirs = peft(inputs_embeds=embeds).logits[0]
            with peft.disable_adapter():
                bare = peft(inputs_embeds=embeds).logits[0]
        mine = ours[str(i)]
        assert mine.shape == theirs.shape, (mine.shape, theirs.shape)
        worst = max(worst, (mine - theirs).abs().max().item())
        logp = lambda x: torch.log_softmax(x.double(), -1)
        worst_logp = max(worst_logp, (logp(mine) - logp(theirs)).abs().max().item())
        changed = max(changed, (theirs - bare).abs().max().item())
        rows += len(mine)
    kind = "LoRA and users' rows" if tables else "LoRA"
    print(
        f"{pathlib.Path(directory).name} ({kind}): {rows} rows x {mine.shape[1]} logits differ by at most {worst:.2e}, "
        f"log-probabilities by {worst_logp:.2e}; the LoRA itself moves logits by up to {changed:.2f}"
    )


N_USER_TOKENS = 4
{"ids": ids, "compare": compare}[sys.argv[1]](*sys.argv[2:])
