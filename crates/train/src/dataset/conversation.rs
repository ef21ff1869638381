//! Lists of messages, and the prompt in two conversations.

use serde_json::Value;

use super::error::Problem;
use super::fields::{check_bytes, into_text, missing, wrong_type};
use super::pair::PairPrompt;
use attune_text::chat_template::{ChatMessage, ROLES};

/// A list of `{role, content}`. Fields of a message that are neither are told to `other`.
pub(super) fn messages(
    value: Value,
    field: &str,
    other: &mut dyn FnMut(String),
) -> Result<Vec<ChatMessage>, Problem> {
    let Value::Array(list) = value else {
        return Err(wrong_type(field, "a list of messages", &value));
    };
    let messages = list
        .into_iter()
        .enumerate()
        .map(|(i, value)| message(value, &format!("{field}[{i}]"), other))
        .collect::<Result<Vec<_>, _>>()?;
    check_bytes(field, messages.iter().map(|m| m.content.len()).sum())?;
    Ok(messages)
}

fn message(
    value: Value,
    field: &str,
    other: &mut dyn FnMut(String),
) -> Result<ChatMessage, Problem> {
    let Value::Object(mut map) = value else {
        return Err(wrong_type(field, "an object with role and content", &value));
    };
    let mut take = |name: &str| {
        let field = format!("{field}.{name}");
        match map.remove(name) {
            None | Some(Value::Null) => Err(missing(&field)),
            Some(value) => into_text(value, &field),
        }
    };
    let (role, content) = (take("role")?, take("content")?);
    if !ROLES.contains(&role.as_str()) {
        let field = field.to_owned();
        return Err(Problem::Role { field, role });
    }
    // Tables give every message every field that any message has.
    for (name, _) in map.into_iter().filter(|(_, value)| !value.is_null()) {
        other(format!("messages.{name}"));
    }
    Ok(ChatMessage { role, content })
}

/// The text of a list that holds one assistant message.
pub(super) fn one_reply(
    field: &'static str,
    mut messages: Vec<ChatMessage>,
) -> Result<String, Problem> {
    match messages.pop() {
        Some(last) if messages.is_empty() && last.role == "assistant" => Ok(last.content),
        last => {
            messages.extend(last);
            let roles: Vec<&str> = messages.iter().map(|m| m.role.as_str()).collect();
            let found = if roles.is_empty() {
                "nothing".to_owned()
            } else {
                roles.join(", ")
            };
            Err(Problem::NotOneReply { field, found })
        }
    }
}

/// Two whole conversations as the prompt that they share and two replies.
pub(super) fn apart(
    mut chosen: Vec<ChatMessage>,
    mut rejected: Vec<ChatMessage>,
) -> Result<(Vec<ChatMessage>, String, String), Problem> {
    let equal = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b);
    // Equal conversations still end with a reply each.
    let most = chosen.len().min(rejected.len()).saturating_sub(1);
    let shared = equal.count().min(most);
    let chosen_end = chosen.split_off(shared);
    let rejected_end = rejected.split_off(shared);
    let reply = one_reply("chosen", chosen_end)?;
    Ok((chosen, reply, one_reply("rejected", rejected_end)?))
}

/// Whether a prompt that stands beside conversations says what they share: the same messages, or
/// the text of one of the user's.
pub(super) fn agrees(prompt: &PairPrompt, shared: &[ChatMessage]) -> bool {
    match prompt {
        PairPrompt::Messages(messages) => messages == shared,
        PairPrompt::Text(text) => shared
            .iter()
            .any(|m| m.role == "user" && m.content.trim() == text.trim()),
    }
}
