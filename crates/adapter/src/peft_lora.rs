//! The LoRA of a checkpoint, as its tensors, its configuration and the base model tell it together.

use std::collections::BTreeSet;

use super::error::AdapterError;
use super::manifest::{LoraManifest, LoraOverride};
use super::misfit::Base;
use super::peft_config::{refused, PeftConfig};
use super::peft_names::NamedTensors;
use super::peft_targets::Adapted;
use super::plan::{lora_name, parse_lora_name};
use attune_model::lora::Projection;

/// A layer: its block, and which it is of the block.
type Place = (usize, Projection);

/// The LoRA's description; `None`: there is none. The shapes of its tensors are not looked at.
///
/// # Errors
/// Tensors that the configuration does not speak of, or the other way round; blocks that `base` does not
/// have; blocks that differ in what is adapted.
pub(super) fn lora(
    named: &NamedTensors,
    config: &PeftConfig,
    base: &Base<'_>,
) -> Result<Option<LoraManifest>, AdapterError> {
    let names = named
        .tensors
        .keys()
        .filter_map(|name| parse_lora_name(name));
    let places: BTreeSet<Place> = names.map(|(layer, p, _)| (layer, p)).collect();
    let module = |(layer, p): Place| format!("{}.{layer}.{}", named.blocks, p.path());
    let adapted = |place: Place| config.adapt(&module(place), place.0);
    check_blocks(&places, config, base)?;
    check_promised(&places, config, base, adapted)?;
    let (targets, layers) = regular(&places)?;
    let Some(last) = layers.last() else {
        return Ok(None);
    };
    let n_layers = base.config.n_layers;
    let all = layers.len() == n_layers && last + 1 == n_layers;
    let (rank, alpha) = config.usual();
    let mut overrides = Vec::new();
    for place in &places {
        let own = config.of_module(&module(*place))?;
        if own != (rank, alpha) {
            let ((layer, target), (rank, alpha)) = (*place, own);
            overrides.push(LoraOverride {
                layer,
                target,
                rank,
                alpha,
            });
        }
    }
    Ok(Some(LoraManifest {
        rank,
        alpha,
        targets: targets.into_iter().collect(),
        layers: (!all).then(|| layers.into_iter().collect()),
        overrides,
    }))
}

/// A checkpoint of a model with more blocks.
fn check_blocks(
    places: &BTreeSet<Place>,
    config: &PeftConfig,
    base: &Base<'_>,
) -> Result<(), AdapterError> {
    match places.last() {
        Some((last, _)) if *last >= base.config.n_layers => {
            let misfit = format!("it adapts block {last}, counted from 0");
            Err(base.misfit(misfit, config.base_model.clone()))
        }
        _ => Ok(()),
    }
}

/// Checks that the tensors are those that the configuration promises.
fn check_promised(
    places: &BTreeSet<Place>,
    config: &PeftConfig,
    base: &Base<'_>,
    adapted: impl Fn(Place) -> Adapted,
) -> Result<(), AdapterError> {
    let first_name = |place: &Place| lora_name(place.0, place.1, 'A');
    // The tensors count where the configuration does not say, or says it in an expression, which Python may
    // read otherwise.
    let stray = places.iter().find(|place| adapted(**place) == Adapted::No);
    if let Some(stray) = stray.filter(|_| config.targets().are_listed()) {
        let chosen = config.targets().choose_blocks() && is_elsewhere(places, stray, &adapted);
        return Err(match chosen {
            true => refused(
                "layers_to_transform or target_modules",
                format!("block {} is not adapted, but has tensors", stray.0),
            ),
            false => AdapterError::UnexpectedTensors(vec![first_name(stray)]),
        });
    }
    let used: BTreeSet<Projection> = places.iter().map(|(_, p)| *p).collect();
    let every = (0..base.config.n_layers).flat_map(|layer| Projection::ALL.map(|p| (layer, p)));
    let missing = every.filter(|place| !places.contains(place));
    let missing: Vec<Place> = missing
        .filter(|place| match adapted(*place) {
            Adapted::Yes => true,
            Adapted::No => false,
            Adapted::Unsaid => used.contains(&place.1),
        })
        .collect();
    let Some((block, _)) = missing.first() else {
        return Ok(());
    };
    let last = places.iter().map(|(layer, _)| *layer).max();
    if let Some(last) = last.filter(|last| last < block) {
        // One of a model with fewer blocks.
        let misfit = format!("it adapts blocks 0 to {last} and no more");
        return Err(base.misfit(misfit, config.base_model.clone()));
    }
    if config.targets().choose_blocks() && places.iter().all(|(layer, _)| layer != block) {
        let reason = format!("block {block} is adapted, but has no tensors");
        return Err(refused("layers_to_transform or target_modules", reason));
    }
    match config.targets().not_understood() {
        Some(reason) => {
            let reason = format!("{reason}; write the list of modules in its place");
            Err(refused("target_modules", reason))
        }
        None => Err(AdapterError::MissingTensors(
            missing.iter().map(first_name).collect(),
        )),
    }
}

/// Whether the module of `stray` is adapted in other blocks.
fn is_elsewhere(
    places: &BTreeSet<Place>,
    stray: &Place,
    adapted: impl Fn(Place) -> Adapted,
) -> bool {
    let mut others = places.iter().filter(|(_, p)| *p == stray.1);
    others.any(|place| adapted(*place) == Adapted::Yes)
}

/// What is adapted in each of the blocks, and the blocks.
fn regular(
    places: &BTreeSet<Place>,
) -> Result<(BTreeSet<Projection>, BTreeSet<usize>), AdapterError> {
    let projections: BTreeSet<Projection> = places.iter().map(|(_, p)| *p).collect();
    let layers: BTreeSet<usize> = places.iter().map(|(layer, _)| *layer).collect();
    let mut every = layers
        .iter()
        .flat_map(|l| projections.iter().map(|p| (*l, *p)));
    match every.find(|place| !places.contains(place)) {
        None => Ok((projections, layers)),
        Some((layer, p)) => Err(refused(
            "target_modules",
            format!(
                "it adapts {} in one block and not in block {layer}; a version adapts the same modules \
                 in each of its blocks",
                p.path()
            ),
        )),
    }
}
