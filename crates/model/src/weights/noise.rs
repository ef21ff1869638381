//! Weights that are noise of about the size of a trained model's.

use candle_core::{DType, Device, Result, Shape, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Makes tensors out of their names.
#[derive(Debug)]
pub struct Noise {
    device: Device,
    seed: u64,
}

impl Noise {
    pub(super) fn new(device: Device, seed: u64) -> Self {
        Self { device, seed }
    }

    /// Norms are 1; matrices keep the size of what they multiply, on average.
    pub(super) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let shape = Shape::from(shape.to_vec());
        if name.contains("norm") {
            return Tensor::ones(shape, DType::F32, &self.device);
        }
        let n_in = shape.dims().last().copied().unwrap_or(1);
        let size = 1.0 / (n_in as f32).sqrt();
        if !self.device.is_cpu() {
            return Tensor::randn(0f32, size, shape, &self.device);
        }
        let mut key = Sha256::new();
        key.update(self.seed.to_le_bytes());
        key.update(name);
        let mut random = ChaCha8Rng::from_seed(key.finalize().into());
        // Uniform, of the same variance.
        let bound = size * 3f32.sqrt();
        let values = (0..shape.elem_count()).map(|_| random.random_range(-bound..bound));
        Tensor::from_vec(values.collect::<Vec<f32>>(), shape, &self.device)
    }
}
