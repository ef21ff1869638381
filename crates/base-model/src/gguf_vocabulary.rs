//! The tokenizer part of a GGUF file's metadata, for `text`, which knows no tensor library.

use candle_core::quantized::gguf_file::Value;

use attune_model::error::ModelError;
use attune_model::weights::gguf::GgufFile;
use attune_text::tokenizer::GgufVocabulary;

/// Reads `tokenizer.*`.
///
/// # Errors
/// A key that is missing or ill-typed, by name.
pub fn gguf_vocabulary(file: &GgufFile) -> Result<GgufVocabulary, ModelError> {
    let keys = Keys(file);
    Ok(GgufVocabulary {
        model: keys
            .string("ggml.model")?
            .ok_or_else(|| keys.bad("ggml.model", "is missing"))?,
        pre: keys.string("ggml.pre")?,
        tokens: keys.list("ggml.tokens", string)?,
        token_types: keys.list("ggml.token_type", number)?,
        scores: keys.list("ggml.scores", |v| v.to_f32().ok())?,
        merges: keys.list("ggml.merges", string)?,
        bos: keys.one("ggml.bos_token_id", number)?,
        eos: keys.one("ggml.eos_token_id", number)?,
        eot: keys.one("ggml.eot_token_id", number)?,
        unknown: keys.one("ggml.unknown_token_id", number)?,
        padding: keys.one("ggml.padding_token_id", number)?,
        separator: keys.one("ggml.seperator_token_id", number)?,
        mask: keys.one("ggml.mask_token_id", number)?,
        add_bos: keys.one("ggml.add_bos_token", |v| v.to_bool().ok())?,
        add_space_prefix: keys.one("ggml.add_space_prefix", |v| v.to_bool().ok())?,
        chat_template: keys.string("chat_template")?,
    })
}

struct Keys<'a>(&'a GgufFile);

impl Keys<'_> {
    fn value(&self, key: &str) -> Option<&Value> {
        self.0.metadata(&format!("tokenizer.{key}"))
    }

    fn bad(&self, key: &str, what: &str) -> ModelError {
        ModelError::Config(format!("GGUF key tokenizer.{key} {what}"))
    }

    fn one<T>(
        &self,
        key: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let read = |v| read(v).ok_or_else(|| self.bad(key, "has an unexpected type"));
        self.value(key).map(read).transpose()
    }

    fn string(&self, key: &str) -> Result<Option<String>, ModelError> {
        self.one(key, string)
    }

    fn list<T>(&self, key: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, ModelError> {
        let list = |v: &Value| {
            v.to_vec()
                .ok()?
                .iter()
                .map(&read)
                .collect::<Option<Vec<T>>>()
        };
        Ok(self.one(key, list)?.unwrap_or_default())
    }
}

fn string(value: &Value) -> Option<String> {
    value.to_string().ok().cloned()
}

fn number(value: &Value) -> Option<u32> {
    match value {
        Value::I32(v) => u32::try_from(*v).ok(),
        other => other.to_u32().ok(),
    }
}
