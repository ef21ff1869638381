//! The tokenizer of a Hugging Face model directory.

mod config;
mod decoding;

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer as Encoder;

use super::pieces::{Piece, Pieces};
use super::plain::PlainEncoder;
use super::special::{is_control_name, Special, SpecialStrings};
use super::{TextError, Tokenizer};
use config::Config;
use decoding::Decoding;

/// See [`Tokenizer::from_directory`].
pub(super) fn load(directory: &Path) -> Result<Tokenizer, TextError> {
    let path = directory.join("tokenizer.json");
    let mut json = config::read_json(&path)?.ok_or_else(|| {
        TextError::Tokenizer(format!(
            "{} does not exist; the model directory needs it",
            path.display()
        ))
    })?;
    let config = Config::read(directory)?;
    let malformed = |why: String| TextError::Tokenizer(format!("{}: {why}", path.display()));

    let added = added_tokens(&mut json, &config).map_err(malformed)?;
    let decoding = Decoding::parse(json.get("decoder").unwrap_or(&Value::Null));
    let decoding = decoding.map_err(malformed)?;
    let unknown = json.get("model").and_then(unknown_token);
    let encoder: Encoder = serde_json::from_value(json).map_err(|e| malformed(e.to_string()))?;
    for token in &added {
        let id = encoder.token_to_id(&token.name);
        if id != Some(token.special.id) {
            let (name, want) = (&token.name, token.special.id);
            return Err(malformed(format!(
                "added token {name:?} has id {want}, but the vocabulary gives it {id:?}"
            )));
        }
    }

    let roles = config.roles(&encoder, &added);
    let pieces = pieces(&encoder, &added, &decoding);
    let specials = added
        .iter()
        .filter(|token| token.is_special)
        .map(|token| (token.name.clone(), token.special));
    let unknown = unknown.and_then(|unknown| unknown.id(&encoder));
    Tokenizer::assemble(
        PlainEncoder::new(encoder, unknown)?,
        SpecialStrings::new(specials),
        pieces,
        roles,
        config.chat_template,
    )
}

/// One entry of `added_tokens`.
struct Added {
    name: String,
    special: Special,
    is_special: bool,
}

/// Reads the added tokens, and marks those as control that the file forgot to mark.
fn added_tokens(json: &mut Value, config: &Config) -> Result<Vec<Added>, String> {
    let Some(list) = json.get_mut("added_tokens").and_then(Value::as_array_mut) else {
        return Ok(Vec::new());
    };
    let mut added = Vec::with_capacity(list.len());
    for entry in list {
        let name = entry["content"].as_str().map(str::to_owned);
        let id = entry["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        let (Some(name), Some(id)) = (name, id) else {
            return Err(format!("added token {entry} lacks its id or content"));
        };
        let is_role = config.is_role(&name);
        let is_marked = flag(entry, "special") || is_role || is_control_name(&name);
        let is_special = is_marked && !name.trim().is_empty();
        let special = Special {
            id,
            strip_left: flag(entry, "lstrip"),
            strip_right: flag(entry, "rstrip"),
        };
        entry["special"] = Value::Bool(is_special);
        added.push(Added {
            name,
            special,
            is_special,
        });
    }
    Ok(added)
}

fn flag(entry: &Value, key: &str) -> bool {
    entry.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// How a model writes what it does not know.
enum Unknown {
    Token(String),
    Id(u32),
}

impl Unknown {
    fn id(&self, encoder: &Encoder) -> Option<u32> {
        match self {
            Self::Token(name) => encoder.token_to_id(name),
            Self::Id(id) => Some(*id),
        }
    }
}

fn unknown_token(model: &Value) -> Option<Unknown> {
    let name = model.get("unk_token").and_then(Value::as_str);
    let id = model.get("unk_id").and_then(Value::as_u64);
    name.map(|name| Unknown::Token(name.to_owned()))
        .or_else(|| u32::try_from(id?).ok().map(Unknown::Id))
}

/// Control tokens stand for their names, all others for what the decoder makes of them.
fn pieces(encoder: &Encoder, added: &[Added], decoding: &Decoding) -> Pieces {
    let control: HashMap<u32, &str> = added
        .iter()
        .filter(|token| token.is_special)
        .map(|token| (token.special.id, token.name.as_str()))
        .collect();
    let pieces = encoder
        .get_vocab(true)
        .into_iter()
        .map(|(token, id)| match control.get(&id) {
            Some(name) => Piece {
                id,
                bytes: name.as_bytes().to_vec(),
                is_special: true,
            },
            None => Piece {
                id,
                bytes: decoding.spelling.bytes(&token),
                is_special: false,
            },
        });
    Pieces::new(pieces, decoding.strips_leading_space)
}
