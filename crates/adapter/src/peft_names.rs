//! The names of a checkpoint's tensors, as PEFT's versions and the trainers around it write them, become
//! the one that a version has.
//!
//! What differs: the path of the language model inside a multimodal one, the adapter's own name
//! (`lora_A.default.weight`), what wraps a module while it is trained (`_orig_mod`), and
//! `base_model.model`, which some leave out.

use std::collections::{BTreeMap, BTreeSet};

use super::error::AdapterError;
use super::plan::{lora_name, user_model_name};
use super::tensors::TensorData;
use attune_model::lora::Projection;
use attune_model::user_model::cluster::{CLUSTER_EMBEDDING, USER_WEIGHT};
use attune_model::user_model::individual::USER_EMBEDDING;

/// Where decoders and multimodal models keep the blocks of the language model.
const BLOCKS: [&str; 7] = [
    "layers",
    "model.layers",
    "language_model.layers",
    "language_model.model.layers",
    "model.language_model.layers",
    "model.language_model.model.layers",
    "model.text_model.layers",
];

/// Parts of names that say how a module was trained, and nothing of the module.
const WRAPPERS: [&str; 3] = [
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
];

/// Tensors under the names that a version has.
#[derive(Debug)]
pub(super) struct NamedTensors {
    /// The tensors.
    pub(super) tensors: BTreeMap<String, TensorData>,
    /// Where the model that was trained keeps its blocks: `model.layers` unless names say otherwise.
    pub(super) blocks: String,
}

/// What one name says.
struct Parsed {
    name: String,
    /// Of LoRA: where the blocks are.
    blocks: Option<&'static str>,
    adapter: Option<String>,
}

/// Gives each tensor the name that it has in a version.
///
/// # Errors
/// Tensors that have a place in no version, all of them named; tensors of several adapters.
pub(super) fn named(tensors: BTreeMap<String, TensorData>) -> Result<NamedTensors, AdapterError> {
    let (mut known, mut strange) = (BTreeMap::new(), Vec::new());
    let (mut adapters, mut blocks) = (BTreeSet::new(), BTreeSet::new());
    let mut twice = None;
    for (found, tensor) in tensors {
        let Some(parsed) = parse(&found) else {
            strange.push(found);
            continue;
        };
        adapters.extend(parsed.blocks.map(|_| parsed.adapter));
        blocks.extend(parsed.blocks);
        if known.insert(parsed.name, tensor).is_some() {
            twice.get_or_insert(found);
        }
    }
    if !strange.is_empty() {
        return Err(AdapterError::PeftTensors(strange));
    }
    if adapters.len() > 1 {
        let names = adapters.into_iter().map(Option::unwrap_or_default);
        let names = names.collect::<Vec<_>>().join(", ");
        let reason = format!("it holds the tensors of several adapters ({names}); save one alone");
        return Err(AdapterError::PeftFile(reason));
    }
    if let Some(name) = twice {
        let reason = format!("{name} is there twice, under two names");
        return Err(AdapterError::PeftFile(reason));
    }
    let mut blocks = blocks.into_iter();
    let first = blocks.next().unwrap_or("model.layers");
    if let Some(other) = blocks.next() {
        let reason = format!("it adapts the blocks of two models, {first} and {other}");
        return Err(AdapterError::PeftFile(reason));
    }
    Ok(NamedTensors {
        tensors: known,
        blocks: first.to_owned(),
    })
}

/// `None`: it has a place in no version.
fn parse(name: &str) -> Option<Parsed> {
    let parts = name.split('.').filter(|part| !WRAPPERS.contains(part));
    let parts: Vec<&str> = parts.collect();
    let mut rest = parts.strip_prefix(&["module"]).unwrap_or(&parts);
    while let Some(inner) = rest.strip_prefix(&["base_model", "model"]) {
        rest = inner;
    }
    of_table(rest).or_else(|| of_lora(rest))
}

/// `user_model.TABLE[.modules_to_save[.ADAPTER]].weight`.
fn of_table(parts: &[&str]) -> Option<Parsed> {
    let [table, between @ ..] = parts
        .strip_prefix(&["user_model"])?
        .strip_suffix(&["weight"])?
    else {
        return None;
    };
    let known = [USER_EMBEDDING, CLUSTER_EMBEDDING, USER_WEIGHT].contains(table);
    let saved = matches!(between, [] | ["modules_to_save"] | ["modules_to_save", _]);
    (known && saved).then(|| Parsed {
        name: user_model_name(table),
        blocks: None,
        adapter: None,
    })
}

/// `BLOCKS.NUMBER.PATH.lora_A[.ADAPTER].weight`.
fn of_lora(parts: &[&str]) -> Option<Parsed> {
    let at = parts.iter().position(|part| *part == "layers")?;
    let (blocks, rest) = parts.split_at(at + 1);
    let blocks = blocks.join(".");
    let blocks = BLOCKS.into_iter().find(|known| *known == blocks)?;
    let [number, group, module, matrix, between @ .., "weight"] = rest else {
        return None;
    };
    let adapter = match between {
        [] => None,
        [adapter] => Some((*adapter).to_owned()),
        _ => return None,
    };
    let layer: usize = number.parse().ok()?;
    let path = format!("{group}.{module}");
    let projection = Projection::ALL.into_iter().find(|p| p.path() == path)?;
    let matrix = match *matrix {
        "lora_A" => 'A',
        "lora_B" => 'B',
        _ => return None,
    };
    // Compared: "+1" and "007" are no names of blocks.
    (layer.to_string() == *number).then(|| Parsed {
        name: lora_name(layer, projection, matrix),
        blocks: Some(blocks),
        adapter,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named_of(names: &[&str]) -> Result<NamedTensors, AdapterError> {
        let tensor = || TensorData {
            shape: vec![1, 1],
            values: vec![0.0],
        };
        named(names.iter().map(|n| (n.to_string(), tensor())).collect())
    }

    #[test]
    fn every_way_of_writing_a_name_leads_to_one() {
        let path = "3.self_attn.q_proj.lora_A";
        let blocks_and_names = [
            (
                "model.layers",
                format!("base_model.model.model.layers.{path}.weight"),
            ),
            (
                "model.layers",
                format!("base_model.model.model.layers.{path}.default.weight"),
            ),
            ("model.layers", format!("model.layers.{path}.weight")),
            ("layers", format!("base_model.model.layers.{path}.weight")),
            (
                "model.layers",
                format!("base_model.model.base_model.model.model.layers.{path}.weight"),
            ),
            (
                "model.layers",
                format!("module.base_model.model.model.layers.{path}.weight"),
            ),
            (
                "model.layers",
                format!("base_model.model._orig_mod.model.layers.{path}.weight"),
            ),
            (
                "language_model.model.layers",
                format!("base_model.model.language_model.model.layers.{path}.weight"),
            ),
            (
                "model.language_model.layers",
                format!("base_model.model.model.language_model.layers.{path}.default.weight"),
            ),
        ];
        for (blocks, name) in blocks_and_names {
            let found = named_of(&[&name]).unwrap();
            let expected = lora_name(3, Projection::Q, 'A');
            assert_eq!(
                found.tensors.keys().collect::<Vec<_>>(),
                [&expected],
                "{name}"
            );
            assert_eq!(found.blocks, blocks, "{name}");
        }
        for name in [
            "base_model.model.user_model.user_embedding.weight",
            "base_model.model.user_model.user_embedding.modules_to_save.default.weight",
        ] {
            let found = named_of(&[name]).unwrap();
            assert!(found.tensors.contains_key(&user_model_name(USER_EMBEDDING)));
            assert_eq!(found.blocks, "model.layers");
        }
    }

    #[test]
    fn what_has_a_place_in_no_version_is_named() {
        for odd in [
            "base_model.model.model.layers.007.self_attn.q_proj.lora_A.weight",
            "base_model.model.model.layers.+1.self_attn.q_proj.lora_A.weight",
            "base_model.model.model.layers.1.self_attn.q_proj.lora_Ab.weight",
            "base_model.model.model.layers.1.self_attn.qkv_proj.lora_A.weight",
            "base_model.model.model.layers.1.self_attn.q_proj.lora_A.a.b.weight",
            "base_model.model.model.layers.1.self_attn.q_proj.lora_magnitude_vector",
            "base_model.model.model.layers.1.mlp.experts.0.up_proj.lora_A.weight",
            "base_model.model.model.vision_tower.layers.1.self_attn.q_proj.lora_A.weight",
            "base_model.model.transformer.h.1.attn.c_attn.lora_A.weight",
            "base_model.model.model.embed_tokens.weight",
            "base_model.model.lm_head.lora_A.weight",
            "base_model.model.user_model.weights.weight",
            "",
        ] {
            let err = named_of(&[odd]).unwrap_err();
            assert!(
                matches!(&err, AdapterError::PeftTensors(n) if n == &[odd]),
                "{odd}: {err}"
            );
        }
    }

    #[test]
    fn two_adapters_in_one_file_are_refused() {
        let name = |rest: &str| format!("base_model.model.model.layers.0.self_attn.q_proj.{rest}");
        let err = |a: &str, b: &str| named_of(&[&name(a), &name(b)]).unwrap_err().to_string();
        let several = err("lora_A.default.weight", "lora_A.reference.weight");
        assert!(several.contains("default, reference"), "{several}");
        let wrapped = "base_model.model._orig_mod.model.layers.0.self_attn.q_proj.lora_A.weight";
        let twice = named_of(&[&name("lora_A.weight"), wrapped]).unwrap_err();
        assert!(twice.to_string().contains("there twice"), "{twice}");
        let other = "base_model.model.model.language_model.layers.1.mlp.up_proj.lora_A.weight";
        let mixed = named_of(&[&name("lora_A.weight"), other]).unwrap_err();
        assert!(mixed.to_string().contains("two models"), "{mixed}");
    }
}
