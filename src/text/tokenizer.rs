//! Text to token ids and back.

use std::path::Path;

/// What went wrong with text.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A tokenizer file or GGUF metadata that cannot be used.
    #[error("the tokenizer cannot be loaded: {0}")]
    Tokenizer(String),
    /// A chat template that does not parse, fails, runs out of fuel or writes too much.
    #[error("the chat template failed: {0}")]
    Template(String),
}

/// Whether strings such as `<|im_start|>` become control tokens or stay text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialTokens {
    /// Control tokens: only for text that the server itself wrote.
    Recognise,
    /// Plain text: for everything that came from outside.
    AsText,
}

/// The tokenizer part of a GGUF file's metadata, as plain values (`tokenizer.ggml.*`).
#[derive(Debug, Clone, Default)]
pub struct GgufVocabulary {
    /// `model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece).
    pub model: String,
    /// `pre`: the pre-tokenizer, for example `smollm`, `llama-bpe`, `qwen2`.
    pub pre: Option<String>,
    /// `tokens`, in id order.
    pub tokens: Vec<String>,
    /// `token_type`, in id order: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
    pub token_types: Vec<u32>,
    /// `scores`, in id order (SentencePiece only).
    pub scores: Vec<f32>,
    /// `merges`, each `left right`.
    pub merges: Vec<String>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `eot_token_id`.
    pub eot: Option<u32>,
    /// `unknown_token_id`.
    pub unknown: Option<u32>,
    /// `padding_token_id`.
    pub padding: Option<u32>,
    /// `add_bos_token`.
    pub add_bos: Option<bool>,
    /// `add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `chat_template`.
    pub chat_template: Option<String>,
}

/// A tokenizer with what serving needs beside it: which ids begin and end text.
#[derive(Debug)]
pub struct Tokenizer {}

impl Tokenizer {
    /// Reads `tokenizer.json` and `tokenizer_config.json` (and `generation_config.json` for more
    /// end-of-text ids) of a Hugging Face model directory.
    ///
    /// # Errors
    /// A file that is missing or malformed, named in the message.
    pub fn from_directory(_directory: &Path) -> Result<Self, TextError> {
        unimplemented!()
    }

    /// Builds the tokenizer that a GGUF file describes.
    ///
    /// # Errors
    /// A kind of tokenizer or pre-tokenizer that is not known, named in the message.
    pub fn from_gguf(_vocabulary: &GgufVocabulary) -> Result<Self, TextError> {
        unimplemented!()
    }

    /// Token ids of `text`. Never adds BOS or EOS.
    ///
    /// # Errors
    /// The tokenizer's own failure.
    pub fn encode(&self, _text: &str, _special: SpecialTokens) -> Result<Vec<u32>, TextError> {
        unimplemented!()
    }

    /// Text of `ids`; ids without a token are left out.
    pub fn decode(&self, _ids: &[u32], _skip_special: bool) -> String {
        unimplemented!()
    }

    /// The bytes that one token stands for (a control token: its name). Empty for ids without a token.
    pub fn token_bytes(&self, _id: u32) -> Vec<u8> {
        unimplemented!()
    }

    /// Whether `id` is a control token.
    pub fn is_special(&self, _id: u32) -> bool {
        unimplemented!()
    }

    /// The id that begins text, where the model has one.
    pub fn bos(&self) -> Option<u32> {
        unimplemented!()
    }

    /// Whether a prompt begins with [`Tokenizer::bos`] by itself (SmolLM2: no, Llama 3: yes).
    pub fn adds_bos(&self) -> bool {
        unimplemented!()
    }

    /// Ids that end an answer, at least one.
    pub fn end_ids(&self) -> &[u32] {
        unimplemented!()
    }

    /// Number of ids, control tokens included.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Whether there are no ids.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
