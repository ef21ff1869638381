//! What goes wrong with an adapter version.

use std::path::{Path, PathBuf};

use attune_ids::AdapterVersion;
use attune_model::user_model::table::UserModelError;

/// Why a bundle or a checkpoint cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// A file could not be read or written: permissions, a full disk, a broken mount.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The tensor library could not pack a LoRA: no memory, or shapes that were not checked.
    #[error("a LoRA layer cannot be packed: {0}")]
    Pack(String),
    /// The path is not a bundle, for example a PEFT checkpoint that was not imported.
    #[error("{} is not an adapter bundle: {reason}", .dir.display())]
    NotABundle {
        /// The directory.
        dir: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A directory that holds no bundle, or several.
    #[error("{} holds {found} bundles: name the one you mean", .dir.display())]
    NotOneBundle {
        /// The directory.
        dir: PathBuf,
        /// Bundles in it.
        found: usize,
    },
    /// A file that no bundle has: a pickle, a symbolic link, somebody's note.
    #[error("{} does not belong in a bundle: {reason}", .path.display())]
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A file larger than its kind may be.
    #[error("{} has {bytes} bytes; at most {max} are read", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// A manifest that is not JSON, has unknown or missing fields, or contradicts itself.
    #[error("manifest.json: {0}")]
    Manifest(String),
    /// A bundle of a later attune.
    #[error("manifest.json has format {found}; this attune reads format {supported}: update it")]
    Format {
        /// The format of the bundle.
        found: u64,
        /// The format that this program reads.
        supported: u32,
    },
    /// The content is not what the name says: a flipped byte, a half-made copy, an edit.
    #[error(
        "the content hashes to {actual}, the directory is named {claimed}: \
         the bundle is damaged or was edited; fetch it again"
    )]
    Hash {
        /// The directory's name.
        claimed: AdapterVersion,
        /// The hash of its content.
        actual: AdapterVersion,
    },
    /// The version was made for another base model.
    #[error(
        "the version was made for base model {made_for} ({made_for_sha256}), \
         but the one that is served has hash {loaded_sha256}; serve that model (--model names it), or train \
         on this one"
    )]
    Base {
        /// The base model's name in the manifest.
        made_for: String,
        /// Its hash in the manifest.
        made_for_sha256: String,
        /// The hash of the loaded model.
        loaded_sha256: String,
    },
    /// A version that says that it is for the base model, and does not have its shape: it was imported with
    /// the wrong `--model`.
    #[error(
        "it does not fit the base model {base}: {misfit}; it was trained on another model{}: serve that one, \
         or train on this one", named(.trained_on.as_deref())
    )]
    Misfit {
        /// The base model, by name and shape.
        base: String,
        /// What does not fit.
        misfit: String,
        /// The model that the checkpoint names.
        trained_on: Option<String>,
    },
    /// Not a safetensors file, or a truncated one.
    #[error("{file} is not a complete safetensors file: {reason}")]
    Safetensors {
        /// The file's name.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Tensors that the manifest promises and the file does not have.
    #[error("missing tensors: {}", some(.0))]
    MissingTensors(Vec<String>),
    /// Tensors that nothing would use.
    #[error("unexpected tensors: {}", some(.0))]
    UnexpectedTensors(Vec<String>),
    /// A tensor of the wrong shape.
    #[error("tensor {name} has shape {got:?}, expected {expected}")]
    Shape {
        /// The tensor.
        name: String,
        /// The shape it should have; `?` is any.
        expected: String,
        /// The shape it has.
        got: Vec<usize>,
    },
    /// A tensor of a type other than F32, F16 and BF16.
    #[error("tensor {name} has type {got}; store F32, F16 or BF16")]
    Dtype {
        /// The tensor.
        name: String,
        /// Its type.
        got: String,
    },
    /// A tensor with a NaN or an infinity: training diverged.
    #[error("tensor {name} has the value {value} at index {index}")]
    NotFinite {
        /// The tensor.
        name: String,
        /// Row-major index of the value.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A user model whose tables do not fit together.
    #[error("the user model cannot be used: {0}")]
    UserModel(#[from] UserModelError),
    /// A PEFT checkpoint that attune cannot run.
    #[error("adapter_config.json: {setting}: {reason}")]
    Peft {
        /// The setting.
        setting: String,
        /// Why it is refused and what to do.
        reason: String,
    },
    /// A directory that is no PEFT checkpoint.
    #[error("{} is not a PEFT checkpoint: {reason}", .dir.display())]
    NotACheckpoint {
        /// The directory.
        dir: PathBuf,
        /// What it is, or lacks, and what to do.
        reason: String,
    },
    /// Tensors of a PEFT checkpoint that no version can hold: `lora_magnitude_vector` of DoRA, biases,
    /// LoRA of `lm_head` or `embed_tokens`, whole modules such as TRL saves when it added tokens.
    #[error(
        "adapter_model.safetensors: a version cannot hold {}: it has LoRA A and B of the q, k, v, o, \
         gate, up and down layers of blocks, and nothing of the embeddings, the head or biases; \
         train without them, or merge the adapter into its model and serve that one", some(.0)
    )]
    PeftTensors(Vec<String>),
    /// Tensors of a PEFT checkpoint that are not those of one adapter.
    #[error("adapter_model.safetensors: {0}")]
    PeftFile(String),
    /// Import parameters that the checkpoint contradicts.
    #[error("the checkpoint does not fit the options given: {0}")]
    Import(String),
}

impl AdapterError {
    /// The message with file names in place of paths: for those who must not learn where this
    /// server keeps its files.
    pub fn without_paths(&self) -> String {
        match self {
            Self::Io { path, source } => format!("{}: {source}", name(path)),
            Self::NotABundle { reason, .. } => format!("it is not an adapter bundle: {reason}"),
            Self::NotOneBundle { found, .. } => {
                format!("it holds {found} bundles: name the one you mean")
            }
            Self::ForeignFile { path, reason } => {
                format!("{} does not belong in a bundle: {reason}", name(path))
            }
            Self::TooLarge { path, bytes, max } => {
                format!("{} has {bytes} bytes; at most {max} are read", name(path))
            }
            Self::NotACheckpoint { reason, .. } => format!("it is not a PEFT checkpoint: {reason}"),
            other => other.to_string(),
        }
    }

    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// A path's last part.
fn name(path: &Path) -> String {
    let last = path.file_name().unwrap_or_default();
    last.to_string_lossy().into_owned()
}

fn named(model: Option<&str>) -> String {
    model.map_or_else(String::new, |name| format!(" ({name:?}, by its own words)"))
}

/// The first names, and how many more there are.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    if names.len() > SHOWN {
        text.push(format!("and {} more", names.len() - SHOWN));
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_without_their_folders() {
        let path = || PathBuf::from("/srv/secret/manifest.json");
        let reason = "r";
        for error in [
            AdapterError::io(path())(std::io::ErrorKind::StorageFull.into()),
            AdapterError::NotABundle {
                dir: path(),
                reason: reason.into(),
            },
            AdapterError::NotOneBundle {
                dir: path(),
                found: 2,
            },
            AdapterError::ForeignFile {
                path: path(),
                reason,
            },
            AdapterError::NotACheckpoint {
                dir: path(),
                reason: reason.into(),
            },
            AdapterError::TooLarge {
                path: path(),
                bytes: 2,
                max: 1,
            },
        ] {
            assert!(error.to_string().contains("secret"), "{error}");
            let told = error.without_paths();
            assert!(!told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn long_lists_of_tensors_are_cut() {
        let names = |n: usize| (0..n).map(|i| format!("t{i}")).collect();
        let text = |n| AdapterError::MissingTensors(names(n)).to_string();
        assert_eq!(text(2), "missing tensors: t0, t1");
        assert_eq!(text(6), "missing tensors: t0, t1, t2, t3, and 2 more");
    }
}
