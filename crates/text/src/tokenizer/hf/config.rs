//! What the files beside `tokenizer.json` say.

use std::io;
use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer as Encoder;

use super::added::Added;
use crate::tokenizer::special::END_NAMES;
use crate::tokenizer::{Roles, TextError, TokenNames};
use attune_files::{self as regular, Links};

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
    /// Names of tokens that `tokenizer_config.json` says there are none of.
    without: Vec<String>,
    pub tokens: TokenNames,
    /// Added tokens that the files beside `tokenizer.json` name, by id.
    pub added: Vec<Beside>,
    pub chat_template: Option<String>,
}

/// An added token of a file beside `tokenizer.json`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Beside {
    pub id: u32,
    pub name: String,
    pub special: bool,
    /// `lstrip` and the like, as far as the file has them.
    pub flags: Vec<(&'static str, bool)>,
    /// Whether the file is the one that holds where both name a token.
    pub is_declared: bool,
}

impl Config {
    pub(super) fn read(directory: &Path) -> Result<Self, TextError> {
        let file =
            |name: &str| read_json(&directory.join(name)).map(|json| json.unwrap_or(Value::Null));
        let mut tokenizer = file("tokenizer_config.json")?;
        // What older versions of transformers wrote; newer ones read it only where there is nothing newer.
        let mut legacy = Value::Null;
        if tokenizer["added_tokens_decoder"].is_null() {
            legacy = file("added_tokens.json")?;
            fill(&mut tokenizer, file("special_tokens_map.json")?);
        }
        let tokens = token_names(&tokenizer);
        let generation = file("generation_config.json")?;
        let model = file("config.json")?;
        let template = read_text(&directory.join("chat_template.jinja"))?;
        let mut end_ids = ids(&generation["eos_token_id"]);
        end_ids.extend(ids(&model["eos_token_id"]));
        let bos_ids = [&generation, &model].map(|json| ids(&json["bos_token_id"]));
        let without = tokenizer.as_object().into_iter().flatten();
        let without = without.filter(|(_, value)| value.is_null());
        Ok(Self {
            without: without.map(|(name, _)| name.clone()).collect(),
            added: beside(&tokenizer["added_tokens_decoder"], &legacy, &tokens)?,
            tokens,
            bos: token_name(&tokenizer["bos_token"]),
            eos: token_name(&tokenizer["eos_token"]),
            adds_bos: tokenizer["add_bos_token"].as_bool(),
            end_ids,
            bos_id: bos_ids.concat().first().copied(),
            chat_template: template.or_else(|| chat_template(&tokenizer["chat_template"])),
        })
    }

    /// What templates call tokens by. What the files leave open is taken from the ids that begin and end text.
    pub(super) fn token_names(&self, roles: &Roles, encoder: &Encoder) -> TokenNames {
        let mut names = self.tokens.clone();
        for (name, id) in [("bos_token", roles.bos), ("eos_token", roles.eos)] {
            let is_open = names.get(name).is_none() && !self.without.iter().any(|own| own == name);
            let token = id
                .filter(|_| is_open)
                .and_then(|id| encoder.id_to_token(id));
            names.name(name, token.as_deref());
        }
        names
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

/// Adds what `more` has and `config` has not.
fn fill(config: &mut Value, more: Value) {
    if config.is_null() {
        *config = Value::Object(serde_json::Map::new());
    }
    if let (Value::Object(config), Value::Object(more)) = (config, more) {
        for (key, value) in more {
            let own = config.entry(key).or_insert(Value::Null);
            if own.is_null() {
                *own = value;
            }
        }
    }
}

/// Every `..._token` is a name that templates may use. Tokens without a name are `additional_special_tokens`, which
/// transformers 5 calls `extra_special_tokens`; those of a model's own are an object with names.
fn token_names(config: &Value) -> TokenNames {
    let mut names = TokenNames::default();
    let groups = ["model_specific_special_tokens", "extra_special_tokens"].map(|key| &config[key]);
    for (key, value) in [config]
        .into_iter()
        .chain(groups)
        .filter_map(Value::as_object)
        .flatten()
    {
        if key.ends_with("_token") && names.get(key).is_none() {
            names.name(key, token_name(value).as_deref());
        }
    }
    let lists =
        ["additional_special_tokens", "extra_special_tokens"].map(|key| config[key].as_array());
    for name in lists.into_iter().flatten().flatten().filter_map(token_name) {
        if !names.additional.contains(&name) {
            names.additional.push(name);
        }
    }
    names
}

/// The tokens of `added_tokens_decoder`, or of the file that was there before it: `{"<tool>": 32000}`.
fn beside(decoder: &Value, legacy: &Value, names: &TokenNames) -> Result<Vec<Beside>, TextError> {
    let malformed = |file: &str, entry: &str| {
        TextError::Tokenizer(format!(
            "{file}: entry {entry:?} of the added tokens is not an id and a token"
        ))
    };
    let mut added = Vec::new();
    for (id, token) in decoder.as_object().into_iter().flatten() {
        let name = token_name(token);
        let (Ok(id), Some(name)) = (id.parse(), name) else {
            return Err(malformed("tokenizer_config.json", id));
        };
        let flags = ["lstrip", "rstrip", "single_word", "normalized"];
        let flags = flags
            .into_iter()
            .filter_map(|key| Some((key, token[key].as_bool()?)));
        added.push(Beside {
            id,
            name,
            special: token["special"].as_bool().unwrap_or(false),
            flags: flags.collect(),
            is_declared: true,
        });
    }
    for (name, id) in legacy.as_object().into_iter().flatten() {
        let Some(&[id]) = ids(id).first_chunk() else {
            return Err(malformed("added_tokens.json", name));
        };
        let is_named = names.named.iter().any(|(_, token)| token == name);
        added.push(Beside {
            id,
            name: name.clone(),
            special: is_named || names.additional.contains(name),
            flags: Vec::new(),
            is_declared: false,
        });
    }
    added.sort_by_key(|token| token.id);
    Ok(added)
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
    fn every_token_that_a_config_names_is_found() {
        let config = json!({
            "bos_token": null,
            "pad_token": {"content": "[PAD]"},
            "image_token": "<img>",
            "add_bos_token": true,
            "additional_special_tokens": ["<a>", {"content": "<b>"}, "<a>"],
            "extra_special_tokens": {"boi_token": "<boi>", "pad_token": "<other>"},
        });
        let names = token_names(&config);
        let mut named = names.named.clone();
        named.sort();
        let want = [
            ("boi_token", "<boi>"),
            ("image_token", "<img>"),
            ("pad_token", "[PAD]"),
        ];
        assert_eq!(
            named,
            want.map(|(name, token)| (name.to_owned(), token.to_owned()))
        );
        assert_eq!(names.additional, ["<a>", "<b>"]);
        let five = token_names(&json!({"extra_special_tokens": ["<c>"]}));
        assert_eq!(five.additional, ["<c>"]);
    }

    #[test]
    fn the_older_files_count_where_there_is_no_newer_one() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write(
            "special_tokens_map.json",
            r#"{"pad_token": "[PAD]", "eos_token": "</s>"}"#,
        );
        write("added_tokens.json", r#"{"[PAD]": 9, "<think>": 8}"#);
        write("tokenizer_config.json", r#"{"eos_token": "<end>"}"#);
        let config = Config::read(directory.path()).unwrap();
        assert_eq!(config.tokens.get("pad_token"), Some("[PAD]"));
        assert_eq!(config.tokens.get("eos_token"), Some("<end>"));
        let added = config
            .added
            .iter()
            .map(|t| (t.id, t.name.as_str(), t.special));
        assert_eq!(
            added.collect::<Vec<_>>(),
            [(8, "<think>", false), (9, "[PAD]", true)]
        );

        write("tokenizer_config.json", r#"{"added_tokens_decoder": {}}"#);
        let config = Config::read(directory.path()).unwrap();
        assert!(config.added.is_empty() && config.tokens.named.is_empty());
        write(
            "tokenizer_config.json",
            r#"{"added_tokens_decoder": {"x": {"content": "a"}}}"#,
        );
        let error = Config::read(directory.path()).err().unwrap().to_string();
        assert!(
            error.contains("tokenizer_config.json") && error.contains("\"x\""),
            "{error}"
        );
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
        assert_eq!(config.tokens.get("bos_token"), Some("<s>"));

        write("generation_config.json", "{");
        let error = Config::read(directory.path()).err().unwrap().to_string();
        assert!(error.contains("generation_config.json"), "{error}");
    }
}
