//! Token ids to text, one at a time.

use std::sync::Arc;

use super::tokenizer::Tokenizer;

/// Turns the ids of one answer into pieces of text that join to the whole: no piece ends inside a
/// UTF-8 character, and nothing is decoded twice. The pieces join to [`Tokenizer::decode`] of the
/// ids.
#[derive(Debug)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    skip_special: bool,
    /// The beginning of a character whose end has not come: at most three bytes between calls.
    pending: Vec<u8>,
    /// Whether the next byte is the first of the answer.
    at_start: bool,
}

impl Detokenizer {
    /// For one answer. `skip_special` leaves control tokens out.
    pub fn new(tokenizer: Arc<Tokenizer>, skip_special: bool) -> Self {
        Self {
            tokenizer,
            skip_special,
            pending: Vec::new(),
            at_start: true,
        }
    }

    /// The text that `id` completes; empty while a character is incomplete. Bytes that can no
    /// longer become UTF-8 are U+FFFD.
    pub fn push(&mut self, id: u32) -> String {
        let mut bytes = self.tokenizer.output_bytes(id, self.skip_special);
        if self.at_start && !bytes.is_empty() {
            self.at_start = false;
            if self.tokenizer.strips_leading_space() {
                bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            }
        }
        self.pending.extend_from_slice(bytes);
        let complete = self.pending.len() - incomplete_tail(&self.pending);
        let text = String::from_utf8_lossy(&self.pending[..complete]).into_owned();
        self.pending.drain(..complete);
        text
    }

    /// What is left at the end; bytes that are not UTF-8 become U+FFFD.
    pub fn finish(&mut self) -> String {
        let pending = std::mem::take(&mut self.pending);
        String::from_utf8_lossy(&pending).into_owned()
    }
}

/// How many bytes at the end of `bytes` begin a character that more bytes could complete.
fn incomplete_tail(bytes: &[u8]) -> usize {
    // A chunk that is cut short is always the last one.
    let last = bytes.utf8_chunks().last();
    let invalid = last.map_or(&[][..], |chunk| chunk.invalid());
    match std::str::from_utf8(invalid) {
        Err(error) if error.error_len().is_none() => invalid.len(),
        _ => 0,
    }
}
