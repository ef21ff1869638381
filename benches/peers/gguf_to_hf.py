"""Usage: gguf_to_hf.py FILE.gguf OUT_DIR. The weights of a GGUF file in bf16, with config and tokenizer, as
transformers saves them."""

import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

file, out = pathlib.Path(sys.argv[1]), sys.argv[2]
where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
unpacked = GgufConfig(dequantize=True)
model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16, quantization_config=unpacked)
# Nothing is packed any more, but transformers refuses to save a model that it read from a GGUF file.
model.hf_quantizer = None
model.save_pretrained(out)
AutoTokenizer.from_pretrained(**where).save_pretrained(out)
