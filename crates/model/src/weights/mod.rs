//! Weights from files, by the names that Hugging Face checkpoints use.
//!
//! A tensor is taken once, with the shape that the decoder needs; what is missing, misshapen or left
//! over is an error that names it.

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};

use super::error::ModelError;
use super::kernels::quantized::QuantizedMatrix;
use super::linear::LinearFormat;
use super::placement::Placement;

pub mod config_json;
pub mod gguf;
mod hints;
pub mod hugging_face;
mod noise;
pub mod safetensors_header;

use gguf::GgufFile;
use hugging_face::SafetensorsFiles;
use noise::Noise;

/// A matrix as its file has it.
#[derive(Debug, Clone)]
pub enum AsStored {
    /// Numbers, in a float type.
    Numbers(Tensor),
    /// Blocks of quantized numbers.
    Blocks(Arc<QuantizedMatrix>),
}

impl AsStored {
    /// A part of a matrix, say, which blocks cannot give.
    pub(crate) fn map(
        self,
        part: impl FnOnce(Tensor) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Self> {
        match self {
            Self::Numbers(tensor) => part(tensor).map(Self::Numbers),
            blocks @ Self::Blocks(_) => Ok(blocks),
        }
    }
}

/// Where tensors come from.
#[derive(Debug)]
enum Source {
    Gguf(GgufFile),
    Safetensors(SafetensorsFiles),
    Noise(Noise),
}

/// The tensors of one model, until the decoder has taken them.
#[derive(Debug)]
pub struct Weights {
    source: Source,
    left: BTreeSet<String>,
}

impl Weights {
    /// The tensors of a GGUF file.
    pub fn from_gguf(file: GgufFile) -> Self {
        let left = file.tensor_names();
        Self {
            source: Source::Gguf(file),
            left,
        }
    }

    /// The tensors of a Hugging Face directory.
    pub fn from_safetensors(files: SafetensorsFiles) -> Self {
        let left = files.tensor_names();
        Self {
            source: Source::Safetensors(files),
            left,
        }
    }

    /// Noise instead of a model, made on `device`: to measure, and to compare devices. On the CPU the same
    /// seed gives the same numbers.
    pub fn noise(device: Device, seed: u64) -> Self {
        Self {
            source: Source::Noise(Noise::new(device, seed)),
            left: BTreeSet::new(),
        }
    }

    /// A tensor as f32, on the CPU if it comes from a file.
    ///
    /// # Errors
    /// It is not there, has another shape, or cannot be read.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        self.find(name, shape)?;
        let tensor = match &mut self.source {
            Source::Gguf(file) => file.tensor(name)?,
            Source::Safetensors(files) => files.tensor(name)?,
            Source::Noise(noise) => noise.tensor(name, shape)?,
        };
        Ok(tensor.to_dtype(DType::F32)?)
    }

    /// A matrix: as the file has it where it shall be kept so and is not divided, else in f32.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_for(
        &mut self,
        placement: &Placement,
        name: &str,
        shape: [usize; 2],
    ) -> Result<AsStored, ModelError> {
        if placement.format != LinearFormat::AsStored || placement.shard.is_some() {
            return self.take(name, &shape).map(AsStored::Numbers);
        }
        self.find(name, &shape)?;
        let tensor = match &mut self.source {
            Source::Gguf(file) => match file.stored_as(name)? {
                GgmlDType::F32 => file.tensor(name)?,
                // Exact: the numbers are of that type.
                GgmlDType::F16 => file.tensor(name)?.to_dtype(DType::F16)?,
                GgmlDType::BF16 => file.tensor(name)?.to_dtype(DType::BF16)?,
                _ => return Ok(AsStored::Blocks(Arc::new(file.blocks(name)?))),
            },
            Source::Safetensors(files) => files.tensor(name)?,
            Source::Noise(noise) => noise.tensor(name, &shape)?,
        };
        Ok(AsStored::Numbers(tensor))
    }

    /// Takes a name off the list. Nothing is read or allocated yet.
    fn find(&mut self, name: &str, shape: &[usize]) -> Result<(), ModelError> {
        let is_there = self.left.remove(name) || matches!(self.source, Source::Noise(_));
        if !is_there {
            return Err(hints::missing(name, &self.left));
        }
        let got = match &self.source {
            Source::Gguf(file) => file.shape(name)?,
            Source::Safetensors(files) => files.shape(name)?,
            Source::Noise(_) => shape.to_vec(),
        };
        match got == shape {
            true => Ok(()),
            false => Err(ModelError::Weights(format!(
                "tensor {name} has shape {got:?}, not {shape:?}"
            ))),
        }
    }

    /// Whether a tensor is there and was not taken.
    pub fn has(&self, name: &str) -> bool {
        self.left.contains(name)
    }

    /// Leaves out a table that the configuration calls the same as `original`, if it is there.
    ///
    /// # Errors
    /// It is there and is another: versions of transformers differ in which of the two they use.
    pub fn leave_out_copy(&mut self, name: &str, original: &str) -> Result<(), ModelError> {
        if !self.left.remove(name) {
            return Ok(());
        }
        match &self.source {
            Source::Safetensors(files) if !files.are_equal(name, original)? => {
                Err(ModelError::Weights(format!(
                    "{name} differs from {original}, and config.json ties them (tie_word_embeddings): set that to false if \
                     the model was trained with both, or remove {name} if it was not"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Checks that every tensor was taken.
    ///
    /// # Errors
    /// The tensors that are left over: the file is of another kind of model than its configuration
    /// says.
    pub fn finish(self) -> Result<(), ModelError> {
        // Buffers that old checkpoints carry; they are computed here.
        let left: Vec<_> = self
            .left
            .iter()
            .filter(|n| !n.ends_with(".rotary_emb.inv_freq"))
            .collect();
        match left.as_slice() {
            [] => Ok(()),
            [first, ..] => Err(ModelError::Weights(format!(
                "{} tensors are not used by this kind of model, {first} among them",
                left.len()
            ))),
        }
    }
}

fn missing(name: &str) -> ModelError {
    ModelError::Weights(format!("tensor {name} is missing"))
}
