//! Normalisation and rotary position embedding.

use candle_core::{Device, Result, Tensor};

use super::config::RopeScaling;

/// RMSNorm with its weight.
#[derive(Debug)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f32,
}

impl RmsNorm {
    /// `weight` is (width); with `plus_one` the factor is 1 + weight (Gemma 3 as Hugging Face
    /// stores it).
    ///
    /// # Errors
    /// No memory.
    pub fn new(weight: Tensor, eps: f64, plus_one: bool) -> Result<Self> {
        let weight = if plus_one { (weight + 1.0)? } else { weight };
        Ok(Self {
            weight,
            eps: eps as f32,
        })
    }

    /// Over the last dimension of x, f32, contiguous.
    ///
    /// # Errors
    /// A misshapen x.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        candle_nn::ops::rms_norm(x, &self.weight, self.eps)
    }

    /// Over each head: x is (rows, heads * width).
    ///
    /// # Errors
    /// A misshapen x.
    pub fn forward_heads(&self, x: &Tensor, head_dim: usize) -> Result<Tensor> {
        let shape = x.shape().clone();
        self.forward(&x.reshape(((), head_dim))?)?.reshape(shape)
    }
}

/// Frequencies of the rotary embedding: `angle(position, j) = position * frequency[j]`.
#[derive(Debug, Clone)]
pub struct Rope {
    frequencies: Vec<f32>,
}

/// Cosines and sines of one batch's positions, (rows, head_dim / 2) each.
#[derive(Debug)]
pub struct RopeAngles {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// For heads of width `head_dim`.
    pub fn new(base: f64, head_dim: usize, scaling: &RopeScaling) -> Self {
        let frequency = |j: usize| 1.0 / base.powf(2.0 * j as f64 / head_dim as f64);
        let frequencies =
            (0..head_dim / 2).map(|j| scale_frequency(frequency(j), j, scaling) as f32);
        Self {
            frequencies: frequencies.collect(),
        }
    }

    /// For one batch.
    ///
    /// # Errors
    /// No memory.
    pub fn angles(&self, positions: &[usize]) -> Result<RopeAngles> {
        let shape = (positions.len(), self.frequencies.len());
        let angles = || {
            positions
                .iter()
                .flat_map(|p| self.frequencies.iter().map(move |f| *p as f32 * f))
        };
        let cos: Vec<f32> = angles().map(f32::cos).collect();
        let sin: Vec<f32> = angles().map(f32::sin).collect();
        Ok(RopeAngles {
            cos: Tensor::from_vec(cos, shape, &Device::Cpu)?,
            sin: Tensor::from_vec(sin, shape, &Device::Cpu)?,
        })
    }
}

impl RopeAngles {
    /// Rotates each head of x, (rows, heads * head_dim), pairing element j with j + head_dim / 2.
    ///
    /// # Errors
    /// A misshapen x.
    pub fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let head_dim = self.cos.dim(1)? * 2;
        let heads = x.reshape((1, rows, width / head_dim, head_dim))?;
        candle_nn::rotary_emb::rope_thd(&heads, &self.cos, &self.sin)?.reshape((rows, width))
    }
}

fn scale_frequency(frequency: f64, index: usize, scaling: &RopeScaling) -> f64 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Factors(factors) => frequency / f64::from(factors[index]),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_positions,
        } => {
            let length = *original_max_positions as f64;
            let wavelength = 2.0 * std::f64::consts::PI / frequency;
            if wavelength < length / high_freq_factor {
                frequency
            } else if wavelength > length / low_freq_factor {
                frequency / factor
            } else {
                let smooth =
                    (length / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
    }
}
