//! The rotary embedding of a GGUF file, as llama.cpp reads it.

use super::keys::Keys;
use crate::config::{RopeScaling, Yarn};

/// Takes every key about scaled positions. `factors` are the divisors that the file has as a tensor.
pub(super) fn scaling(
    keys: &mut Keys,
    factors: Option<Vec<f32>>,
    max_positions: usize,
) -> Result<RopeScaling, String> {
    let kind = keys.text("rope.scaling.type")?;
    let factor = factor(keys)?;
    let original = keys.count("rope.scaling.original_context_length")?;
    match (kind, factors) {
        (Some("none"), None) => Ok(RopeScaling::None),
        (Some("none"), Some(factors)) => Ok(RopeScaling::Factors(factors)),
        // llama.cpp scales linearly where no type is said.
        (None | Some("linear"), None) => Ok(match factor {
            1.0 => RopeScaling::None,
            factor => RopeScaling::Linear { factor },
        }),
        (None | Some("linear"), Some(factors)) => {
            let both = factors.iter().map(|f| (f64::from(*f) * factor) as f32);
            Ok(RopeScaling::Factors(both.collect()))
        }
        (Some("yarn"), None) => yarn(
            keys,
            factor,
            original.filter(|n| *n > 0).unwrap_or(max_positions),
        ),
        (Some("yarn"), Some(_)) => Err(format!(
            "{} \"yarn\" beside a tensor rope_freqs.weight is not supported",
            keys.name("rope.scaling.type")
        )),
        (Some(other), _) => Err(format!(
            "{} {other:?} is not supported (none, linear and yarn are)",
            keys.name("rope.scaling.type")
        )),
    }
}

/// The divisor of positions; the older of its two names counts where the newer is missing, and 0 is none.
fn factor(keys: &mut Keys) -> Result<f64, String> {
    const NAMES: [&str; 2] = ["rope.scaling.factor", "rope.scale_linear"];
    let given = [keys.number(NAMES[0])?, keys.number(NAMES[1])?];
    let (name, factor) = match given {
        [Some(factor), _] => (NAMES[0], factor),
        [None, Some(factor)] => (NAMES[1], factor),
        [None, None] => return Ok(1.0),
    };
    match factor {
        0.0 => Ok(1.0),
        factor if factor > 0.0 && factor.is_finite() => Ok(factor),
        factor => Err(format!(
            "{} = {factor} is not a number above 0",
            keys.name(name)
        )),
    }
}

fn yarn(
    keys: &mut Keys,
    factor: f64,
    original_max_positions: usize,
) -> Result<RopeScaling, String> {
    const BETAS: [(&str, f64); 2] = [
        ("rope.scaling.yarn_beta_fast", 32.0),
        ("rope.scaling.yarn_beta_slow", 1.0),
    ];
    // llama.cpp reads other bounds in architectures that are not read here.
    for (key, usual) in BETAS {
        if let Some(other) = keys.number(key)?.filter(|beta| *beta != usual) {
            return Err(format!(
                "{} = {other} is not supported (only {usual})",
                keys.name(key)
            ));
        }
    }
    let own = keys.number("rope.scaling.attn_factor")?.unwrap_or(1.0);
    // -1 is "not set".
    let key = "rope.scaling.yarn_ext_factor";
    if let Some(other) = keys.number(key)?.filter(|f| ![1.0, -1.0].contains(f)) {
        return Err(format!(
            "{} = {other} is not supported (only 1)",
            keys.name(key)
        ));
    }
    Ok(RopeScaling::Yarn(Yarn {
        factor,
        original_max_positions,
        beta_fast: BETAS[0].1,
        beta_slow: BETAS[1].1,
        truncate: true,
        magnitude: own * (1.0 + 0.1 * factor.max(1.0).ln()),
    }))
}
