//! Frequencies of the rotary embedding, scaled as a model's configuration says.

use std::f64::consts::PI;

use super::config::{RopeScaling, Yarn};

/// The frequencies of heads of width `head_dim`, (head_dim / 2).
pub(super) fn frequencies(base: f64, head_dim: usize, scaling: &RopeScaling) -> Vec<f32> {
    let frequency = |j: usize| {
        let frequency = 1.0 / base.powf(2.0 * j as f64 / head_dim as f64);
        match scaling {
            RopeScaling::None => frequency,
            RopeScaling::Linear { factor } => frequency / factor,
            RopeScaling::Factors(factors) => frequency / f64::from(factors[j]),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_positions,
            } => {
                let bounds = [*low_freq_factor, *high_freq_factor];
                llama3(frequency, *factor, bounds, *original_max_positions as f64)
            }
            RopeScaling::Yarn(yarn) => {
                let divided = divided_by_yarn(j, base, head_dim, yarn);
                frequency * (1.0 - divided) + frequency / yarn.factor * divided
            }
        }
    };
    (0..head_dim / 2).map(|j| frequency(j) as f32).collect()
}

/// The factor of cosines and sines.
pub(super) fn magnitude(scaling: &RopeScaling) -> f32 {
    match scaling {
        RopeScaling::Yarn(yarn) => yarn.magnitude as f32,
        _ => 1.0,
    }
}

fn llama3(frequency: f64, factor: f64, [low, high]: [f64; 2], length: f64) -> f64 {
    let wavelength = 2.0 * PI / frequency;
    if wavelength < length / high {
        frequency
    } else if wavelength > length / low {
        frequency / factor
    } else {
        let smooth = (length / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

/// How much of frequency j YaRN divides, from 0 to 1 (section 3.2 of its paper).
fn divided_by_yarn(j: usize, base: f64, head_dim: usize, yarn: &Yarn) -> f64 {
    let length = yarn.original_max_positions as f64;
    // Which frequency turns so often within the original context.
    let at = |turns: f64| head_dim as f64 * (length / (turns * 2.0 * PI)).ln() / (2.0 * base.ln());
    let (low, high) = match yarn.truncate {
        true => (at(yarn.beta_fast).floor(), at(yarn.beta_slow).ceil()),
        false => (at(yarn.beta_fast), at(yarn.beta_slow)),
    };
    let (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
    let width = if low == high { 0.001 } else { high - low };
    ((j as f64 - low) / width).clamp(0.0, 1.0)
}
