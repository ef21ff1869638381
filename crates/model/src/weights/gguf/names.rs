//! Tensors of GGUF files by the names of Hugging Face, in its order of rows.

use candle_core::Tensor;

/// Divisors of the rotary frequencies (Llama 3).
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// `blk.3.attn_q.weight` is `model.layers.3.self_attn.q_proj.weight`. With `sandwich` norms
/// (Gemma 3) `ffn_norm` has another name than without.
pub(super) fn hugging_face_name(gguf: &str, sandwich: bool) -> String {
    let fixed = match gguf {
        "token_embd.weight" => Some("model.embed_tokens.weight"),
        "output_norm.weight" => Some("model.norm.weight"),
        "output.weight" => Some("lm_head.weight"),
        _ => None,
    };
    if let Some(name) = fixed {
        return name.to_owned();
    }
    let parts = gguf.strip_prefix("blk.").and_then(|r| r.split_once('.'));
    let Some((layer, (part, kind))) = parts.and_then(|(l, r)| Some((l, r.rsplit_once('.')?)))
    else {
        return gguf.to_owned();
    };
    let part = match part {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "post_attention_norm" => "post_attention_layernorm",
        "ffn_norm" if sandwich => "pre_feedforward_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "post_ffw_norm" => "post_feedforward_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        other => other,
    };
    format!("model.layers.{layer}.{part}.{kind}")
}

/// Undoes the row order in which llama.cpp stores q and k of the llama family: pairs side by side,
/// (heads, head_dim / 2, 2, in), instead of halves, (heads, 2, head_dim / 2, in).
pub(super) fn uninterleave(weight: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let shape = weight.shape().clone();
    let rows = shape.dims()[0];
    weight
        .reshape((heads, rows / heads / 2, 2, ()))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape(shape)
}

/// The same for one row of so many: where llama.cpp has it.
pub(super) fn interleaved_row(row: usize, head_dim: usize) -> usize {
    let (head, at) = (row / head_dim, row % head_dim);
    let (half, pair) = (at / (head_dim / 2), at % (head_dim / 2));
    head * head_dim + 2 * pair + half
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn one_row_is_where_the_whole_order_has_it() {
        let (heads, head_dim) = (3, 8);
        let rows = (heads * head_dim) as u32;
        let weight = Tensor::arange(0u32, rows, &Device::Cpu).unwrap();
        let weight = weight.reshape((heads * head_dim, 1)).unwrap();
        let whole = uninterleave(&weight, heads).unwrap();
        let whole: Vec<u32> = whole.flatten_all().unwrap().to_vec1().unwrap();
        let one_by_one = (0..heads * head_dim).map(|row| interleaved_row(row, head_dim) as u32);
        assert_eq!(one_by_one.collect::<Vec<_>>(), whole);
    }
}
