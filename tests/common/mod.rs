//! What several test programs share: where the reference data and the real model are.

#![allow(dead_code, reason = "no test program uses all of it")]

use std::fs::File;
use std::path::{Path, PathBuf};

use attune::text::tokenizer::GgufVocabulary;
use candle_core::quantized::gguf_file::{Content, Value};

/// The folder of reference data: `ORACLES_DIR`, or the copy in this repository.
pub fn oracles() -> PathBuf {
    std::env::var_os("ORACLES_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/oracles"),
        PathBuf::from,
    )
}

/// The JSON file `name` of the reference data.
pub fn oracle(name: &str) -> serde_json::Value {
    let path = oracles().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The real model, SmolLM2-135M-Instruct.Q4_1.gguf: named by `ATTUNE_TEST_GGUF`.
pub fn smollm2_gguf() -> PathBuf {
    std::env::var_os("ATTUNE_TEST_GGUF")
        .map(PathBuf::from)
        .expect("set ATTUNE_TEST_GGUF to the path of SmolLM2-135M-Instruct.Q4_1.gguf")
}

/// The tokenizer part of a GGUF file's metadata.
pub fn gguf_vocabulary(path: &Path) -> GgufVocabulary {
    let mut file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let content = Content::read(&mut file).unwrap();
    let get = |key: &str| content.metadata.get(&format!("tokenizer.{key}"));
    let list = |key: &str| -> &[Value] { get(key).map_or(&[], |v| v.to_vec().unwrap()) };
    let strings = |key: &str| -> Vec<String> {
        let strings = list(key).iter().map(|v| v.to_string().unwrap().clone());
        strings.collect()
    };
    let id = |key: &str| get(key).map(|v| v.to_u32().unwrap());
    let flag = |key: &str| get(key).map(|v| v.to_bool().unwrap());
    let string = |key: &str| get(key).map(|v| v.to_string().unwrap().clone());
    let types = list("ggml.token_type").iter().map(|v| {
        let number = v.to_i32().unwrap();
        u32::try_from(number).unwrap()
    });
    GgufVocabulary {
        model: string("ggml.model").unwrap(),
        pre: string("ggml.pre"),
        tokens: strings("ggml.tokens"),
        token_types: types.collect(),
        scores: list("ggml.scores")
            .iter()
            .map(|v| v.to_f32().unwrap())
            .collect(),
        merges: strings("ggml.merges"),
        bos: id("ggml.bos_token_id"),
        eos: id("ggml.eos_token_id"),
        eot: id("ggml.eot_token_id"),
        unknown: id("ggml.unknown_token_id"),
        padding: id("ggml.padding_token_id"),
        add_bos: flag("ggml.add_bos_token"),
        add_space_prefix: flag("ggml.add_space_prefix"),
        chat_template: string("chat_template"),
    }
}
