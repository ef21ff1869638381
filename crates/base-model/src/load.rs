//! A name or path becomes a base model in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::gguf_vocabulary::gguf_vocabulary;
use attune_model::decoder::Decoder;
use attune_model::error::ModelError;
use attune_model::hub;
use attune_model::load::ModelFiles;
use attune_model::placement::Placement;
use attune_model::weights::gguf::{without_part, GgufFile};
use attune_text::chat_template::ChatTemplate;
use attune_text::prompt::PromptEncoder;
use attune_text::tokenizer::{TextError, Tokenizer};

/// A base model that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its files.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its tokenizer or template.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The tokenizer has ids that texts need and the model has no embedding for.
    #[error("the tokenizer has {ids} ids and the model {vocab_size} embeddings: they do not belong together ({token:?} would have none)")]
    Vocabulary {
        /// Ids of the tokenizer.
        ids: usize,
        /// Width of the logits.
        vocab_size: usize,
        /// The first token of those without which the tokenizer cannot do.
        token: String,
    },
}

/// A base model in memory.
#[derive(Debug)]
pub struct BaseModel {
    /// What `/v1/models` calls it.
    pub id: String,
    /// SHA-256 of its weights: what adapter versions are made for.
    pub sha256: String,
    /// The weights.
    pub decoder: Arc<Decoder>,
    /// Text to ids.
    pub tokenizer: Arc<Tokenizer>,
    /// Messages to ids; some models have none.
    pub template: Option<ChatTemplate>,
}

impl BaseModel {
    /// What makes its prompts.
    pub fn prompts(&self) -> PromptEncoder<'_> {
        PromptEncoder::new(&self.tokenizer, self.template.as_ref())
    }
}

/// Where a model's files are: a known name is fetched into the cache first.
///
/// # Errors
/// Neither a known name nor a path, or the model cannot be fetched.
pub fn locate(name: &str) -> Result<ModelFiles, ModelError> {
    let path = match hub::find(name) {
        Some(known) => hub::fetch(known, &hub::cache_directory()?)?,
        None => PathBuf::from(name),
    };
    ModelFiles::at(&path)
}

/// Loads a model: `name` is a known name or a path.
///
/// # Errors
/// See [`LoadError`].
pub fn load(name: &str, placement: impl Into<Placement>) -> Result<BaseModel, LoadError> {
    let files = locate(name)?;
    let decoder = Arc::new(files.load(placement)?);
    let tokenizer = tokenizer(&files)?;
    let (ids, vocab_size) = (tokenizer.len(), decoder.config().vocab_size);
    let tokenizer = tokenizer.with_embeddings(vocab_size);
    let tokenizer = Arc::new(tokenizer.map_err(|token| LoadError::Vocabulary {
        ids,
        vocab_size,
        token,
    })?);
    let template = tokenizer
        .chat_template()
        .map(|_| ChatTemplate::of(&tokenizer))
        .transpose()?;
    Ok(BaseModel {
        id: id(name),
        sha256: files.sha256()?,
        decoder,
        tokenizer,
        template,
    })
}

fn tokenizer(files: &ModelFiles) -> Result<Tokenizer, LoadError> {
    match files {
        ModelFiles::Gguf(path) => Ok(Tokenizer::from_gguf(&gguf_vocabulary(&GgufFile::open(
            path,
        )?)?)?),
        ModelFiles::Directory(directory) => Ok(Tokenizer::from_directory(directory)?),
    }
}

/// What a model is called: a known name as it is; a path's last part in lower case, without `.gguf` and without the
/// number of a first part.
pub fn id(name: &str) -> String {
    if hub::find(name).is_some() {
        return name.to_owned();
    }
    let last = Path::new(name)
        .file_name()
        .map_or_else(|| name.into(), |n| n.to_string_lossy());
    let word = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '-'
        }
    };
    without_part(last.trim_end_matches(".gguf"))
        .chars()
        .map(word)
        .collect::<String>()
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_words() {
        assert_eq!(super::id("smollm2-135m-instruct"), "smollm2-135m-instruct");
        assert_eq!(super::id("/m/My Model.Q4_1.gguf"), "my-model.q4_1");
        assert_eq!(super::id("models/Qwen2.5-0.5B/"), "qwen2.5-0.5b");
        assert_eq!(super::id("/m/Big-Q8_0-00001-of-00002.gguf"), "big-q8_0");
    }
}
