//! Safetensors of Hugging Face directories, in one file or several.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use serde::Deserialize;

use super::safetensors_header;
use crate::error::ModelError;
use attune_files::{self as regular, Links};

/// Bytes of a JSON file that are read; the index of a large model has some hundred kilobytes.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// The safetensors files of a directory, mapped into memory.
pub struct SafetensorsFiles {
    mapped: MmapedSafetensors,
}

impl std::fmt::Debug for SafetensorsFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SafetensorsFiles").finish_non_exhaustive()
    }
}

impl SafetensorsFiles {
    /// Maps the files that [`weight_files`] names.
    ///
    /// # Errors
    /// A file that is not safetensors or is truncated.
    pub fn open(files: &[PathBuf]) -> Result<Self, ModelError> {
        for path in files {
            let unreadable = |source| ModelError::Io {
                path: path.clone(),
                source,
            };
            let (mut file, length) = regular::open(path, Links::Follow).map_err(unreadable)?;
            safetensors_header::check(&mut file, length).map_err(|why| {
                ModelError::Weights(format!("{} is not safetensors: {why}", path.display()))
            })?;
        }
        // SAFETY: mapped files must not change while they are mapped. The mapping lives while the
        // decoder is built and no longer; README says that model files are not edited in place.
        #[expect(unsafe_code, reason = "memory-mapped files have no safe constructor")]
        let mapped = unsafe { MmapedSafetensors::multi(files) };
        let mapped = mapped.map_err(|e| {
            let names: Vec<_> = files.iter().map(|f| f.display().to_string()).collect();
            ModelError::Weights(format!("{} cannot be read: {e}", names.join(", ")))
        })?;
        Ok(Self { mapped })
    }

    pub(super) fn tensor_names(&self) -> BTreeSet<String> {
        self.mapped
            .tensors()
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    pub(super) fn shape(&self, name: &str) -> Result<Vec<usize>, ModelError> {
        Ok(self.mapped.get(name)?.shape().to_vec())
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Tensor, ModelError> {
        let stored = self.mapped.get(name)?.dtype();
        if !matches!(stored, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64) {
            return Err(ModelError::Weights(format!(
                "tensor {name} is stored as {stored:?}: quantized weights are not read; take the model that this one was made \
                 from (16 or 32 bits a number), or a GGUF file of it"
            )));
        }
        Ok(self.mapped.load(name, &Device::Cpu)?)
    }

    /// Whether two tensors have the same shape and values.
    pub(super) fn are_equal(&self, one: &str, other: &str) -> Result<bool, ModelError> {
        let (a, b) = (self.mapped.get(one)?, self.mapped.get(other)?);
        if a.shape() != b.shape() {
            return Ok(false);
        }
        if a.dtype() == b.dtype() {
            return Ok(a.data() == b.data());
        }
        let values = |name: &str| -> Result<Vec<f32>, ModelError> {
            let tensor = self.tensor(name)?.to_dtype(DType::F32)?;
            Ok(tensor.flatten_all()?.to_vec1()?)
        };
        Ok(values(one)? == values(other)?)
    }
}

/// The weight files of a directory: `model.safetensors`, or the shards that
/// `model.safetensors.index.json` names.
///
/// # Errors
/// Neither is there, the index is malformed or names a file outside the directory.
pub fn weight_files(directory: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let single = directory.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index_path = directory.join("model.safetensors.index.json");
    if !index_path.is_file() {
        return Err(ModelError::Weights(format!(
            "{} has neither model.safetensors nor model.safetensors.index.json (pickles such as pytorch_model.bin are not read)",
            directory.display()
        )));
    }
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = read_json(&index_path)?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    let plain = |name: &String| Path::new(name).components().count() == 1 && !name.contains("..");
    if let Some(name) = names.iter().find(|n| !plain(n)) {
        return Err(ModelError::Weights(format!(
            "{}: bad file name {name:?}",
            index_path.display()
        )));
    }
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

/// A JSON file of a model's directory.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let read = regular::read(path, MAX_JSON_BYTES, Links::Follow);
    let text = read.map_err(|source| ModelError::Io {
        path: path.to_owned(),
        source,
    })?;
    // Some editors put a byte order mark in front.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    serde_json::from_slice(text)
        .map_err(|e| ModelError::Config(format!("{} is malformed: {e}", path.display())))
}
