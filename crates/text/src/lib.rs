//! The only place that holds strings and token ids at once.
//!
//! | file | subject |
//! |---|---|
//! | [`tokenizer`] | text to ids and back, from `tokenizer.json` or GGUF metadata |
//! | [`prompt`] | messages, a text or ids to the prompt that the model reads |
//! | [`chat_template`] | messages to a prompt, without letting content forge control tokens |
//! | [`detokenizer`] | ids to text one at a time, never half a character |
//! | [`stop`] | stop strings that hold back partial matches |

pub mod chat_template;
pub mod detokenizer;
pub mod prompt;
pub mod stop;
pub mod tokenizer;
