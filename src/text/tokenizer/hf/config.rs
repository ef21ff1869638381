//! What the files beside `tokenizer.json` say.

use std::io;
use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer as Encoder;

use super::Added;
use crate::regular::{self, Links};
use crate::text::tokenizer::special::END_NAMES;
use crate::text::tokenizer::{Roles, TextError};

/// Bytes of a JSON file that are read; the largest vocabularies have some ten megabytes.
const MAX_JSON_BYTES: u64 = 256 << 20;

/// Special ids and the chat template.
pub(super) struct Config {
    bos: Option<String>,
    eos: Option<String>,
    adds_bos: Option<bool>,
    /// `eos_token_id` of `generation_config.json`, then of `config.json`.
    end_ids: Vec<u32>,
    bos_id: Option<u32>,
    pub chat_template: Option<String>,
}

impl Config {
    pub(super) fn read(directory: &Path) -> Result<Self, TextError> {
        let file =
            |name: &str| read_json(&directory.join(name)).map(|json| json.unwrap_or(Value::Null));
        let tokenizer = file("tokenizer_config.json")?;
        let generation = file("generation_config.json")?;
        let model = file("config.json")?;
        let template = read_text(&directory.join("chat_template.jinja"))?;
        let mut end_ids = ids(&generation["eos_token_id"]);
        end_ids.extend(ids(&model["eos_token_id"]));
        let bos_ids = [&generation, &model].map(|json| ids(&json["bos_token_id"]));
        Ok(Self {
            bos: token_name(&tokenizer["bos_token"]),
            eos: token_name(&tokenizer["eos_token"]),
            adds_bos: tokenizer["add_bos_token"].as_bool(),
            end_ids,
            bos_id: bos_ids.concat().first().copied(),
            chat_template: template.or_else(|| chat_template(&tokenizer["chat_template"])),
        })
    }

    /// Whether `name` begins or ends text.
    pub(super) fn is_role(&self, name: &str) -> bool {
        self.bos.as_deref() == Some(name) || self.eos.as_deref() == Some(name)
    }

    pub(super) fn roles(&self, encoder: &Encoder, added: &[Added]) -> Roles {
        let id = |name: &Option<String>| encoder.token_to_id(name.as_deref()?);
        let exists = |id: &u32| encoder.id_to_token(*id).is_some();
        let bos = id(&self.bos).or(self.bos_id.filter(exists));
        let well_known = END_NAMES.iter().filter_map(|name| {
            let token = added.iter().find(|token| token.name == *name)?;
            Some(token.special.id)
        });
        let mut ends = Vec::new();
        let named = id(&self.eos).into_iter();
        for end in named.chain(self.end_ids.iter().copied()).chain(well_known) {
            if exists(&end) && !ends.contains(&end) {
                ends.push(end);
            }
        }
        let adds_bos = self.adds_bos.unwrap_or_else(|| begins_with(encoder, bos));
        Roles {
            bos,
            adds_bos: adds_bos && bos.is_some(),
            eos: ends.first().copied(),
            ends,
        }
    }
}

/// Whether the post-processor puts `bos` before a text.
fn begins_with(encoder: &Encoder, bos: Option<u32>) -> bool {
    let encoding = encoder.encode("", true);
    encoding.is_ok_and(|encoding| bos.is_some() && encoding.get_ids().first().copied() == bos)
}

/// A number or a list of numbers.
fn ids(value: &Value) -> Vec<u32> {
    let id = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(list) => list.iter().filter_map(id).collect(),
        _ => id(value).into_iter().collect(),
    }
}

/// A token is written as its name, or as an object that has it as `content`.
fn token_name(value: &Value) -> Option<String> {
    let name = value.as_str().or_else(|| value["content"].as_str());
    name.map(str::to_owned)
}

/// A template is written as itself, or as a list of named ones of which `default` is for chat.
fn chat_template(value: &Value) -> Option<String> {
    let template = match value {
        Value::Array(list) => {
            let default = list.iter().find(|entry| entry["name"] == "default");
            default.and_then(|entry| entry["template"].as_str())
        }
        _ => value.as_str(),
    };
    template.map(str::to_owned)
}

/// The file's JSON; `None` where there is no such file.
pub(super) fn read_json(path: &Path) -> Result<Option<Value>, TextError> {
    let Some(text) = read_text(path)? else {
        return Ok(None);
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| TextError::Tokenizer(format!("{} is not valid JSON: {e}", path.display())))
}

fn read_text(path: &Path) -> Result<Option<String>, TextError> {
    let read = regular::read(path, MAX_JSON_BYTES, Links::Follow)
        .and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
    match read {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(TextError::Tokenizer(format!(
            "{} cannot be read: {e}",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_a_number_or_a_list() {
        assert_eq!(ids(&json!(2)), [2]);
        assert_eq!(ids(&json!([128001, 128009])), [128001, 128009]);
        assert!(ids(&json!(-1)).is_empty() && ids(&Value::Null).is_empty());
    }

    #[test]
    fn names_are_strings_or_objects() {
        assert_eq!(token_name(&json!("<s>")).as_deref(), Some("<s>"));
        assert_eq!(
            token_name(&json!({"content": "<s>"})).as_deref(),
            Some("<s>")
        );
        assert_eq!(token_name(&Value::Null), None);
    }

    #[test]
    fn the_default_template_of_a_list_is_the_one_for_chat() {
        let list = json!([{"name": "rag", "template": "R"}, {"name": "default", "template": "D"}]);
        assert_eq!(chat_template(&list).as_deref(), Some("D"));
        assert_eq!(chat_template(&json!("T")).as_deref(), Some("T"));
        assert_eq!(
            chat_template(&json!([{"name": "rag", "template": "R"}])),
            None
        );
    }

    #[test]
    fn a_template_file_wins_and_broken_files_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write(
            "tokenizer_config.json",
            r#"{"chat_template": "old", "bos_token": {"content": "<s>"}}"#,
        );
        write("chat_template.jinja", "new");
        write("generation_config.json", r#"{"eos_token_id": [7, 9]}"#);
        write("config.json", r#"{"eos_token_id": 2}"#);
        let config = Config::read(directory.path()).unwrap();
        assert_eq!(config.chat_template.as_deref(), Some("new"));
        assert_eq!(config.end_ids, [7, 9, 2]);
        assert!(config.is_role("<s>") && !config.is_role("</s>"));

        write("generation_config.json", "{");
        let error = Config::read(directory.path()).err().unwrap().to_string();
        assert!(error.contains("generation_config.json"), "{error}");
    }
}
