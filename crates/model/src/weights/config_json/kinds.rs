//! Models of kinds that are not read: what they are, and what to do.

use serde_json::{Map, Value};

/// Refuses models with more than text in them and models whose weights are packed integers.
pub(super) fn check(config: &Map<String, Value>, model_type: &str) -> Result<(), String> {
    multimodal(config, model_type)?;
    quantized(config)?;
    other_head(config)
}

fn is_set<'a>(config: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let nothing = |v: &Value| v.is_null() || v.as_object().is_some_and(Map::is_empty);
    config.get(key).filter(|v| !nothing(v))
}

/// Gemma 3 from 4B on, LLaVA, Qwen-VL and their like: a text model is a part of them.
fn multimodal(config: &Map<String, Value>, model_type: &str) -> Result<(), String> {
    const PARTS: [&str; 5] = [
        "text_config",
        "vision_config",
        "audio_config",
        "vision_tower",
        "mm_vision_tower",
    ];
    let part = PARTS
        .into_iter()
        .find(|part| is_set(config, part).is_some());
    let is_gemma = model_type == "gemma3";
    let Some(part) = part.or(is_gemma.then_some("text_config")) else {
        return Ok(());
    };
    let of_gemma = match is_gemma {
        true => " (Gemma3ForCausalLM reads it alone; its model_type is then gemma3_text)",
        false => "",
    };
    Err(format!(
        "model_type {model_type:?} is a multimodal model ({part} is set), and only text models are read: \
         save its text part by itself with transformers{of_gemma}, or give a GGUF file of it, which has the text part alone"
    ))
}

/// GPTQ, AWQ, bitsandbytes, FP8, MXFP4, MLX.
fn quantized(config: &Map<String, Value>) -> Result<(), String> {
    const KEYS: [&str; 3] = ["quantization_config", "compression_config", "quantization"];
    let found = KEYS
        .into_iter()
        .find_map(|key| Some((key, is_set(config, key)?)));
    let Some((key, how)) = found else {
        return Ok(());
    };
    let bitsandbytes = |how: &Value| {
        let on = |name: &str| how.get(name) == Some(&Value::Bool(true));
        (on("load_in_4bit") || on("load_in_8bit")).then_some("bitsandbytes")
    };
    let method = how
        .get("quant_method")
        .and_then(Value::as_str)
        .or_else(|| bitsandbytes(how))
        .or((key == "quantization").then_some("mlx"))
        .unwrap_or("a method that it does not name");
    let bits = how.get("bits").or_else(|| how.get("w_bit"));
    let bits = bits
        .and_then(Value::as_u64)
        .map_or(String::new(), |bits| format!(", {bits} bits"));
    Err(format!(
        "{key} says that the weights are quantized ({method}{bits}), which is not read: take the model that it was made \
         from (16 or 32 bits a number), or a GGUF file of it, and quantize with --quant"
    ))
}

/// A classifier, a reward model or an embedding model on the body of a family: it has no logits of tokens.
fn other_head(config: &Map<String, Value>) -> Result<(), String> {
    let names = config.get("architectures").and_then(Value::as_array);
    let names: Vec<&str> = names
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let speaks = |name: &&str| {
        let name = name.to_ascii_lowercase();
        name.ends_with("forcausallm") || name.ends_with("forconditionalgeneration")
    };
    match names.as_slice() {
        [first, ..] if !names.iter().any(speaks) => Err(format!(
            "architectures names {first}, which is no language model (...ForCausalLM): it has no probabilities of tokens to answer with"
        )),
        _ => Ok(()),
    }
}
