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
