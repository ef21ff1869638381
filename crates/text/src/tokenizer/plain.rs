//! Text to ids with every control token switched off.

use std::collections::HashSet;

use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{SplitDelimiterBehavior, Tokenizer as Encoder};

use super::TextError;

/// Encodes plain text. Tokens that the model's makers added without marking them as control
/// (runs of spaces, `<think>`) are still found in it.
pub(super) struct PlainEncoder {
    /// For text at the beginning of a prompt.
    first: Encoder,
    /// For text after a control token, where that is encoded differently.
    rest: Option<Encoder>,
    unknown: Option<u32>,
}

impl PlainEncoder {
    /// `unknown`: the id by which `encoder` writes what its vocabulary cannot.
    pub(super) fn new(mut encoder: Encoder, unknown: Option<u32>) -> Result<Self, TextError> {
        encoder.set_encode_special_tokens(true);
        encoder.with_padding(None);
        encoder
            .with_truncation(None)
            .map_err(|e| TextError::Tokenizer(e.to_string()))?;
        let rest = after_the_first(&encoder);
        Ok(Self {
            first: encoder,
            rest,
            unknown,
        })
    }

    /// Whether every byte of a text is in a token of its own text: nothing is normalized away, and no
    /// pre-tokenizer drops anything. Kinds that are not known to do so are taken to.
    pub(super) fn keeps_all_text(&self) -> bool {
        let added = self.first.get_added_tokens_decoder();
        self.first.get_normalizer().is_none_or(keeps_length)
            && self.first.get_pre_tokenizer().is_none_or(keeps_text)
            // Such a token takes all spaces beside it.
            && !added.values().any(|token| token.lstrip || token.rstrip)
    }

    /// The ids that were added to the vocabulary, by the model's makers or after them.
    pub(super) fn added_ids(&self) -> HashSet<u32> {
        self.first.get_added_tokens_decoder().into_keys().collect()
    }

    /// The id of text that the vocabulary cannot write.
    pub(super) fn unknown(&self) -> Option<u32> {
        self.unknown
    }

    pub(super) fn encode(&self, text: &str, at_start: bool) -> Result<Vec<u32>, TextError> {
        let encoder = match &self.rest {
            Some(rest) if !at_start => rest,
            _ => &self.first,
        };
        encoder
            .encode_fast(text, false)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|e| TextError::Encode(e.to_string()))
    }
}

/// SentencePiece vocabularies of the newer kind put a space before the first text of a prompt and
/// not before the text after a control token. Both are the first text of their own call here.
fn after_the_first(encoder: &Encoder) -> Option<Encoder> {
    let mut pre_tokenizer = encoder.get_pre_tokenizer()?.clone();
    if !never_prepend(&mut pre_tokenizer) {
        return None;
    }
    let mut rest = encoder.clone();
    rest.with_pre_tokenizer(Some(pre_tokenizer));
    Some(rest)
}

/// Whether a text is never shorter afterwards, in bytes.
fn keeps_length(normalizer: &NormalizerWrapper) -> bool {
    match normalizer {
        NormalizerWrapper::Sequence(sequence) => sequence.as_ref().iter().all(keeps_length),
        NormalizerWrapper::Prepend(_) => true,
        // The pattern is not shown; SentencePiece's is a space, which is one byte.
        NormalizerWrapper::Replace(replace) => replace.content == "\u{2581}",
        _ => false,
    }
}

fn keeps_text(pre_tokenizer: &PreTokenizerWrapper) -> bool {
    match pre_tokenizer {
        PreTokenizerWrapper::Sequence(sequence) => sequence.as_ref().iter().all(keeps_text),
        PreTokenizerWrapper::Split(split) => split.behavior != SplitDelimiterBehavior::Removed,
        PreTokenizerWrapper::ByteLevel(_)
        | PreTokenizerWrapper::Digits(_)
        | PreTokenizerWrapper::Metaspace(_) => true,
        _ => false,
    }
}

/// Whether anything was changed.
fn never_prepend(pre_tokenizer: &mut PreTokenizerWrapper) -> bool {
    match pre_tokenizer {
        PreTokenizerWrapper::Metaspace(metaspace) => {
            let is_first = metaspace.prepend_scheme == PrependScheme::First;
            if is_first {
                metaspace.prepend_scheme = PrependScheme::Never;
            }
            is_first
        }
        PreTokenizerWrapper::Sequence(sequence) => {
            let mut changed = false;
            for each in sequence.as_mut() {
                changed |= never_prepend(each);
            }
            changed
        }
        _ => false,
    }
}
