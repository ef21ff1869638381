//! The added tokens of a model directory: those of `tokenizer.json`, and those that stand only beside it.

use serde_json::{json, Value};

use super::config::{Beside, Config};
use crate::tokenizer::special::{is_control_name, Special};

/// One added token.
#[derive(Debug)]
pub(super) struct Added {
    pub name: String,
    pub special: Special,
    pub is_special: bool,
}

/// Writes the tokens of the files beside `tokenizer.json` into its `added_tokens`, marks those as control that the
/// file forgot to mark, and returns all. What `added_tokens_decoder` says of a token holds, as in
/// transformers; only its mark as control is never taken away.
pub(super) fn added_tokens(json: &mut Value, config: &Config) -> Result<Vec<Added>, String> {
    let Some(file) = json.as_object_mut() else {
        return Err("it is not an object".to_owned());
    };
    let list = match file.get_mut("added_tokens").map(Value::take) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(_) => return Err("added_tokens is not a list".to_owned()),
    };
    let mut entries: Vec<Value> = list;
    for beside in &config.added {
        let own = entries
            .iter_mut()
            .find(|entry| entry["content"] == beside.name.as_str());
        match own {
            Some(entry) if beside.is_declared => overwrite(entry, beside),
            Some(_) => {}
            None => entries.push(entry(beside)),
        }
    }
    for name in config
        .tokens
        .named
        .iter()
        .map(|(_, name)| name)
        .chain(&config.tokens.additional)
    {
        let is_there = entries
            .iter()
            .any(|entry| entry["content"] == name.as_str());
        let is_new = !is_there && is_bracketed(name);
        let id = vocabulary_id(file.get("model"), name).filter(|_| is_new);
        entries.extend(id.map(|id| json!({"id": id, "content": name, "special": true})));
    }
    // Ids that the vocabulary does not have are given in this order.
    entries.sort_by_key(|entry| entry["id"].as_u64());
    let mut added = Vec::with_capacity(entries.len());
    for entry in &mut entries {
        added.push(marked(entry, config)?);
    }
    file.insert("added_tokens".to_owned(), Value::Array(entries));
    Ok(added)
}

fn overwrite(entry: &mut Value, beside: &Beside) {
    let is_special = flag(entry, "special") || beside.special;
    entry["special"] = Value::Bool(is_special);
    for (key, value) in &beside.flags {
        entry[*key] = Value::Bool(*value);
    }
}

fn entry(beside: &Beside) -> Value {
    let mut entry = json!({"id": beside.id, "content": beside.name, "special": beside.special});
    for (key, value) in &beside.flags {
        entry[*key] = Value::Bool(*value);
    }
    entry
}

/// Completes an entry as the library needs it.
fn marked(entry: &mut Value, config: &Config) -> Result<Added, String> {
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
    let normalized = entry.get("normalized").and_then(Value::as_bool);
    entry["normalized"] = Value::Bool(normalized.unwrap_or(!is_special));
    for key in ["lstrip", "rstrip", "single_word"] {
        entry[key] = Value::Bool(flag(entry, key));
    }
    entry["special"] = Value::Bool(is_special);
    Ok(Added {
        name,
        special,
        is_special,
    })
}

fn flag(entry: &Value, key: &str) -> bool {
    entry.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// Whether a token looks like no text: some files name a `!` for padding, which text must keep.
fn is_bracketed(name: &str) -> bool {
    let is_sign = |c: char| !c.is_alphanumeric() && !c.is_whitespace();
    name.chars().count() > 2 && name.starts_with(is_sign) && name.ends_with(is_sign)
}

/// The id that the model's own vocabulary gives a token: an object of ids, or a list in the order of ids.
fn vocabulary_id(model: Option<&Value>, name: &str) -> Option<u64> {
    let vocabulary = model?.get("vocab")?;
    match vocabulary {
        Value::Object(ids) => ids.get(name)?.as_u64(),
        Value::Array(pieces) => {
            let at = pieces.iter().position(|piece| piece[0] == name)?;
            u64::try_from(at).ok()
        }
        _ => None,
    }
}
