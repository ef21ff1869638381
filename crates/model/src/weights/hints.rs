//! What a missing tensor and the names of the others say about a file.

use std::collections::BTreeSet;

use crate::error::ModelError;

/// What a part of a name shows, and what to do.
const SIGNS: [(&[&str], &str); 5] = [
    (
        &[".qweight", ".qzeros", ".scales", ".weight_packed", ".weight_scale", ".absmax", ".quant_state", ".SCB"],
        "its weights are quantized: take the model that this one was made from (16 or 32 bits a number), or a GGUF file of it",
    ),
    (
        &["language_model.", "vision_tower.", "visual.", "multi_modal_projector."],
        "it is a multimodal model: save its text part by itself with transformers, or give a GGUF file of it",
    ),
    (
        &["lora_A", "lora_B", "base_model.model."],
        "it is a model with an adapter: merge it (merge_and_unload), or import the adapter with `attune adapter import`",
    ),
    (
        &["_orig_mod.", "_fsdp_wrapped_module.", "module."],
        "it was saved from a wrapped model: save the model inside with save_pretrained",
    ),
    (
        &[".experts.", ".block_sparse_moe."],
        "it is a mixture of experts, which is not supported",
    ),
];

/// The error for a tensor that is not among the names that are left.
pub(super) fn missing(name: &str, left: &BTreeSet<String>) -> ModelError {
    let sign = SIGNS.iter().find_map(|(parts, what)| {
        let shows = |name: &&String| parts.iter().any(|part| name.contains(part));
        Some((left.iter().find(shows)?, what))
    });
    let body_alone = left.contains("embed_tokens.weight");
    match sign {
        Some((other, what)) => ModelError::Weights(format!(
            "tensor {name} is missing, and {other} is there: {what}"
        )),
        None if body_alone => ModelError::Weights(format!(
            "tensor {name} is missing, and embed_tokens.weight is there: the body was saved without its head; save the model \
             from AutoModelForCausalLM"
        )),
        None if name == "lm_head.weight" => ModelError::Weights(format!(
            "tensor {name} is missing: if the model's head is its embeddings, config.json must say so (tie_word_embeddings)"
        )),
        None => super::missing(name),
    }
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn a_missing_tensor_says_what_the_others_show() {
        const NAME: &str = "model.layers.0.self_attn.q_proj.weight";
        let error = |other: &str| missing(NAME, &[other.to_owned()].into()).to_string();
        for (other, word) in [
            ("model.layers.0.self_attn.q_proj.qweight", "quantized"),
            ("language_model.model.embed_tokens.weight", "multimodal"),
            ("base_model.model.model.embed_tokens.weight", "merge"),
            ("_orig_mod.model.embed_tokens.weight", "wrapped"),
            ("model.layers.0.mlp.experts.0.up_proj.weight", "experts"),
            ("embed_tokens.weight", "head"),
        ] {
            let error = error(other);
            assert!(
                error.contains(word) && error.contains(other) && error.contains(NAME),
                "{error}"
            );
        }
        assert!(error("model.norm.weight").ends_with("is missing"));
        let head = missing("lm_head.weight", &["model.norm.weight".to_owned()].into());
        assert!(head.to_string().contains("tie_word_embeddings"));
    }
}
