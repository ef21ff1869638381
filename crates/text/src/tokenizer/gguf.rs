//! The tokenizer in a GGUF file's metadata.

use tokenizers::{AddedToken, Tokenizer as Encoder};

use super::pieces::{Piece, Pieces};
use super::plain::PlainEncoder;
use super::special::{is_control_name, Special, SpecialStrings, END_NAMES};
use super::{gguf_bpe, gguf_spm, Chat, Roles, TextError, TokenNames, Tokenizer};

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
    /// `seperator_token_id`, which llama.cpp spells so.
    pub separator: Option<u32>,
    /// `mask_token_id`.
    pub mask: Option<u32>,
    /// `add_bos_token`.
    pub add_bos: Option<bool>,
    /// `add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `chat_template`.
    pub chat_template: Option<String>,
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Reached by merging.
    Normal,
    /// Never reached by text.
    Control,
    /// Found in text as it stands, before merging.
    UserDefined,
    /// A place holder; text does not reach it.
    Unused,
    /// One byte that has no other token.
    Byte,
}

/// A kind of tokenizer, built: what `gguf_bpe` and `gguf_spm` return.
pub(super) struct Built {
    pub encoder: Encoder,
    pub unknown: Option<u32>,
    pub pieces: Vec<Piece>,
    pub strips_leading_space: bool,
    /// Where the file does not say.
    pub adds_bos_by_default: bool,
}

/// A checked token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub id: u32,
    pub text: &'a str,
    pub kind: Kind,
}

/// See [`Tokenizer::from_gguf`].
pub(super) fn load(vocabulary: &GgufVocabulary) -> Result<Tokenizer, TextError> {
    let tokens = checked(vocabulary)?;
    let mut built = match vocabulary.model.as_str() {
        "gpt2" => gguf_bpe::build(vocabulary, &tokens)?,
        "llama" => gguf_spm::build(vocabulary, &tokens)?,
        other => {
            return Err(TextError::Tokenizer(format!(
                "tokenizer.ggml.model {other:?} is not supported; gpt2 and llama are"
            )))
        }
    };
    let user_defined: Vec<AddedToken> = tokens
        .iter()
        .filter(|token| token.kind == Kind::UserDefined)
        .map(|token| AddedToken::from(token.text, false).normalized(false))
        .collect();
    built.encoder.add_tokens(&user_defined);

    let specials = tokens
        .iter()
        .filter(|token| token.kind == Kind::Control)
        .map(|token| (token.text.to_owned(), Special::from(token.id)));
    let roles = roles(vocabulary, &tokens, built.adds_bos_by_default);
    let chat = Chat {
        template: vocabulary.chat_template.clone(),
        tokens: token_names(vocabulary, &roles),
    };
    Tokenizer::assemble(
        PlainEncoder::new(built.encoder, built.unknown)?,
        SpecialStrings::new(specials),
        Pieces::new(built.pieces, built.strips_leading_space),
        roles,
        chat,
    )
}

/// The tokens that the file names, as transformers calls them.
fn token_names(vocabulary: &GgufVocabulary, roles: &Roles) -> TokenNames {
    let mut names = TokenNames::default();
    let tokens = [
        ("bos_token", roles.bos),
        ("eos_token", roles.eos),
        ("unk_token", vocabulary.unknown),
        ("sep_token", vocabulary.separator),
        ("pad_token", vocabulary.padding),
        ("mask_token", vocabulary.mask),
    ];
    for (name, id) in tokens {
        let token = id.and_then(|id| vocabulary.tokens.get(id as usize));
        names.name(name, token.map(String::as_str));
    }
    names
}

fn checked(vocabulary: &GgufVocabulary) -> Result<Vec<Token<'_>>, TextError> {
    let count = vocabulary.tokens.len();
    let error = |why: String| Err(TextError::Tokenizer(why));
    if count == 0 {
        return error("tokenizer.ggml.tokens is empty".to_owned());
    }
    let types = vocabulary.token_types.len();
    if types != 0 && types != count {
        return error(format!(
            "tokenizer.ggml.token_type has {types} entries for {count} tokens"
        ));
    }
    let roles = [
        ("bos_token_id", vocabulary.bos),
        ("eos_token_id", vocabulary.eos),
        ("eot_token_id", vocabulary.eot),
    ];
    for (name, id) in roles {
        if id.is_some_and(|id| id as usize >= count) {
            return error(format!(
                "tokenizer.ggml.{name} {id:?} is not one of {count} tokens"
            ));
        }
    }
    let is_role = |id: u32| roles.iter().any(|&(_, role)| role == Some(id));
    let token = |(id, text): (u32, _)| {
        let number = vocabulary.token_types.get(id as usize).copied();
        Token {
            id,
            text,
            kind: kind(number.unwrap_or(1), text, is_role(id)),
        }
    };
    let texts = vocabulary.tokens.iter().map(String::as_str);
    Ok((0u32..).zip(texts).map(token).collect())
}

fn kind(number: u32, text: &str, is_role: bool) -> Kind {
    match number {
        // An empty name or white space can be no control token: text is full of it.
        _ if text.trim().is_empty() => match number {
            4 => Kind::UserDefined,
            2 | 3 | 5 => Kind::Unused,
            _ => Kind::Normal,
        },
        6 => Kind::Byte,
        _ if is_role || is_control_name(text) => Kind::Control,
        2 | 3 => Kind::Control,
        4 => Kind::UserDefined,
        5 => Kind::Unused,
        _ => Kind::Normal,
    }
}

fn roles(vocabulary: &GgufVocabulary, tokens: &[Token<'_>], adds_bos_by_default: bool) -> Roles {
    let well_known = END_NAMES.iter().filter_map(|name| {
        let is_named = |t: &&Token<'_>| t.text == *name && t.kind == Kind::Control;
        tokens.iter().find(is_named).map(|token| token.id)
    });
    let named = vocabulary.eos.into_iter().chain(vocabulary.eot);
    let mut ends = Vec::new();
    for end in named.chain(well_known) {
        if !ends.contains(&end) {
            ends.push(end);
        }
    }
    let adds_bos = vocabulary.add_bos.unwrap_or(adds_bos_by_default);
    Roles {
        bos: vocabulary.bos,
        adds_bos: adds_bos && vocabulary.bos.is_some(),
        eos: ends.first().copied(),
        ends,
    }
}
