//! Token ids to text, one at a time.

use std::sync::Arc;

use super::tokenizer::Tokenizer;

/// Turns the ids of one answer into pieces of text that join to the whole: no piece ends inside a
/// UTF-8 character, and nothing is decoded twice.
#[derive(Debug)]
pub struct Detokenizer {}

impl Detokenizer {
    /// For one answer. `skip_special` leaves control tokens out.
    pub fn new(_tokenizer: Arc<Tokenizer>, _skip_special: bool) -> Self {
        unimplemented!()
    }

    /// The text that `id` completes; empty while a character is incomplete.
    pub fn push(&mut self, _id: u32) -> String {
        unimplemented!()
    }

    /// What is left at the end; bytes that are not UTF-8 become U+FFFD.
    pub fn finish(&mut self) -> String {
        unimplemented!()
    }
}
