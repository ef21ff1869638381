//! An open GGUF model: its metadata and its tensors, whichever part they are in.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::keys::integer;
use super::names::{hugging_face_name, interleaved_row, uninterleave, ROPE_FACTORS};
use super::{header, parts};
use crate::error::ModelError;
use crate::kernels::quantized::QuantizedMatrix;
use crate::weights::missing;
use attune_files::{self as regular, Links};

/// An open GGUF model.
#[derive(Debug)]
pub struct GgufFile {
    /// In order; the first has the metadata.
    parts: Vec<Part>,
    /// Hugging Face name to where the tensor is.
    tensors: HashMap<String, Place>,
    /// Heads of q and k whose rows llama.cpp's converter interleaved (family llama only).
    pub(super) interleaved: Option<(usize, usize)>,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    content: Content,
    reader: BufReader<File>,
}

/// A tensor's part and the name that it has there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    part: usize,
    name: String,
}

impl GgufFile {
    /// Opens a file, and the other parts of the model if it is the first of several. Every tensor lies inside
    /// its file.
    ///
    /// # Errors
    /// A file that is not GGUF or is truncated, tensors of a type that is not read, parts that are missing or of
    /// another model.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let first = Part::open(path)?;
        let mut all = vec![first];
        for other in all[0].other_parts()? {
            all.push(Part::open(&other)?);
        }
        let n = all.len();
        for (i, part) in all.iter().enumerate().skip(1) {
            if part.split()? != Some((i, n)) {
                return Err(part.broken(&format!("it is not part {} of {n} of this model", i + 1)));
            }
        }
        let sandwich = all.iter().any(|p| {
            p.content
                .tensor_infos
                .contains_key("blk.0.post_attention_norm.weight")
        });
        let mut tensors = HashMap::new();
        for (i, part) in all.iter().enumerate() {
            for name in part.content.tensor_infos.keys() {
                let place = Place {
                    part: i,
                    name: name.clone(),
                };
                if tensors
                    .insert(hugging_face_name(name, sandwich), place)
                    .is_some()
                {
                    return Err(part.broken(&format!("tensor {name} is there twice")));
                }
            }
        }
        Ok(Self {
            parts: all,
            tensors,
            interleaved: None,
        })
    }

    /// The files, in order.
    pub fn paths(&self) -> Vec<&Path> {
        self.parts.iter().map(|part| part.path.as_path()).collect()
    }

    /// A metadata value, by its full key.
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        self.all_metadata().get(key)
    }

    pub(super) fn all_metadata(&self) -> &HashMap<String, Value> {
        &self.parts[0].content.metadata
    }

    /// The file that was named.
    pub(super) fn path(&self) -> &Path {
        &self.parts[0].path
    }

    /// Whether there is a tensor of this (Hugging Face) name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Names of the tensors, as Hugging Face would write them.
    pub(in crate::weights) fn tensor_names(&self) -> BTreeSet<String> {
        let computed = |name: &&String| name.as_str() != ROPE_FACTORS;
        self.tensors.keys().filter(computed).cloned().collect()
    }

    /// The shape of a tensor.
    pub(in crate::weights) fn shape(&self, name: &str) -> Result<Vec<usize>, ModelError> {
        self.shape_of(name).ok_or_else(|| missing(name))
    }

    pub(super) fn shape_of(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.info(name)?.shape.dims().to_vec())
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        let place = self.tensors.get(name)?;
        let content = &self.parts[place.part].content;
        content.tensor_infos.get(&place.name)
    }

    /// A tensor, dequantized.
    pub(in crate::weights) fn tensor(&mut self, name: &str) -> Result<Tensor, ModelError> {
        let tensor = self.read(name, |stored| stored.dequantize(&Device::Cpu))?;
        match self.interleaved_heads(name) {
            Some(heads) => Ok(uninterleave(&tensor, heads)?),
            None => Ok(tensor),
        }
    }

    /// The type in which a tensor is in the file.
    pub(in crate::weights) fn stored_as(&self, name: &str) -> Result<GgmlDType, ModelError> {
        let info = self.info(name).ok_or_else(|| missing(name))?;
        Ok(info.ggml_dtype)
    }

    /// A quantized matrix in its own blocks.
    pub(in crate::weights) fn blocks(&mut self, name: &str) -> Result<QuantizedMatrix, ModelError> {
        let heads = self.interleaved_heads(name);
        self.read(name, |stored| match heads {
            Some(heads) => {
                let head_dim = stored.shape().dims2()?.0 / heads;
                QuantizedMatrix::new(stored, |row| interleaved_row(row, head_dim))
            }
            None => QuantizedMatrix::new(stored, |row| row),
        })
    }

    fn read<T>(
        &mut self,
        name: &str,
        convert: impl Fn(&QTensor) -> candle_core::Result<T>,
    ) -> Result<T, ModelError> {
        let place = self.tensors.get(name).ok_or_else(|| missing(name))?;
        let part = &mut self.parts[place.part];
        let stored = part
            .content
            .tensor(&mut part.reader, &place.name, &Device::Cpu);
        stored.and_then(|stored| convert(&stored)).map_err(|e| {
            ModelError::Weights(format!("tensor {name} of {}: {e}", part.path.display()))
        })
    }

    /// Heads of a tensor whose rows are interleaved.
    fn interleaved_heads(&self, name: &str) -> Option<usize> {
        let (q, k) = self.interleaved?;
        match name {
            n if n.contains("q_proj") => Some(q),
            n if n.contains("k_proj") => Some(k),
            _ => None,
        }
    }
}

impl Part {
    fn open(path: &Path) -> Result<Self, ModelError> {
        let unreadable = |source| ModelError::Io {
            path: path.to_owned(),
            source,
        };
        let (mut file, length) = regular::open(path, Links::Follow).map_err(unreadable)?;
        header::check(&mut file).map_err(|e| broken(path, &e.to_string()))?;
        let mut reader = BufReader::new(file);
        reader.rewind().map_err(unreadable)?;
        let content = Content::read(&mut reader).map_err(|e| broken(path, &e.to_string()))?;
        for (name, info) in &content.tensor_infos {
            let blocks = info.shape.elem_count() / info.ggml_dtype.block_size();
            let bytes = (blocks * info.ggml_dtype.type_size()) as u64;
            let end = content.tensor_data_offset.checked_add(info.offset);
            if end
                .and_then(|e| e.checked_add(bytes))
                .is_none_or(|e| e > length)
            {
                let what = format!(
                    "it is truncated: tensor {name} ends beyond the file (fetch it again; pieces that were cut with split are \
                     joined with cat)"
                );
                return Err(broken(path, &what));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            content,
            reader,
        })
    }

    /// Which part this is, from 0, and of how many; `None` if it is a whole model.
    fn split(&self) -> Result<Option<(usize, usize)>, ModelError> {
        let count = |key: &str| match self.content.metadata.get(key) {
            None => Ok(None),
            Some(value) => integer(value)
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| *n <= parts::MAX_PARTS)
                .map(Some)
                .ok_or_else(|| self.broken(&format!("GGUF key {key} is not a number of parts"))),
        };
        let (number, n) = (count("split.no")?, count("split.count")?);
        Ok(n.filter(|n| *n > 1).map(|n| (number.unwrap_or(0), n)))
    }

    /// Where the other parts are, if this is the first of several.
    fn other_parts(&self) -> Result<Vec<PathBuf>, ModelError> {
        let Some((number, n)) = self.split()? else {
            return Ok(vec![]);
        };
        let paths = parts::paths(&self.path, number + 1, n).ok_or_else(|| {
            self.broken(&format!(
                "it is part {} of {n}, and not named so: parts are found by names that end in -{:05}-of-{n:05}.gguf",
                number + 1,
                number + 1
            ))
        })?;
        if number > 0 {
            return Err(self.broken(&format!(
                "it is part {} of {n} of a model: give the first, {}",
                number + 1,
                paths[0].display()
            )));
        }
        let gone: Vec<String> = paths
            .iter()
            .filter(|path| !path.is_file())
            .map(|path| path.display().to_string())
            .collect();
        if !gone.is_empty() {
            return Err(self.broken(&format!(
                "it is part 1 of {n} of a model, and there is no {}",
                gone.join(", ")
            )));
        }
        Ok(paths.into_iter().skip(1).collect())
    }

    fn broken(&self, what: &str) -> ModelError {
        broken(&self.path, what)
    }
}

fn broken(path: &Path, what: &str) -> ModelError {
    ModelError::Weights(format!(
        "{} is not a readable GGUF file: {what}",
        path.display()
    ))
}
