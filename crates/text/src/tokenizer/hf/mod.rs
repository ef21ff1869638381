//! The tokenizer of a Hugging Face model directory.

mod added;
mod config;
mod decoding;

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer as Encoder;

use super::pieces::{Piece, Pieces};
use super::plain::PlainEncoder;
use super::special::SpecialStrings;
use super::{Chat, TextError, Tokenizer};
use added::{added_tokens, Added};
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
            let given = id.map_or("none".to_owned(), |id| id.to_string());
            return Err(malformed(format!(
                "added token {name:?} has id {want} there or in tokenizer_config.json, but the vocabulary gives it \
                 {given}; the two files must be of the same model"
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
    let chat = Chat {
        tokens: config.token_names(&roles, &encoder),
        template: config.chat_template,
    };
    Tokenizer::assemble(
        PlainEncoder::new(encoder, unknown)?,
        SpecialStrings::new(specials),
        pieces,
        roles,
        chat,
    )
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
