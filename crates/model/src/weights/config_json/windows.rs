//! Which layers see how far back.

use super::families::{Family, Kind};
use super::keys::Keys;

/// The window where a family with windows does not say one.
const DEFAULT_WINDOW: usize = 4096;
/// The first layer with a window, counted from the bottom, where Qwen does not say it.
const DEFAULT_WINDOWED_FROM: usize = 28;
/// Gemma 3: each layer of this number sees everything.
const DEFAULT_PATTERN: usize = 6;

/// Takes every key about windows: what each of `n_layers` layers sees, `None` everything.
pub(super) fn read(
    keys: &mut Keys,
    family: &Family,
    n_layers: usize,
) -> Result<Vec<Option<usize>>, String> {
    match family.kind {
        Kind::Llama => {
            // Left over from the model that a Llama was converted from; transformers does not look.
            for key in [
                "sliding_window",
                "sliding_window_pattern",
                "use_sliding_window",
                "max_window_layers",
                "layer_types",
            ] {
                keys.unread(key);
            }
            Ok(vec![None; n_layers])
        }
        Kind::Mistral => mistral(keys, n_layers),
        Kind::Qwen2 | Kind::Qwen3 => qwen(keys, n_layers),
        Kind::Gemma3 => gemma(keys, n_layers),
    }
}

/// All layers have the window, or none.
fn mistral(keys: &mut Keys, n_layers: usize) -> Result<Vec<Option<usize>>, String> {
    for key in ["use_sliding_window", "max_window_layers"] {
        keys.unread(key);
    }
    let window = window(keys)?;
    if let Some(types) = layer_types(keys, n_layers)? {
        if types.iter().any(|windowed| *windowed != window.is_some()) {
            return Err(
                "layer_types and sliding_window disagree: layers of model_type mistral are all alike".into(),
            );
        }
    }
    Ok(vec![window; n_layers])
}

/// A window only where it is switched on, and then from some layer on.
fn qwen(keys: &mut Keys, n_layers: usize) -> Result<Vec<Option<usize>>, String> {
    let is_on = keys.flag("use_sliding_window")?.unwrap_or(false);
    let window = window(keys)?.filter(|_| is_on);
    let first = keys
        .count("max_window_layers")?
        .unwrap_or(DEFAULT_WINDOWED_FROM);
    let types = layer_types(keys, n_layers)?;
    let windowed = types.unwrap_or_else(|| {
        (0..n_layers)
            .map(|i| window.is_some() && i >= first)
            .collect()
    });
    per_layer(&windowed, window)
}

/// Windows on all layers but some that see everything.
fn gemma(keys: &mut Keys, n_layers: usize) -> Result<Vec<Option<usize>>, String> {
    let names = ["sliding_window_pattern", "_sliding_window_pattern"];
    let patterns = [keys.count(names[0])?, keys.count(names[1])?];
    let pattern = patterns[0].or(patterns[1]).unwrap_or(DEFAULT_PATTERN);
    if pattern == 0 {
        return Err("sliding_window_pattern is 0".into());
    }
    let window = window(keys)?;
    let types = layer_types(keys, n_layers)?;
    let by_pattern = || {
        (0..n_layers)
            .map(|i| !(i + 1).is_multiple_of(pattern))
            .collect()
    };
    per_layer(&types.unwrap_or_else(by_pattern), window)
}

fn per_layer(windowed: &[bool], window: Option<usize>) -> Result<Vec<Option<usize>>, String> {
    if window.is_none() && windowed.contains(&true) {
        return Err(
            "layer_types has sliding_attention, but there is no sliding_window (or it is switched off)".into(),
        );
    }
    Ok(windowed.iter().map(|on| window.filter(|_| *on)).collect())
}

/// `None` is a null: no window. transformers has a default where nothing is said.
fn window(keys: &mut Keys) -> Result<Option<usize>, String> {
    if !keys.has("sliding_window") {
        return Ok(Some(DEFAULT_WINDOW));
    }
    match keys.count("sliding_window")? {
        Some(0) => Err("sliding_window is 0: a layer would see nothing".into()),
        window => Ok(window),
    }
}

/// Whether each layer has a window, where the file lists them.
fn layer_types(keys: &mut Keys, n_layers: usize) -> Result<Option<Vec<bool>>, String> {
    let Some(types) = keys.texts("layer_types")? else {
        return Ok(None);
    };
    if types.len() != n_layers {
        return Err(format!(
            "layer_types has {} entries, and num_hidden_layers is {n_layers}",
            types.len()
        ));
    }
    let windowed = |kind: &String| {
        match kind.as_str() {
        "full_attention" => Ok(false),
        "sliding_attention" => Ok(true),
        other => Err(format!(
            "layer_types has {other:?}, which is not supported (full_attention and sliding_attention are)"
        )),
    }
    };
    types
        .iter()
        .map(windowed)
        .collect::<Result<_, _>>()
        .map(Some)
}
