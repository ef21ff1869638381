//! Normalisation and rotary position embedding.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::config::RopeScaling;
use super::kernels::rms_norm::rms_norm;
use super::kernels::rope::{rotate, Angles};

/// RMSNorm with its weight.
#[derive(Debug)]
pub struct RmsNorm {
    weight: Arc<[f32]>,
    eps: f32,
}

impl RmsNorm {
    /// `weight` is (width); with `plus_one` the factor is 1 + weight (Gemma 3 as Hugging Face
    /// stores it).
    ///
    /// # Errors
    /// A weight that is not a vector of f32.
    pub fn new(weight: Tensor, eps: f64, plus_one: bool) -> Result<Self> {
        let weight = if plus_one { (weight + 1.0)? } else { weight };
        Ok(Self {
            weight: weight.to_vec1::<f32>()?.into(),
            eps: eps as f32,
        })
    }

    /// Over the last dimension of x, f32, contiguous.
    ///
    /// # Errors
    /// A misshapen x.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        rms_norm(x, &self.weight, self.eps)
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

/// The rotations of one batch's rows.
#[derive(Debug)]
pub struct RopeAngles(Arc<Angles>);

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
    pub fn angles(&self, positions: &[usize]) -> RopeAngles {
        let angles = || {
            positions
                .iter()
                .flat_map(|p| self.frequencies.iter().map(move |f| *p as f32 * f))
        };
        RopeAngles(Arc::new(Angles {
            cos: angles().map(f32::cos).collect(),
            sin: angles().map(f32::sin).collect(),
            half: self.frequencies.len(),
        }))
    }
}

impl RopeAngles {
    /// Rotates each head of x, (rows, heads * head_dim), pairing element j with j + head_dim / 2.
    ///
    /// # Errors
    /// A misshapen x.
    pub fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        rotate(x, &self.0)
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
