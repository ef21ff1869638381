//! The metadata keys of an architecture, each taken once.

use std::collections::{BTreeSet, HashMap};

use candle_core::quantized::gguf_file::Value;

/// `llama.block_count` and its like.
#[derive(Debug)]
pub(super) struct Keys<'a> {
    metadata: &'a HashMap<String, Value>,
    architecture: &'a str,
    left: BTreeSet<&'a str>,
    /// Keys that llama.cpp does not read in this architecture.
    unread: Vec<String>,
}

/// What no computation depends on.
const HARMLESS: [&str; 6] = [
    "decoder_start_token_id",
    "pooling_type",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "tensor_data_layout",
    // The embeddings have a shape.
    "vocab_size",
];

/// Numbers that multiply something.
const FACTORS: [&str; 5] = [
    "embedding_scale",
    "logit_scale",
    "residual_scale",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_attn_factor",
];

impl<'a> Keys<'a> {
    pub fn new(metadata: &'a HashMap<String, Value>, architecture: &'a str) -> Self {
        let rest = |key: &'a String| key.strip_prefix(architecture)?.strip_prefix('.');
        Self {
            metadata,
            architecture,
            left: metadata.keys().filter_map(rest).collect(),
            unread: Vec::new(),
        }
    }

    /// The whole name of a key.
    pub fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// A count; a list of equal counts is one.
    pub fn count(&mut self, key: &str) -> Result<Option<usize>, String> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let one = match value {
            Value::Array(list) => self.same_for_all(key, list)?,
            one => one,
        };
        let count = integer(one).and_then(|n| usize::try_from(n).ok());
        count
            .map(Some)
            .ok_or_else(|| self.ill_typed(key, "a count"))
    }

    /// A number, of whatever type.
    pub fn number(&mut self, key: &str) -> Result<Option<f64>, String> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        number(value)
            .map(Some)
            .ok_or_else(|| self.ill_typed(key, "a number"))
    }

    pub fn text(&mut self, key: &str) -> Result<Option<&'a str>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.ill_typed(key, "a string")),
        }
    }

    /// The value of a key, whatever its type.
    pub fn take(&mut self, key: &str) -> Option<&'a Value> {
        self.left.remove(key);
        self.metadata.get(&self.name(key))
    }

    /// Drops a key that llama.cpp does not read in this architecture.
    pub fn unread(&mut self, key: &str) {
        if self
            .take(key)
            .is_some_and(|value| !asks_nothing(key, value))
        {
            self.unread.push(self.name(key));
        }
    }

    /// Refuses what is left and asks for something. Returned is what llama.cpp does not read, for the log.
    pub fn finish(self) -> Result<Vec<String>, String> {
        let is_ollamas = |key: &&&str| {
            ["rope.local.", "rope.global."]
                .iter()
                .any(|p| key.starts_with(p))
        };
        if let Some(key) = self.left.iter().find(is_ollamas) {
            return Err(format!(
                "GGUF key {} shows that Ollama wrote the file in a layout of its own: take a file that llama.cpp's \
                 converter made",
                self.name(key)
            ));
        }
        for key in &self.left {
            if key.starts_with("mm.") || key.starts_with("vision.") {
                return Err(format!(
                    "GGUF key {} shows that the file reads images, too, which is not supported: take a file of the text model alone",
                    self.name(key)
                ));
            }
            let value = &self.metadata[&self.name(key)];
            if !HARMLESS.contains(key) && !asks_nothing(key, value) {
                return Err(format!(
                    "GGUF key {} = {} is not supported: the model would compute something else without it",
                    self.name(key),
                    short(value)
                ));
            }
        }
        Ok(self.unread)
    }

    fn same_for_all(&self, key: &str, list: &'a [Value]) -> Result<&'a Value, String> {
        let first = list.first().ok_or_else(|| self.ill_typed(key, "a count"))?;
        if list.iter().any(|value| integer(value) != integer(first)) {
            return Err(format!(
                "GGUF key {} has one value per block, and models whose blocks differ (pruned ones, mostly) are not supported: take one whose blocks are alike",
                self.name(key)
            ));
        }
        Ok(first)
    }

    fn ill_typed(&self, key: &str, kind: &str) -> String {
        format!("GGUF key {} is not {kind}", self.name(key))
    }
}

/// A whole number from 0 on.
pub(super) fn integer(value: &Value) -> Option<u64> {
    match value {
        Value::I8(v) => u64::try_from(*v).ok(),
        Value::I16(v) => u64::try_from(*v).ok(),
        Value::I32(v) => u64::try_from(*v).ok(),
        Value::I64(v) => u64::try_from(*v).ok(),
        Value::Bool(_) => None,
        other => other.to_u64().ok(),
    }
}

/// A number of whatever type.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::F32(v) => Some(f64::from(*v)),
        Value::F64(v) => Some(*v),
        Value::I8(_) | Value::I16(_) | Value::I32(_) => value_of_signed(value),
        other => integer(other).map(|v| v as f64),
    }
}

fn value_of_signed(value: &Value) -> Option<f64> {
    match value {
        Value::I8(v) => Some(f64::from(*v)),
        Value::I16(v) => Some(f64::from(*v)),
        Value::I32(v) => Some(f64::from(*v)),
        _ => None,
    }
}

/// Whether a value is what a model without this key has.
fn asks_nothing(key: &str, value: &Value) -> bool {
    match value {
        Value::Bool(on) => *on == (key == "attention.causal"),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.iter().all(|value| asks_nothing(key, value)),
        value => match number(value) {
            Some(1.0) => FACTORS.contains(&key),
            Some(zero) => zero == 0.0,
            None => false,
        },
    }
}

fn short(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Bool(on) => on.to_string(),
        value => number(value).map_or_else(|| format!("{value:?}"), |n| n.to_string()),
    }
}
