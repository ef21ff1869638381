"""The files that the engines read: quantizations of attune's default model, the directory of Hugging Face
that vLLM wants, and larger models. What is there already stays."""

import pathlib
import subprocess

import gguf

HERE = pathlib.Path(__file__).parent
# Names of `attune model list`, the first of them the default; and those of random_gguf.py.
DEFAULT = "smollm2-135m-instruct"
GEMMA = "gemma-3-270m-it"
LARGER = ["qwen2.5-0.5b", "llama-3.2-1b"]


class Models:
    """Makes files below `home` when they are first asked for; `attune` fetches those that it knows by name."""

    def __init__(self, home, attune):
        self.home, self.attune = home, attune
        self.folder = home / "models"
        self.folder.mkdir(exist_ok=True)
        self.pulled = self.pull(DEFAULT)

    def pull(self, name):
        return pathlib.Path(output([self.attune, "model", "pull", name]).splitlines()[-1])

    def own_type(self):
        """How most weights of the default model's file are quantized, e.g. Q4_1."""
        types = [tensor.tensor_type.name for tensor in gguf.GGUFReader(self.pulled).tensors]
        return max(set(types), key=types.count)

    def file(self, model, kind):
        """The model as a GGUF file, quantized to `kind`; the pulled file as it is if `kind` is its own."""
        if model == DEFAULT and kind == self.own_type():
            return self.pulled
        if model == GEMMA:
            return self.pull(model)
        path = self.folder / f"{model}.{kind}.gguf"
        if not path.exists():
            source = self.pulled if model == DEFAULT else self.random(model)
            self.make(path, [self.home / "llama/programs/llama-quantize", "--allow-requantize", source], [kind])
        return path

    def random(self, model):
        """The shape of `model` with random weights, in F16."""
        path = self.folder / f"{model}.F16.gguf"
        if not path.exists():
            python = self.home / "tools/bin/python"
            self.make(path, [python, HERE / "random_gguf.py", model, self.pulled], [])
        return path

    def directory(self, model, kind):
        """The weights of a GGUF file in bf16, as transformers saves them."""
        path = self.folder / f"{model}.bf16"
        if not path.exists():
            source = self.file(model, kind)
            self.make(path, [self.home / "vllm/bin/python", HERE / "gguf_to_hf.py", source], [])
        return path

    def make(self, path, before, after):
        """Runs a command whose output is `path`, under another name until it is whole."""
        print(f"making {path.name}", flush=True)
        partial = path.with_name("partial." + path.name)
        output([*before, partial, *after])
        partial.rename(path)


def shape(path):
    """(layers, hidden size, columns of q, columns of k) of a GGUF file, for benches/peft_checkpoint.py."""
    reader = gguf.GGUFReader(path)
    sizes = {tensor.name: tensor.shape for tensor in reader.tensors}
    layers = sum(name.endswith(".attn_q.weight") for name in sizes)
    hidden, q = (int(size) for size in sizes["blk.0.attn_q.weight"])
    return layers, hidden, q, int(sizes["blk.0.attn_k.weight"][1])


def output(command):
    """What a command prints."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{pathlib.Path(command[0]).name} failed: {done.stderr.strip()[-300:]}")
    return done.stdout
