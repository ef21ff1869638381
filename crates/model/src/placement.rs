//! Where a model's tensors are, and who computes with them.

use candle_core::{DType, Device, Tensor};

use super::config::ModelConfig;
use super::error::ModelError;
use super::kernels::paged_attention::KvType;
use super::linear::LinearFormat;
use super::shard::Shard;

/// Where a model's tensors are, and in which types.
#[derive(Debug, Clone)]
pub struct Placement {
    /// Where weights, activations and KV blocks are.
    pub device: Device,
    /// Type of activations, of weights that are neither packed nor quantized, and of KV blocks that are not
    /// for our kernels.
    pub dtype: DType,
    /// What our kernels keep keys and values as.
    pub kv_type: KvType,
    /// How linear layers are kept.
    pub format: LinearFormat,
    /// Which part of the model this is, where several devices share one.
    pub shard: Option<Shard>,
}

/// Who computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Our own kernels: f32, on the CPU; rows do not see each other.
    Kernels,
    /// Operations of the tensor library, which run on any device and in any float type.
    Portable,
}

impl Placement {
    /// Linear layers as plain matrices of `dtype` on `device`.
    pub fn dense(device: Device, dtype: DType) -> Self {
        Self {
            device,
            dtype,
            kv_type: KvType::F32,
            format: LinearFormat::Dense,
            shard: None,
        }
    }

    /// Who computes with tensors that are placed so. Dense layers never go through our kernels: a dense
    /// model on the CPU runs what a GPU would run, operation by operation.
    pub fn route(&self) -> Route {
        let ours = self.device.is_cpu() && self.dtype == DType::F32;
        match self.format {
            LinearFormat::Dense => Route::Portable,
            _ if ours => Route::Kernels,
            _ => Route::Portable,
        }
    }

    /// What of a model's shape is here.
    ///
    /// # Errors
    /// A model that cannot be divided over so many devices.
    pub fn local(&self, whole: &ModelConfig) -> std::result::Result<ModelConfig, ModelError> {
        match &self.shard {
            Some(shard) => shard.config(whole),
            None => Ok(whole.clone()),
        }
    }

    /// A tensor, brought here.
    ///
    /// # Errors
    /// No memory.
    pub(super) fn place(&self, tensor: &Tensor) -> candle_core::Result<Tensor> {
        // The type first: half the bytes cross the bus.
        tensor.to_dtype(self.dtype)?.to_device(&self.device)
    }
}

impl From<LinearFormat> for Placement {
    /// On the CPU, in f32, keys and values too.
    fn from(format: LinearFormat) -> Self {
        Self {
            device: Device::Cpu,
            dtype: DType::F32,
            kv_type: KvType::F32,
            format,
            shard: None,
        }
    }
}
