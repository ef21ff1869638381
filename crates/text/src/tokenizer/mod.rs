//! Text to token ids and back.
//!
//! | file | subject |
//! |---|---|
//! | `hf` | a Hugging Face model directory |
//! | `gguf`, `gguf_bpe`, `gguf_spm` | the tokenizer in a GGUF file's metadata |
//! | `plain` | text to ids with every control token switched off |
//! | `special` | which tokens are control tokens, and where a text spells one |
//! | `pieces` | the bytes of each token |
//! | `embeddings` | ids that the model has no embedding for |
//!
//! Encoding is two steps that never mix: `special` cuts a text at the control tokens that its
//! author was allowed to write, and `plain` encodes what lies between and cannot make one.

mod embeddings;
mod gguf;
mod gguf_bpe;
mod gguf_spm;
mod hf;
mod pieces;
mod plain;
mod special;

use std::fmt;
use std::path::Path;

pub use gguf::GgufVocabulary;
use pieces::Pieces;
use plain::PlainEncoder;
#[cfg(test)]
pub(crate) use special::named;
pub(crate) use special::{Segment, SpecialStrings};

/// The longest text that is encoded, in bytes. It keeps the slowest text there is (nothing but
/// spaces) near a second, and the regular expressions of pre-tokenizers far from the limits at
/// which they give up.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// What went wrong with text.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A tokenizer file or GGUF metadata that cannot be used.
    #[error("the tokenizer cannot be loaded: {0}")]
    Tokenizer(String),
    /// A text longer than [`MAX_TEXT_BYTES`].
    #[error("the text is {bytes} bytes long; at most {max} can be encoded", max = MAX_TEXT_BYTES)]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// A text that has too many tokens, whatever it says.
    #[error("a text of {bytes} bytes has at least {least} tokens; at most {most} fit")]
    TooManyTokens {
        /// Its length in bytes.
        bytes: usize,
        /// Tokens that it has at least.
        least: usize,
        /// Tokens that it may have.
        most: usize,
    },
    /// A text spells a token that the model was never given an embedding for.
    #[error(
        "the text has the token {token:?}, which the model has no embedding for: leave it out"
    )]
    NoEmbedding {
        /// The token's name.
        token: String,
    },
    /// The tokenizer refused a text; its vocabulary is damaged.
    #[error("the text cannot be encoded: {0}")]
    Encode(String),
    /// A chat template that does not parse, fails, runs out of fuel or writes too much.
    #[error("the chat template failed: {0}")]
    Template(String),
    /// The model was not made for chat, or its files lost their template.
    #[error("the model has no chat template; use /v1/completions")]
    NoChatTemplate,
}

/// Whether strings such as `<|im_start|>` become control tokens or stay text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialTokens {
    /// Control tokens: only for text that the server itself wrote.
    Recognise,
    /// Plain text: for everything that came from outside.
    AsText,
}

/// A tokenizer with what serving needs beside it: which ids begin and end text.
pub struct Tokenizer {
    plain: PlainEncoder,
    specials: SpecialStrings,
    pieces: Pieces,
    roles: Roles,
    chat: Chat,
    /// Bytes of text that one token can stand for at most; `None`: there is no bound.
    longest_token: Option<usize>,
    /// Ids from here on are the tokenizer's alone: the model has no embedding for them.
    embeddings: usize,
}

/// The ids with a meaning of their own.
#[derive(Debug, Clone, Default)]
struct Roles {
    bos: Option<u32>,
    adds_bos: bool,
    /// The model's end of text; always among `ends`.
    eos: Option<u32>,
    /// Most important first, without repeats.
    ends: Vec<u32>,
}

/// What a model's files say for its chat template.
#[derive(Debug, Clone, Default)]
struct Chat {
    template: Option<String>,
    tokens: TokenNames,
}

/// What templates call tokens by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenNames {
    /// `bos_token`, `pad_token` and so on, and the token that each stands for.
    pub named: Vec<(String, String)>,
    /// `additional_special_tokens`.
    pub additional: Vec<String>,
}

impl TokenNames {
    /// Adds a token that there is.
    pub fn name(&mut self, name: &str, token: Option<&str>) {
        let token = token.map(|token| (name.to_owned(), token.to_owned()));
        self.named.extend(token);
    }

    /// The token that templates call `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let entry = self.named.iter().find(|(other, _)| other == name);
        entry.map(|(_, token)| token.as_str())
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json` and `tokenizer_config.json` (and `generation_config.json` and
    /// `config.json` for more end-of-text ids) of a Hugging Face model directory.
    ///
    /// # Errors
    /// A file that is missing or malformed, named in the message.
    pub fn from_directory(directory: &Path) -> Result<Self, TextError> {
        hf::load(directory)
    }

    /// Builds the tokenizer that a GGUF file describes.
    ///
    /// # Errors
    /// A kind of tokenizer or pre-tokenizer that is not known, named in the message.
    pub fn from_gguf(vocabulary: &GgufVocabulary) -> Result<Self, TextError> {
        gguf::load(vocabulary)
    }

    /// Puts the parts together once each is checked.
    fn assemble(
        plain: PlainEncoder,
        specials: SpecialStrings,
        pieces: Pieces,
        roles: Roles,
        chat: Chat,
    ) -> Result<Self, TextError> {
        if roles.ends.is_empty() {
            return Err(TextError::Tokenizer(
                "no token ends a text; the model's files must name an end-of-text token (eos)"
                    .to_owned(),
            ));
        }
        let longest_token = pieces.longest().filter(|_| plain.keeps_all_text());
        Ok(Self {
            plain,
            specials,
            pieces,
            roles,
            chat,
            longest_token,
            embeddings: usize::MAX,
        })
    }

    /// Token ids of `text`. Never adds BOS or EOS. Bytes without a token are left out, or become
    /// the unknown token where the vocabulary has one.
    ///
    /// # Errors
    /// A text longer than [`MAX_TEXT_BYTES`], or the tokenizer's own failure.
    pub fn encode(&self, text: &str, special: SpecialTokens) -> Result<Vec<u32>, TextError> {
        match special {
            SpecialTokens::AsText => self.encode_plain(text, true),
            SpecialTokens::Recognise => self.encode_segments(&self.specials.split(text)),
        }
    }

    /// Ids of a text that was cut at its control tokens.
    pub(crate) fn encode_segments(&self, segments: &[Segment<'_>]) -> Result<Vec<u32>, TextError> {
        let length = |segment: &Segment<'_>| match segment {
            Segment::Special(_) => 0,
            Segment::Text(text) => text.len(),
        };
        check_length(segments.iter().map(length).sum())?;
        let mut ids = Vec::new();
        for (i, segment) in segments.iter().enumerate() {
            match segment {
                Segment::Special(id) => ids.push(self.embedded(*id)?),
                Segment::Text(text) => ids.extend(self.encode_plain(text, i == 0)?),
            }
        }
        Ok(ids)
    }

    /// How few tokens a text of `bytes` bytes can have; 0 where this tokenizer may leave text out.
    pub fn least_tokens(&self, bytes: usize) -> usize {
        self.longest_token
            .map_or(0, |longest| bytes.div_ceil(longest))
    }

    /// Ids of a run of plain text. `at_start`: nothing stands before it in the prompt.
    fn encode_plain(&self, text: &str, at_start: bool) -> Result<Vec<u32>, TextError> {
        check_length(text.len())?;
        let ids = self.plain.encode(text, at_start)?;
        ids.iter().try_for_each(|&id| self.embedded(id).map(drop))?;
        if ids.iter().all(|&id| self.is_allowed_in_text(id)) {
            return Ok(ids);
        }
        // A vocabulary whose merges lead to a control token: write that token's name in bytes.
        let mut safe = Vec::with_capacity(ids.len());
        for id in ids {
            if self.is_allowed_in_text(id) {
                safe.push(id);
            } else if self.plain.unknown() != Some(id) {
                safe.extend(self.pieces.spell(id));
            }
        }
        Ok(safe)
    }

    /// The unknown token may stand for text, but not where it is also the end or begin of text.
    fn is_allowed_in_text(&self, id: u32) -> bool {
        let is_role = self.roles.bos == Some(id) || self.roles.ends.contains(&id);
        !self.is_special(id) || (self.plain.unknown() == Some(id) && !is_role)
    }

    /// Text of `ids`; ids without a token are left out, bytes that are not UTF-8 become U+FFFD.
    /// A SentencePiece vocabulary that puts a space before a text loses it here.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            bytes.extend_from_slice(self.output_bytes(id, skip_special));
        }
        let skip = usize::from(self.strips_leading_space() && bytes.first() == Some(&b' '));
        String::from_utf8_lossy(&bytes[skip..]).into_owned()
    }

    /// The bytes that one token stands for (a control token: its name). Empty for ids without a token.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        self.pieces.bytes(id).to_vec()
    }

    /// The bytes that `id` adds to an answer.
    pub(crate) fn output_bytes(&self, id: u32, skip_special: bool) -> &[u8] {
        if skip_special && self.is_special(id) {
            &[]
        } else {
            self.pieces.bytes(id)
        }
    }

    /// Whether [`Tokenizer::decode`] drops one space at the very beginning.
    pub(crate) fn strips_leading_space(&self) -> bool {
        self.pieces.strips_leading_space()
    }

    pub(crate) fn specials(&self) -> &SpecialStrings {
        &self.specials
    }

    /// Whether `id` is a control token.
    pub fn is_special(&self, id: u32) -> bool {
        self.pieces.is_special(id)
    }

    /// The id of the control token that is called `name`, for example `<|im_end|>`.
    pub fn token_id(&self, name: &str) -> Option<u32> {
        self.specials.id(name)
    }

    /// The id that begins text, where the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.roles.bos
    }

    /// The token that begins text, as chat templates write it.
    pub fn bos_token(&self) -> Option<&str> {
        self.chat.tokens.get("bos_token")
    }

    /// The model's end-of-text token, as chat templates write it.
    pub fn eos_token(&self) -> Option<&str> {
        self.chat.tokens.get("eos_token")
    }

    /// What chat templates call tokens by, `bos_token` and `eos_token` included.
    pub fn token_names(&self) -> &TokenNames {
        &self.chat.tokens
    }

    /// Whether a prompt begins with [`Tokenizer::bos`] by itself (SmolLM2: no, Llama 3: yes).
    pub fn adds_bos(&self) -> bool {
        self.roles.adds_bos
    }

    /// BOS, where it is added to every text: what stands in front of everything else.
    pub fn added_bos(&self) -> Option<u32> {
        self.bos().filter(|_| self.adds_bos())
    }

    /// Ids that end an answer, at least one; the model's own end of text comes first.
    pub fn end_ids(&self) -> &[u32] {
        &self.roles.ends
    }

    /// The model's chat template (Jinja), where its files carry one.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat.template.as_deref()
    }

    /// Number of ids, control tokens included.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there are no ids.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn check_length(bytes: usize) -> Result<(), TextError> {
    if bytes > MAX_TEXT_BYTES {
        return Err(TextError::TooLong { bytes });
    }
    Ok(())
}

/// Short: the vocabulary has tens of thousands of entries.
impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("len", &self.len())
            .field("roles", &self.roles)
            .field("has_chat_template", &self.chat.template.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
