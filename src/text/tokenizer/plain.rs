//! Text to ids with every control token switched off.

use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::Tokenizer as Encoder;

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
