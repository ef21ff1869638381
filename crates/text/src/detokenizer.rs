//! Token ids to text, one at a time.

use std::sync::Arc;

use super::tokenizer::Tokenizer;

/// Turns the ids of one answer into pieces of text that join to the whole: no piece ends inside a
/// UTF-8 character, and nothing is decoded twice. The pieces join to [`Tokenizer::decode`] of the
/// ids. An answer that goes on after a text is told by a clone of what read that text: its first piece ends the
/// character that the text began.
#[derive(Debug, Clone)]
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
        self.push_all(&[id])
    }

    /// The text that several complete.
    pub fn push_all(&mut self, ids: &[u32]) -> String {
        for &id in ids {
            self.add(id);
        }
        let complete = self.pending.len() - incomplete_tail(&self.pending);
        let text = String::from_utf8_lossy(&self.pending[..complete]).into_owned();
        self.pending.drain(..complete);
        self.pending.shrink_to(8);
        text
    }

    fn add(&mut self, id: u32) {
        let mut bytes = self.tokenizer.output_bytes(id, self.skip_special);
        if self.at_start && !bytes.is_empty() {
            self.at_start = false;
            if self.tokenizer.strips_leading_space() {
                bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            }
        }
        self.pending.extend_from_slice(bytes);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokenizer::GgufVocabulary;

    /// SentencePiece: control tokens 0 to 2, byte `b` at 3 + b, then words.
    fn tokenizer(add_space_prefix: bool) -> Arc<Tokenizer> {
        let names = ["<unk>", "<s>", "</s>"].map(str::to_owned);
        let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
        let words = ["\u{2581}", "\u{2581}a", "b", "\u{e9}\u{2581}"].map(str::to_owned);
        let tokens: Vec<String> = names.into_iter().chain(bytes).chain(words).collect();
        let types = [2, 3, 3].into_iter().chain([6; 256]).chain([1; 4]);
        let vocabulary = GgufVocabulary {
            model: "llama".to_owned(),
            token_types: types.collect(),
            scores: vec![0.0; tokens.len()],
            tokens,
            eos: Some(2),
            add_space_prefix: Some(add_space_prefix),
            ..GgufVocabulary::default()
        };
        Arc::new(Tokenizer::from_gguf(&vocabulary).unwrap())
    }

    fn pieces(detokenizer: &mut Detokenizer, ids: &[u32]) -> Vec<String> {
        let mut pieces: Vec<String> = ids.iter().map(|&id| detokenizer.push(id)).collect();
        pieces.push(detokenizer.finish());
        pieces
    }

    #[test]
    fn a_character_comes_with_its_last_byte() {
        let mut detokenizer = Detokenizer::new(tokenizer(false), true);
        let euro = [0xe2, 0x82, 0xac].map(|byte| byte + 3);
        assert_eq!(pieces(&mut detokenizer, &euro), ["", "", "\u{20ac}", ""]);
        // Cut short by a word, by a byte that begins another character, and by the end.
        let ids = [
            0xe2 + 3,
            261,
            0xe2 + 3,
            0xc3 + 3,
            0xa9 + 3,
            0xf0 + 3,
            0x9f + 3,
        ];
        let want = [
            "",
            "\u{fffd}b",
            "",
            "\u{fffd}",
            "\u{e9}",
            "",
            "",
            "\u{fffd}",
        ];
        assert_eq!(pieces(&mut detokenizer, &ids), want);
    }

    /// A prompt of ids that ends inside a character, and an answer to it.
    #[test]
    fn an_answer_ends_the_character_that_its_prompt_began() {
        let mut prompt = Detokenizer::new(tokenizer(true), true);
        let [first, second, third] = [0xe2, 0x82, 0xac].map(|byte| byte + 3);
        assert_eq!(prompt.push_all(&[1, 260, first, second]), "a");
        let mut answer = prompt.clone();
        assert_eq!(pieces(&mut answer, &[third, 260]), ["\u{20ac}", " a", ""]);
        assert_eq!(pieces(&mut prompt, &[261]), ["\u{fffd}b", ""]);
    }

    #[test]
    fn the_first_space_is_dropped_where_encoding_puts_one() {
        let ids = [1, 260, 260];
        let mut skipping = Detokenizer::new(tokenizer(true), true);
        assert_eq!(pieces(&mut skipping, &ids), ["", "a", " a", ""]);
        let mut showing = Detokenizer::new(tokenizer(true), false);
        assert_eq!(pieces(&mut showing, &ids), ["<s>", " a", " a", ""]);
        let mut keeping = Detokenizer::new(tokenizer(false), true);
        assert_eq!(pieces(&mut keeping, &ids), ["", " a", " a", ""]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn pieces_join_to_the_whole(
            ids in prop::collection::vec(prop_oneof![0u32..270, 0xb0u32..270, 255u32..264], 0..20),
            add_space_prefix: bool,
            skip_special: bool,
        ) {
            let tokenizer = tokenizer(add_space_prefix);
            let mut detokenizer = Detokenizer::new(tokenizer.clone(), skip_special);
            let text = pieces(&mut detokenizer, &ids).concat();
            prop_assert_eq!(&text, &tokenizer.decode(&ids, skip_special));
            prop_assert!(detokenizer.pending.capacity() < 64);
            let (prompt, answer) = ids.split_at(ids.len() / 2);
            let mut detokenizer = Detokenizer::new(tokenizer, skip_special);
            let echo = detokenizer.push_all(prompt);
            prop_assert_eq!(echo + &pieces(&mut detokenizer, answer).concat(), text);
        }
    }
}
