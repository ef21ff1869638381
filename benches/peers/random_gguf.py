"""Usage: random_gguf.py MODEL TOKENIZER.gguf OUT.gguf. A model of MODEL's shape with random weights in F16 and
the tokenizer of another file, padded to MODEL's vocabulary: as fast as the real one, and as large."""

import sys

import gguf
import numpy

SHAPES = {
    "qwen2.5-0.5b": dict(arch="qwen2", layers=24, hidden=896, heads=14, kv_heads=2, feed_forward=4864, vocabulary=151936,
                         context=32768, rope_base=1e6, epsilon=1e-6, bias=True),
    "llama-3.2-1b": dict(arch="llama", layers=16, hidden=2048, heads=32, kv_heads=8, feed_forward=8192, vocabulary=128256,
                         context=131072, rope_base=5e5, epsilon=1e-5, bias=False),
}
# Each tensor is a stretch of these many values, which are drawn once: a billion of them would take a minute.
POOL = 1 << 24


class Weights:
    """Random tensors, the same in every run."""

    def __init__(self):
        self.random = numpy.random.default_rng(1)
        self.pool = (0.02 * self.random.standard_normal(POOL, dtype=numpy.float32)).astype(numpy.float16)

    def matrix(self, outputs, inputs):
        start = int(self.random.integers(POOL))
        return numpy.resize(numpy.roll(self.pool, -start), (outputs, inputs))

    def vector(self, size, mean):
        return (mean + 0.02 * self.random.standard_normal(size)).astype(numpy.float32)


def main(model, tokenizer, out):
    shape = SHAPES[model]
    writer = gguf.GGUFWriter(out, shape["arch"])
    writer.add_name(f"{model} with random weights")
    writer.add_block_count(shape["layers"])
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(shape["hidden"])
    writer.add_feed_forward_length(shape["feed_forward"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_rope_freq_base(shape["rope_base"])
    writer.add_rope_dimension_count(shape["hidden"] // shape["heads"])
    writer.add_layer_norm_rms_eps(shape["epsilon"])
    writer.add_vocab_size(shape["vocabulary"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    add_tokenizer(writer, gguf.GGUFReader(tokenizer), shape["vocabulary"])
    for name, tensor in tensors(shape):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer, reader, vocabulary):
    def value(name):
        field = reader.fields.get(name)
        return None if field is None else field.contents()

    tokens, types = value("tokenizer.ggml.tokens"), value("tokenizer.ggml.token_type")
    padding = range(len(tokens), vocabulary)
    writer.add_tokenizer_model(value("tokenizer.ggml.model"))
    writer.add_tokenizer_pre(value("tokenizer.ggml.pre"))
    writer.add_token_list(tokens + [f"[PAD{index}]" for index in padding])
    writer.add_token_types(types + [gguf.TokenType.UNUSED for _ in padding])
    writer.add_token_merges(value("tokenizer.ggml.merges"))
    writer.add_bos_token_id(value("tokenizer.ggml.bos_token_id"))
    writer.add_eos_token_id(value("tokenizer.ggml.eos_token_id"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(value("tokenizer.chat_template"))


def tensors(shape):
    """By name, in the layout of GGUF: outputs, inputs. The head is the embedding's."""
    weights = Weights()
    hidden, feed_forward = shape["hidden"], shape["feed_forward"]
    keys = hidden // shape["heads"] * shape["kv_heads"]
    yield "token_embd.weight", weights.matrix(shape["vocabulary"], hidden)
    yield "output_norm.weight", weights.vector(hidden, 1.0)
    for layer in range(shape["layers"]):
        stem = f"blk.{layer}."
        for name in ("attn_norm", "ffn_norm"):
            yield f"{stem}{name}.weight", weights.vector(hidden, 1.0)
        for name, outputs in (("attn_q", hidden), ("attn_k", keys), ("attn_v", keys)):
            yield f"{stem}{name}.weight", weights.matrix(outputs, hidden)
            if shape["bias"]:
                yield f"{stem}{name}.bias", weights.vector(outputs, 0.0)
        yield f"{stem}attn_output.weight", weights.matrix(hidden, hidden)
        for name in ("ffn_gate", "ffn_up"):
            yield f"{stem}{name}.weight", weights.matrix(feed_forward, hidden)
        yield f"{stem}ffn_down.weight", weights.matrix(hidden, feed_forward)


main(*sys.argv[1:])
