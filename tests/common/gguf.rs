//! Small Llamas, written as safetensors and as GGUF.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const HIDDEN: usize = 256;
const INNER: usize = 512;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const VOCAB: usize = 96;
const LAYERS: usize = 2;
/// A power of two, so that f32 and f64 agree on it.
const EPSILON: f32 = 1.0 / 131_072.0;

/// A random Llama, (Hugging Face name, GGUF name, tensor), f32. Widths suit every kind of block.
pub fn random_llama(seed: u64) -> Vec<(String, String, Tensor)> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut tensors = Vec::new();
    let mut add = |hf: String, gguf: String, shape: &[usize]| {
        let n: usize = shape.iter().product();
        let (middle, spread) = if shape.len() == 1 {
            (1.0, 0.2)
        } else {
            (0.0, 0.15)
        };
        let value = |_| middle + random.random_range(-spread..spread);
        let values: Vec<f32> = (0..n).map(value).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        tensors.push((format!("{hf}.weight"), format!("{gguf}.weight"), tensor));
    };
    add(
        "model.embed_tokens".into(),
        "token_embd".into(),
        &[VOCAB, HIDDEN],
    );
    for layer in 0..LAYERS {
        let kv = HIDDEN / HEADS * KV_HEADS;
        for (hf, gguf, shape) in [
            ("input_layernorm", "attn_norm", vec![HIDDEN]),
            ("self_attn.q_proj", "attn_q", vec![HIDDEN, HIDDEN]),
            ("self_attn.k_proj", "attn_k", vec![kv, HIDDEN]),
            ("self_attn.v_proj", "attn_v", vec![kv, HIDDEN]),
            ("self_attn.o_proj", "attn_output", vec![HIDDEN, HIDDEN]),
            ("post_attention_layernorm", "ffn_norm", vec![HIDDEN]),
            ("mlp.gate_proj", "ffn_gate", vec![INNER, HIDDEN]),
            ("mlp.up_proj", "ffn_up", vec![INNER, HIDDEN]),
            ("mlp.down_proj", "ffn_down", vec![HIDDEN, INNER]),
        ] {
            add(
                format!("model.layers.{layer}.{hf}"),
                format!("blk.{layer}.{gguf}"),
                &shape,
            );
        }
    }
    add("model.norm".into(), "output_norm".into(), &[HIDDEN]);
    add("lm_head".into(), "output".into(), &[VOCAB, HIDDEN]);
    tensors
}

/// A GGUF file of `tensors` as llama.cpp's converter lays it out: matrices in `kind`, vectors in f32,
/// rows of q and k interleaved. With the tokenizer of as many single characters.
pub fn write_gguf(path: &Path, tensors: &[(String, String, Tensor)], kind: GgmlDType) {
    write_gguf_with(path, tensors, kind, &[]);
}

/// As [`write_gguf`], with more metadata.
pub fn write_gguf_with(
    path: &Path,
    tensors: &[(String, String, Tensor)],
    kind: GgmlDType,
    more: &[(&'static str, Value)],
) {
    let mut metadata = metadata();
    metadata.extend(more.iter().cloned());
    write_part(path, tensors, kind, &metadata);
}

/// The same model in `n` files, as `llama-gguf-split` names them; returned is the first.
pub fn write_gguf_parts(
    directory: &Path,
    tensors: &[(String, String, Tensor)],
    kind: GgmlDType,
    n: usize,
) -> PathBuf {
    let name = |i: usize| directory.join(format!("random-{:05}-of-{n:05}.gguf", i + 1));
    for (i, part) in tensors.chunks(tensors.len().div_ceil(n)).enumerate() {
        let mut metadata = if i == 0 { metadata() } else { BTreeMap::new() };
        metadata.extend([
            ("split.no", Value::U16(i as u16)),
            ("split.count", Value::U16(n as u16)),
            ("split.tensors.count", Value::I32(tensors.len() as i32)),
        ]);
        write_part(&name(i), part, kind, &metadata);
    }
    name(0)
}

fn write_part(
    path: &Path,
    tensors: &[(String, String, Tensor)],
    kind: GgmlDType,
    metadata: &BTreeMap<&'static str, Value>,
) {
    let stored: Vec<(&str, QTensor)> = tensors
        .iter()
        .map(|(_, name, tensor)| {
            let tensor = match name.rsplit('.').nth(1) {
                Some("attn_q") => interleave(tensor, HEADS),
                Some("attn_k") => interleave(tensor, KV_HEADS),
                _ => tensor.clone(),
            };
            (name.as_str(), quantize(&tensor, kind))
        })
        .collect();
    let stored: Vec<(&str, &QTensor)> = stored.iter().map(|(n, t)| (*n, t)).collect();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (*k, v)).collect();
    gguf_file::write(&mut File::create(path).unwrap(), &metadata, &stored).unwrap();
}

/// The same model as a Hugging Face directory, with the values that the blocks of `kind` hold.
pub fn write_safetensors(directory: &Path, tensors: &[(String, String, Tensor)], kind: GgmlDType) {
    write_safetensors_with(directory, tensors, kind, &json!({}));
}

/// As [`write_safetensors`], with more keys of `config.json`.
pub fn write_safetensors_with(
    directory: &Path,
    tensors: &[(String, String, Tensor)],
    kind: GgmlDType,
    more: &serde_json::Value,
) {
    let kept = tensors.iter().map(|(name, _, tensor)| {
        let kept = quantize(tensor, kind).dequantize(&Device::Cpu).unwrap();
        (name.clone(), kept)
    });
    let kept: std::collections::HashMap<String, Tensor> = kept.collect();
    candle_core::safetensors::save(&kept, directory.join("model.safetensors")).unwrap();
    let mut config = json!({
        "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "vocab_size": VOCAB, "max_position_embeddings": 512,
        "rms_norm_eps": EPSILON, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": false,
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
}

/// A GGUF file of a random Llama in `directory`.
pub fn gguf_in(directory: &Path, kind: GgmlDType) -> PathBuf {
    let path = directory.join("random.gguf");
    write_gguf(&path, &random_llama(1), kind);
    path
}

fn quantize(tensor: &Tensor, kind: GgmlDType) -> QTensor {
    let kind = if tensor.rank() == 1 {
        GgmlDType::F32
    } else {
        kind
    };
    QTensor::quantize(tensor, kind).unwrap()
}

/// (heads, 2, head_dim / 2, in) as (heads, head_dim / 2, 2, in).
fn interleave(weight: &Tensor, heads: usize) -> Tensor {
    let (rows, columns) = weight.dims2().unwrap();
    let halves = weight
        .reshape((heads, 2, rows / heads / 2, columns))
        .unwrap();
    let pairs = halves.transpose(1, 2).unwrap().contiguous().unwrap();
    pairs.reshape((rows, columns)).unwrap()
}

fn metadata() -> BTreeMap<&'static str, Value> {
    let count = |n: usize| Value::U32(n as u32);
    let text = |s: &str| Value::String(s.to_owned());
    // '!' and what follows stand for themselves in the byte-level alphabet.
    let token = |i: usize| char::from_u32(0x21 + i as u32).unwrap();
    let token = |i: usize| {
        if i < 94 {
            token(i).to_string()
        } else {
            format!("<{i}>")
        }
    };
    let tokens = (0..VOCAB).map(|i| Value::String(token(i))).collect();
    let kinds = (0..VOCAB)
        .map(|i| Value::I32(if i < 94 { 1 } else { 3 }))
        .collect();
    BTreeMap::from([
        ("general.architecture", text("llama")),
        ("llama.embedding_length", count(HIDDEN)),
        ("llama.feed_forward_length", count(INNER)),
        ("llama.block_count", count(LAYERS)),
        ("llama.attention.head_count", count(HEADS)),
        ("llama.attention.head_count_kv", count(KV_HEADS)),
        ("llama.context_length", count(512)),
        (
            "llama.attention.layer_norm_rms_epsilon",
            Value::F32(EPSILON),
        ),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        ("tokenizer.ggml.tokens", Value::Array(tokens)),
        ("tokenizer.ggml.token_type", Value::Array(kinds)),
        ("tokenizer.ggml.merges", Value::Array(vec![])),
        ("tokenizer.ggml.eos_token_id", count(95)),
    ])
}
