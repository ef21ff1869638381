//! A path becomes a decoder.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::config::ModelConfig;
use super::decoder::Decoder;
use super::error::ModelError;
use super::placement::Placement;
use super::weights::config_json::read_config;
use super::weights::gguf::GgufFile;
use super::weights::hugging_face::{weight_files, SafetensorsFiles};
use super::weights::Weights;
use attune_files::{self as regular, Links};

/// The files of a model, recognised but not yet read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelFiles {
    /// A GGUF file, the first if the model is in several.
    Gguf(PathBuf),
    /// A directory with `config.json`, `tokenizer.json` and safetensors.
    Directory(PathBuf),
}

impl ModelFiles {
    /// Recognises what `path` is.
    ///
    /// # Errors
    /// It is not there, or is neither a file nor a model directory.
    pub fn at(path: &Path) -> Result<Self, ModelError> {
        let refused = |what: &str| Err(ModelError::Fetch(format!("{} {what}", path.display())));
        if path.is_file() {
            let is_part_of_directory = path.extension().is_some_and(|end| {
                ["safetensors", "json", "bin", "pt", "pth"]
                    .iter()
                    .any(|e| end == *e)
            });
            match is_part_of_directory {
                true => refused(
                    "is a file of a model: give the directory that it is in, or a GGUF file",
                ),
                false => Ok(Self::Gguf(path.to_owned())),
            }
        } else if path.join("config.json").is_file() {
            Ok(Self::Directory(path.to_owned()))
        } else if path.join("adapter_config.json").is_file() {
            refused(
                "is an adapter: give its base model, and take it in with `attune adapter import`",
            )
        } else if let Some(file) = gguf_in(path) {
            refused(&format!(
                "has no config.json, but GGUF files: give one of them, such as {}",
                file.display()
            ))
        } else if path.is_dir() {
            refused("has no config.json: give a Hugging Face model directory or a GGUF file")
        } else {
            Err(ModelError::Fetch(format!(
                "{} does not exist: give a GGUF file, a Hugging Face model directory or a name that `attune model list` shows",
                path.display()
            )))
        }
    }

    /// SHA-256 of the weights: of a single GGUF file itself, else of the hashes of the files in order.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn sha256(&self) -> Result<String, ModelError> {
        let files = match self {
            Self::Gguf(file) => {
                let file = GgufFile::open(file)?;
                match file.paths().as_slice() {
                    [one] => return sha256_of_file(one),
                    parts => parts.iter().map(|part| part.to_path_buf()).collect(),
                }
            }
            Self::Directory(directory) => weight_files(directory)?,
        };
        let mut hash = Sha256::new();
        for file in files {
            hash.update(sha256_of_file(&file)?);
        }
        Ok(hex::encode(hash.finalize()))
    }

    /// Reads the configuration alone.
    ///
    /// # Errors
    /// As [`load`](Self::load), of the configuration.
    pub fn config(&self) -> Result<ModelConfig, ModelError> {
        match self {
            Self::Gguf(path) => GgufFile::open(path)?.config(),
            Self::Directory(directory) => read_config(directory),
        }
    }

    /// Reads configuration and weights.
    ///
    /// # Errors
    /// Anything that is missing, malformed or does not fit, by name.
    pub fn load(&self, placement: impl Into<Placement>) -> Result<Decoder, ModelError> {
        let (config, weights) = self.open()?;
        Decoder::load(config, weights, placement)
    }

    fn open(&self) -> Result<(ModelConfig, Weights), ModelError> {
        match self {
            Self::Gguf(path) => {
                let mut file = GgufFile::open(path)?;
                Ok((file.config()?, Weights::from_gguf(file)))
            }
            Self::Directory(directory) => {
                let config = read_config(directory)?;
                let files = SafetensorsFiles::open(&weight_files(directory)?)?;
                Ok((config, Weights::from_safetensors(files)))
            }
        }
    }
}

/// The first GGUF file of a directory, by name.
fn gguf_in(directory: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(directory).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "gguf"))
        .min()
}

/// SHA-256 of a file, hex.
///
/// # Errors
/// The file cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<String, ModelError> {
    let hash = || -> io::Result<String> {
        let (mut file, _) = regular::open(path, Links::Follow)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex::encode(hash.finalize())),
                n => hash.update(&buffer[..n]),
            }
        }
    };
    hash().map_err(|source| ModelError::Io {
        path: path.to_owned(),
        source,
    })
}
