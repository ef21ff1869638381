//! What is known about a person in words, as it stands in a prompt (P-RLHF, arXiv 2402.05133: the
//! explicit user model is the model's own embedding of the text). Serving and training write it alike.

use super::chat_template::ChatMessage;

/// What stands before it.
pub const USER_INFO: &str = "User textual information: ";

/// `info` in front of a text.
pub fn before(info: &str, text: &str) -> String {
    format!("{USER_INFO}{info}\n{text}")
}

/// `info` in front of the person's first message, or as a message of its own where they have none.
pub fn put_into(messages: &mut Vec<ChatMessage>, info: &str) {
    match messages.iter_mut().find(|message| message.role == "user") {
        Some(first) => first.content = before(info, &first.content),
        None => messages.push(ChatMessage {
            role: "user".to_owned(),
            content: before(info, ""),
        }),
    }
}
