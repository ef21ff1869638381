//! GGUF model `gpt2`: byte-level BPE, with the pre-tokenizer that `pre` names.

use tokenizers::models::bpe::{Vocab, BPE};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{SplitDelimiterBehavior, Tokenizer as Encoder};

use super::gguf::{Built, GgufVocabulary, Kind, Token};
use super::pieces::{Piece, Spelling};
use super::TextError;

const CONTRACTIONS_ANY_CASE: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const WORDS: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+";
const WORDS_BY_CASE: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
);
const SPACES: &str = r"\s*[\r\n]+|\s+(?!\S)|\s+";

/// See [`super::gguf::load`].
pub(super) fn build(vocabulary: &GgufVocabulary, tokens: &[Token<'_>]) -> Result<Built, TextError> {
    let family = Family::of(vocabulary.pre.as_deref())?;
    let failed = |e: tokenizers::Error| TextError::Tokenizer(e.to_string());
    let vocab: Vocab = tokens
        .iter()
        .filter(|token| matches!(token.kind, Kind::Normal | Kind::UserDefined))
        .map(|token| (token.text.to_owned(), token.id))
        .collect();
    let merges = merges(&vocabulary.merges, tokens)?;
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(family.ignores_merges())
        .build()
        .map_err(failed)?;
    let mut encoder = Encoder::new(model);
    encoder.with_pre_tokenizer(Some(family.pre_tokenizer().map_err(failed)?));
    if family.composes() {
        encoder.with_normalizer(Some(NFC));
    }
    let spelling = Spelling::byte_level();
    let pieces = tokens.iter().map(|token| Piece {
        id: token.id,
        bytes: match token.kind {
            Kind::Normal => spelling.bytes(token.text),
            _ => token.text.as_bytes().to_vec(),
        },
        is_special: token.kind == Kind::Control,
    });
    Ok(Built {
        encoder,
        // Bytes without a token are dropped: these models have no token for the unknown.
        unknown: None,
        pieces: pieces.collect(),
        strips_leading_space: false,
        adds_bos_by_default: family.adds_bos(),
    })
}

/// The pairs, without those that make a control token: text must not reach one.
fn merges(merges: &[String], tokens: &[Token<'_>]) -> Result<Vec<(String, String)>, TextError> {
    let out_of_reach: std::collections::HashSet<&str> = tokens
        .iter()
        .filter(|token| matches!(token.kind, Kind::Control | Kind::Unused))
        .map(|token| token.text)
        .collect();
    let mut pairs = Vec::with_capacity(merges.len());
    for (at, merge) in merges.iter().enumerate() {
        let Some((left, right)) = merge.split_once(' ') else {
            return Err(TextError::Tokenizer(format!(
                "tokenizer.ggml.merges[{at}] {merge:?} is not two tokens with a space between"
            )));
        };
        let whole = format!("{left}{right}");
        if ![left, right, &whole]
            .iter()
            .any(|t| out_of_reach.contains(t))
        {
            pairs.push((left.to_owned(), right.to_owned()));
        }
    }
    Ok(pairs)
}

/// How text is cut before merging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// llama.cpp's guess for files that do not say.
    Default,
    Gpt2,
    /// GPT-2 with each digit alone.
    Digits,
    /// As `Digits`, over composed characters.
    CommandR,
    Llama3,
    /// Llama 3's words with each digit alone.
    DeepSeekQwen,
    /// As `DeepSeekQwen`, over composed characters.
    Qwen2,
    Tekken,
}

impl Family {
    fn of(pre: Option<&str>) -> Result<Self, TextError> {
        let Some(pre) = pre else {
            return Err(TextError::Tokenizer(
                "tokenizer.ggml.pre is missing: the file is too old to say how text is cut; \
                 use a newer conversion of the model"
                    .to_owned(),
            ));
        };
        Ok(match pre {
            "default" => Self::Default,
            "gpt-2" | "gpt2" | "phi-2" | "mpt" | "olmo" | "jais" => Self::Gpt2,
            "smollm" | "starcoder" | "refact" | "codeshell" | "exaone" | "minerva-7b" => {
                Self::Digits
            }
            "command-r" => Self::CommandR,
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "lfm2" => {
                Self::Llama3
            }
            "qwen2" => Self::Qwen2,
            "deepseek-r1-qwen" => Self::DeepSeekQwen,
            "tekken" => Self::Tekken,
            other => {
                return Err(TextError::Tokenizer(format!(
                    "tokenizer.ggml.pre {other:?} is not supported; smollm, gpt-2, llama-bpe, \
                     qwen2, tekken, starcoder, refact and command-r are, or use the model's \
                     Hugging Face directory"
                )))
            }
        })
    }

    fn pre_tokenizer(self) -> tokenizers::Result<Sequence> {
        let split = |pattern: String| {
            let pattern = SplitPattern::Regex(pattern);
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
            Ok::<_, tokenizers::Error>(PreTokenizerWrapper::from(split))
        };
        let bytes = |use_regex| PreTokenizerWrapper::from(ByteLevel::new(false, false, use_regex));
        let digits = || PreTokenizerWrapper::from(Digits::new(true));
        let steps = match self {
            Self::Default => vec![
                split(r"[\p{P}\$\+<=>\^~\|]+".to_owned())?,
                split(gpt2_words())?,
                split(r"\p{N}+".to_owned())?,
                split("[0-9][0-9][0-9]".to_owned())?,
                bytes(false),
            ],
            Self::Gpt2 => vec![bytes(true)],
            Self::Digits | Self::CommandR => vec![digits(), bytes(true)],
            Self::Llama3 => vec![split(llama_words(r"\p{N}{1,3}"))?, bytes(false)],
            Self::DeepSeekQwen | Self::Qwen2 => vec![split(llama_words(r"\p{N}"))?, bytes(false)],
            Self::Tekken => vec![split(tekken_words())?, bytes(false)],
        };
        Ok(Sequence::new(steps))
    }

    /// Whether a piece that is a token stays whole, whatever the merges say.
    fn ignores_merges(self) -> bool {
        matches!(self, Self::Llama3 | Self::Tekken)
    }

    fn adds_bos(self) -> bool {
        matches!(self, Self::Llama3 | Self::Tekken)
    }

    /// Whether the model's own tokenizer composes characters first (Unicode NFC). llama.cpp does
    /// not, and so differs from the model's training on text that is not composed.
    fn composes(self) -> bool {
        matches!(self, Self::Qwen2 | Self::CommandR)
    }
}

/// GPT-2's words without its last alternative: what matches nothing is a piece anyway.
fn gpt2_words() -> String {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)".to_owned()
}

fn llama_words(numbers: &str) -> String {
    let symbols = r" ?[^\s\p{L}\p{N}]+[\r\n]*";
    [CONTRACTIONS_ANY_CASE, WORDS, numbers, symbols, SPACES].join("|")
}

fn tekken_words() -> String {
    let symbols = r" ?[^\s\p{L}\p{N}]+[\r\n/]*";
    [WORDS_BY_CASE, r"\p{N}", symbols, SPACES].join("|")
}
