//! The rotary embedding, in both dialects.
//!
//! transformers 4 writes `rope_theta` and `rope_scaling` (and `rope_local_base_freq` for Gemma 3),
//! transformers 5 `rope_parameters` with the base among them, for Gemma 3 one object a kind of layer. A file may
//! have both, from tools that write for both; then they must say the same.

use super::families::{Family, Kind};
use super::keys::Keys;
use crate::config::{RopeScaling, Yarn};

/// What a file says of rotary embeddings.
#[derive(Debug, PartialEq)]
pub(super) struct Ropes {
    pub base: f64,
    pub scaling: RopeScaling,
    /// Of sliding-window layers (Gemma 3).
    pub local_base: Option<f64>,
}

/// Base of Gemma 3's sliding-window layers where nothing is said.
const LOCAL_BASE: f64 = 1e4;

/// Takes every key about rotary embeddings. `max_positions` stands in for an original context that is not named.
pub(super) fn read(
    keys: &mut Keys,
    family: &Family,
    max_positions: usize,
) -> Result<Ropes, String> {
    let mut bases = Agreed::default();
    bases.add("rope_theta", keys.positive("rope_theta")?)?;
    all_of_the_head(
        "partial_rotary_factor",
        keys.number("partial_rotary_factor")?,
    )?;
    let original = keys.count("original_max_position_embeddings")?;
    let context = Context {
        original,
        max_positions,
    };
    let mut scalings = Agreed::default();
    let mut local_bases = Agreed::default();
    if family.kind == Kind::Gemma3 {
        local_bases.add(
            "rope_local_base_freq",
            keys.positive("rope_local_base_freq")?,
        )?;
    }
    for dialect in ["rope_scaling", "rope_parameters"] {
        let Some(rope) = keys.object(dialect)?.filter(|rope| !rope.is_empty()) else {
            continue;
        };
        let by_layer_type = dialect == "rope_parameters" && family.kind == Kind::Gemma3;
        let (global, local) = match by_layer_type {
            true => of_layer_types(rope)?,
            false => (Some(rope), None),
        };
        if let Some(local) = local {
            let name = local.name("rope_theta");
            let (base, scaling) = one(local, &context)?;
            if scaling != RopeScaling::None {
                return Err(format!("{dialect}.sliding_attention: scaled positions are not supported in layers with a window"));
            }
            local_bases.add(&name, base)?;
        }
        if let Some(global) = global {
            let name = global.name("rope_theta");
            let (base, scaling) = one(global, &context)?;
            bases.add(&name, base)?;
            scalings.add(dialect, Some(scaling))?;
        }
    }
    Ok(Ropes {
        base: bases.value().unwrap_or(family.rope_base),
        scaling: scalings.value().unwrap_or(RopeScaling::None),
        local_base: (family.kind == Kind::Gemma3)
            .then(|| local_bases.value().unwrap_or(LOCAL_BASE)),
    })
}

/// The positions that scaling makes of `max_positions`, as vLLM counts them; 0 where files state the scaled ones.
pub(super) fn reach(scaling: &RopeScaling, max_positions: usize) -> usize {
    let (positions, factor) = match scaling {
        RopeScaling::Linear { factor } => (max_positions, *factor),
        RopeScaling::Yarn(yarn) => (yarn.original_max_positions, yarn.factor),
        _ => return 0,
    };
    (positions as f64 * factor) as usize
}

/// The context that a scaled model was first trained for, where its file says so outside `rope_scaling`.
struct Context {
    original: Option<usize>,
    max_positions: usize,
}

/// One value that several keys may give.
struct Agreed<T>(Option<(String, T)>);

impl<T> Default for Agreed<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: PartialEq + std::fmt::Debug> Agreed<T> {
    fn add(&mut self, name: &str, value: Option<T>) -> Result<(), String> {
        let Some(value) = value else { return Ok(()) };
        match &self.0 {
            Some((first, agreed)) if *agreed != value => Err(format!(
                "{first} ({agreed:?}) and {name} ({value:?}) disagree: keep the one that the model was trained with"
            )),
            Some(_) => Ok(()),
            None => {
                self.0 = Some((name.to_owned(), value));
                Ok(())
            }
        }
    }

    fn value(self) -> Option<T> {
        self.0.map(|(_, value)| value)
    }
}

/// Gemma 3: of layers that see everything, and of layers with a window.
fn of_layer_types(mut rope: Keys) -> Result<(Option<Keys>, Option<Keys>), String> {
    let parts = (
        rope.object("full_attention")?,
        rope.object("sliding_attention")?,
    );
    rope.finish_strictly().map_err(|problem| {
        format!("{problem}: of this family it has full_attention and sliding_attention inside")
    })?;
    Ok(parts)
}

/// Base and scaling that one object describes.
fn one(mut rope: Keys, context: &Context) -> Result<(Option<f64>, RopeScaling), String> {
    let base = rope.positive("rope_theta")?;
    let name = rope.name("partial_rotary_factor");
    all_of_the_head(&name, rope.number("partial_rotary_factor")?)?;
    // Files for old and new versions have both names; where they differ, transformers and llama.cpp go by rope_type.
    let (new, old) = (rope.text("rope_type")?, rope.text("type")?);
    let kind = new.or(old);
    if kind.is_none() && rope.is_set("factor") {
        let name = rope.name("factor");
        return Err(format!(
            "{name} is there without a rope_type, which says what it is for"
        ));
    }
    let scaling = match kind.as_deref().unwrap_or("default") {
        "default" => none(&mut rope)?,
        "linear" => RopeScaling::Linear {
            factor: needed(&mut rope, "factor")?,
        },
        // It begins behind the context that the model is run with.
        "dynamic" => {
            needed(&mut rope, "factor")?;
            RopeScaling::None
        }
        "llama3" => llama3(&mut rope, context)?,
        "yarn" => yarn(&mut rope, context)?,
        other => {
            let name = rope.name("rope_type");
            return Err(format!(
                "{name} {other:?} is not supported (default, linear, dynamic, llama3 and yarn are)"
            ));
        }
    };
    // Of another type than this: transformers does not read them.
    for other in [
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
        "finetuned",
    ] {
        rope.drop(other);
    }
    rope.finish_strictly()?;
    Ok((base, scaling))
}

/// A factor beside "default" is a file that was changed by hand, one half of it.
fn none(rope: &mut Keys) -> Result<RopeScaling, String> {
    let name = rope.name("factor");
    match rope.number("factor")? {
        None | Some(1.0) => Ok(RopeScaling::None),
        Some(factor) => Err(format!(
            "{name} = {factor} and the rope_type \"default\", which scales nothing, disagree"
        )),
    }
}

fn llama3(rope: &mut Keys, context: &Context) -> Result<RopeScaling, String> {
    let factor = needed(rope, "factor")?;
    let low_freq_factor = needed(rope, "low_freq_factor")?;
    let high_freq_factor = needed(rope, "high_freq_factor")?;
    if high_freq_factor <= low_freq_factor {
        let name = rope.name("high_freq_factor");
        return Err(format!("{name} is not above low_freq_factor"));
    }
    Ok(RopeScaling::Llama3 {
        factor,
        low_freq_factor,
        high_freq_factor,
        original_max_positions: original(rope, context)?,
    })
}

fn yarn(rope: &mut Keys, context: &Context) -> Result<RopeScaling, String> {
    let factor = needed(rope, "factor")?;
    let (some, all) = (rope.number("mscale")?, rope.number("mscale_all_dim")?);
    let grown = |by: f64| match factor > 1.0 {
        true => 0.1 * by * factor.ln() + 1.0,
        false => 1.0,
    };
    let nonzero = |value: Option<f64>| value.filter(|v| *v != 0.0);
    let magnitude = match (
        rope.positive("attention_factor")?,
        nonzero(some),
        nonzero(all),
    ) {
        (Some(given), _, _) => given,
        (None, Some(some), Some(all)) => grown(some) / grown(all),
        (None, _, _) => grown(1.0),
    };
    Ok(RopeScaling::Yarn(Yarn {
        factor,
        original_max_positions: original(rope, context)?,
        beta_fast: rope.positive("beta_fast")?.unwrap_or(32.0),
        beta_slow: rope.positive("beta_slow")?.unwrap_or(1.0),
        truncate: rope.flag("truncate")?.unwrap_or(true),
        magnitude,
    }))
}

/// The context that the model was first trained for: as transformers 5 looks for it.
fn original(rope: &mut Keys, context: &Context) -> Result<usize, String> {
    const KEY: &str = "original_max_position_embeddings";
    let name = rope.name(KEY);
    let mut agreed = Agreed::default();
    agreed.add(KEY, context.original)?;
    agreed.add(&name, rope.count(KEY)?)?;
    match agreed.value() {
        Some(0) => Err(format!("{name} is 0")),
        given => Ok(given.unwrap_or(context.max_positions)),
    }
}

fn needed(rope: &mut Keys, key: &str) -> Result<f64, String> {
    let name = rope.name(key);
    rope.positive(key)?
        .ok_or_else(|| format!("{name} is missing"))
}

/// The decoder rotates whole heads.
fn all_of_the_head(name: &str, part: Option<f64>) -> Result<(), String> {
    match part {
        None | Some(1.0) => Ok(()),
        Some(part) => Err(format!(
            "{name} = {part} is not supported: heads are rotated as a whole"
        )),
    }
}
