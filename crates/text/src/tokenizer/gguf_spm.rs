//! GGUF model `llama`: SentencePiece with byte fallback (Llama 2, Mistral v1, Gemma).
//!
//! SentencePiece joins the two neighbours whose union has the best score, over and over. BPE does
//! the same when its merges are all the ways to cut each token in two, in the order of the scores.

use std::collections::HashMap;

use tokenizers::models::bpe::{Merges, Vocab, BPE};
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence};
use tokenizers::Tokenizer as Encoder;

use super::gguf::{Built, GgufVocabulary, Kind, Token};
use super::pieces::{Piece, Spelling};
use super::TextError;

/// How SentencePiece writes a space.
const SPACE: &str = "\u{2581}";

/// See [`super::gguf::load`].
pub(super) fn build(vocabulary: &GgufVocabulary, tokens: &[Token<'_>]) -> Result<Built, TextError> {
    let (scores, count) = (vocabulary.scores.len(), tokens.len());
    if scores != count {
        return Err(TextError::Tokenizer(format!(
            "tokenizer.ggml.scores has {scores} entries for {count} tokens"
        )));
    }
    let unknown = vocabulary
        .unknown
        .and_then(|id| tokens.get(id as usize))
        .filter(|token| token.kind == Kind::Control);
    let vocab: Vocab = tokens
        .iter()
        .filter(|token| matches!(token.kind, Kind::Normal | Kind::UserDefined | Kind::Byte))
        .chain(unknown)
        .map(|token| (token.text.to_owned(), token.id))
        .collect();
    let mut model = BPE::builder()
        .vocab_and_merges(vocab, merges(tokens, &vocabulary.scores))
        .byte_fallback(true)
        .fuse_unk(true);
    if let Some(token) = unknown {
        model = model.unk_token(token.text.to_owned());
    }
    let failed = |e: tokenizers::Error| TextError::Tokenizer(e.to_string());
    let mut encoder = Encoder::new(model.build().map_err(failed)?);
    let adds_space = vocabulary.add_space_prefix.unwrap_or(true);
    encoder.with_normalizer(Some(normalizer(adds_space).map_err(failed)?));
    Ok(Built {
        encoder,
        unknown: unknown.map(|token| token.id),
        pieces: pieces(tokens),
        strips_leading_space: adds_space,
        adds_bos_by_default: true,
    })
}

fn normalizer(adds_space: bool) -> tokenizers::Result<Sequence> {
    let mut steps = Vec::new();
    if adds_space {
        steps.push(NormalizerWrapper::from(Prepend::new(SPACE.to_owned())));
    }
    steps.push(NormalizerWrapper::from(Replace::new(" ", SPACE)?));
    Ok(Sequence::new(steps))
}

fn pieces(tokens: &[Token<'_>]) -> Vec<Piece> {
    let spelling = Spelling::Text {
        replacements: vec![(SPACE.to_owned(), " ".to_owned())],
        byte_tokens: false,
    };
    let byte = Spelling::Text {
        replacements: Vec::new(),
        byte_tokens: true,
    };
    let piece = |token: &Token<'_>| Piece {
        id: token.id,
        bytes: match token.kind {
            Kind::Normal => spelling.bytes(token.text),
            Kind::Byte => byte.bytes(token.text),
            Kind::Control | Kind::UserDefined | Kind::Unused => token.text.as_bytes().to_vec(),
        },
        is_special: token.kind == Kind::Control,
    };
    tokens.iter().map(piece).collect()
}

/// One way to join two tokens.
struct Join<'a> {
    score: f32,
    whole: u32,
    left: (u32, &'a str),
    right: (u32, &'a str),
}

/// All ways to cut a token into two tokens, best score first.
fn merges(tokens: &[Token<'_>], scores: &[f32]) -> Merges {
    let is_joined = |token: &&Token<'_>| matches!(token.kind, Kind::Normal | Kind::UserDefined);
    let ids: HashMap<&str, u32> = tokens
        .iter()
        .filter(is_joined)
        .map(|token| (token.text, token.id))
        .collect();
    let mut joins = Vec::new();
    for token in tokens.iter().filter(is_joined) {
        for (at, _) in token.text.char_indices().skip(1) {
            let (left, right) = token.text.split_at(at);
            let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) else {
                continue;
            };
            joins.push(Join {
                score: scores[token.id as usize],
                whole: token.id,
                left: (l, left),
                right: (r, right),
            });
        }
    }
    let rank = |join: &Join<'_>| (join.whole, join.left.0, join.right.0);
    joins.sort_by(|a, b| b.score.total_cmp(&a.score).then(rank(a).cmp(&rank(b))));
    joins
        .into_iter()
        .map(|join| (join.left.1.to_owned(), join.right.1.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::tokenizer::{GgufVocabulary, SpecialTokens, Tokenizer};

    /// `<unk>`, `<s>`, `</s>`, 256 bytes, then `words` with the scores -1, -2, ..
    fn vocabulary(words: &[String], add_space_prefix: bool) -> GgufVocabulary {
        let names = ["<unk>", "<s>", "</s>"].map(str::to_owned);
        let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
        let tokens: Vec<String> = names
            .into_iter()
            .chain(bytes)
            .chain(words.to_vec())
            .collect();
        let types = [2, 3, 3].into_iter().chain([6; 256]);
        let scores = (0..words.len()).map(|rank| -1.0 - rank as f32);
        GgufVocabulary {
            model: "llama".to_owned(),
            token_types: types.chain(words.iter().map(|_| 1)).collect(),
            scores: [0.0; 259].into_iter().chain(scores).collect(),
            tokens,
            bos: Some(1),
            eos: Some(2),
            unknown: Some(0),
            add_space_prefix: Some(add_space_prefix),
            ..GgufVocabulary::default()
        }
    }

    /// The definition: join the neighbours with the best score, leftmost first, until none fit.
    fn naive(vocabulary: &GgufVocabulary, text: &str) -> Vec<u32> {
        let mut symbols: Vec<String> = text.chars().map(String::from).collect();
        let id = |text: &str| {
            let at = vocabulary.tokens.iter().position(|token| token == text);
            at.filter(|&at| vocabulary.token_types[at] == 1)
        };
        loop {
            let joins = symbols.windows(2).enumerate().filter_map(|(at, pair)| {
                let token = id(&pair.concat())?;
                Some((at, vocabulary.scores[token]))
            });
            let best = joins.reduce(|best, next| if next.1 > best.1 { next } else { best });
            let Some((at, _)) = best else { break };
            let right = symbols.remove(at + 1);
            symbols[at].push_str(&right);
        }
        let ids = |symbol: String| match id(&symbol) {
            Some(id) => vec![u32::try_from(id).unwrap()],
            None => symbol.bytes().map(|byte| 3 + u32::from(byte)).collect(),
        };
        symbols.into_iter().flat_map(ids).collect()
    }

    #[test]
    fn a_space_is_put_before_text_and_taken_away_again() {
        let words = ["\u{2581}", "a", "b", "\u{2581}a"].map(str::to_owned);
        let tokenizer = Tokenizer::from_gguf(&vocabulary(&words, true)).unwrap();
        let encode = |text: &str| tokenizer.encode(text, SpecialTokens::Recognise).unwrap();
        assert_eq!(encode("a b"), [262, 259, 261]);
        assert_eq!(tokenizer.decode(&encode("a b"), false), "a b");
        // As llama.cpp: also before text that follows a control token.
        assert_eq!(encode("<s>a"), [1, 262]);
        assert!(encode("").is_empty());

        let tokenizer = Tokenizer::from_gguf(&vocabulary(&words, false)).unwrap();
        let encode = |text: &str| tokenizer.encode(text, SpecialTokens::Recognise).unwrap();
        assert_eq!(encode("a a"), [260, 262]);
        assert_eq!(tokenizer.decode(&encode(" a"), false), " a");
    }

    #[test]
    fn no_join_makes_a_control_or_byte_token() {
        let words = ["<", "s", ">", "<s", "s>", "<0", "x", "4", "1", "<0x41"].map(str::to_owned);
        let tokenizer = Tokenizer::from_gguf(&vocabulary(&words, false)).unwrap();
        for text in ["<s>", "<0x41>", "<unk>"] {
            let ids = tokenizer.encode(text, SpecialTokens::AsText).unwrap();
            assert_eq!(tokenizer.decode(&ids, true), text);
        }
        let ids = tokenizer.encode("\u{20ac}", SpecialTokens::AsText).unwrap();
        assert_eq!(ids, [3 + 0xe2, 3 + 0x82, 3 + 0xac]);
    }

    proptest! {
        #[test]
        fn merges_do_what_sentencepiece_does(
            words in prop::collection::hash_set("[abc\u{2581}]{2,4}", 0..30),
            text in "[abc\u{e9} ]{0,16}",
        ) {
            // Every vocabulary has the characters of its tokens.
            let mut words: Vec<String> = words.into_iter().collect();
            words.extend(["a", "b", "c", "\u{2581}"].map(str::to_owned));
            let vocabulary = vocabulary(&words, false);
            let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
            let ids = tokenizer.encode(&text, SpecialTokens::AsText).unwrap();
            prop_assert_eq!(ids, naive(&vocabulary, &text.replace(' ', "\u{2581}")));
        }
    }
}
