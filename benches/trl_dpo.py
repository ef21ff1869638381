"""TRL's DPOTrainer with PEFT on the steps that examples/training_steps.rs wrote: the same model (GGUF,
dequantized to f32), pairs, order, LoRA, optimizer and threads. Prints a JSON line per step.

Usage: trl_dpo.py STEPS_DIR MODEL.gguf THREADS LR BETA WARMUP TOTAL_STEPS BATCH [MICRO_BATCH [SAVE_DIR]]
"""

import json
import pathlib
import resource
import sys
import time

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from tokenizers import Tokenizer, models
from trl import DPOConfig, DPOTrainer

steps_dir, gguf = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
threads, total, batch = int(sys.argv[3]), int(sys.argv[7]), int(sys.argv[8])
lr, beta, warmup = float(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6])
micro = int(sys.argv[9]) if len(sys.argv) > 9 else batch
torch.set_num_threads(threads)

rows = []
for line in (steps_dir / "steps.jsonl").read_text().splitlines():
    for pair in json.loads(line)["pairs"]:
        rows.append(
            {
                "prompt_input_ids": pair["prompt"],
                "chosen_input_ids": pair["chosen"],
                "rejected_input_ids": pair["rejected"],
            }
        )


class SameIds(DPOTrainer):
    """The ids are there already, in the order of the steps."""

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset

    def _get_train_sampler(self, *args, **kwargs):
        return torch.utils.data.SequentialSampler(self.train_dataset)


class Clock(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds = time.perf_counter() - self.start

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            line = {"step": state.global_step, "loss": logs["loss"], "seconds": self.seconds, "peak_memory_bytes": peak}
            print(json.dumps(line), flush=True)


base = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, torch_dtype=torch.float32)
model = PeftModel.from_pretrained(base, steps_dir / "peft", is_trainable=True)
# Never used on text: TRL wants a tokenizer for its padding id.
words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<|im_end|>": 2, "?": 0}, unk_token="?")))
words.pad_token = words.eos_token = "<|im_end|>"
config = DPOConfig(
    output_dir=str(steps_dir / "trl"),
    beta=beta,
    learning_rate=lr,
    lr_scheduler_type="cosine",
    warmup_steps=warmup,
    max_steps=total,
    per_device_train_batch_size=micro,
    gradient_accumulation_steps=batch // micro,
    logging_steps=1,
    save_strategy="no",
    report_to=[],
    seed=123,
    use_cpu=True,
    bf16=False,
    fp16=False,
    gradient_checkpointing=False,
    max_prompt_length=None,
    max_length=None,
    remove_unused_columns=False,
    disable_tqdm=True,
)
trainer = SameIds(
    model=model,
    args=config,
    train_dataset=Dataset.from_list(rows),
    processing_class=words,
    callbacks=[Clock()],
)
trainer.train()
if len(sys.argv) > 10:
    model.save_pretrained(sys.argv[10])
