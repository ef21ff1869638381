//! `attune-train entangle`: the gradients of a file's pairs, and what each of several losses would do.

use std::fs;
use std::path::PathBuf;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::adapter::TrainedAdapter;
use crate::compute::Compute;
use crate::dataset;
use crate::entangle::diagnose::{shares, Diagnosis, Measured};
use crate::entangle::gradients::Probe;
use crate::entangle::heat_map::{self, HeatMap};
use crate::entangle::mask::Mask;
use crate::entangle::measure::Case;
use crate::init::{self, Init, LoraShape};
use crate::load::load;
use crate::loss::Objective;
use crate::pack::PromptPrefix;
use crate::policy::{Activations, Policy};
use crate::prepare::{check_context, encoder, evaluation_pairs, HeldOutPair};
use crate::scoring::{add_reference, PACK_ROWS};
use crate::TrainError;
use attune_base_model::{self as base_model, BaseModel};

/// What `attune-train entangle` is asked.
#[derive(Debug, Clone)]
pub struct EntangleRequest {
    /// The base model.
    pub base: String,
    /// Where to compute.
    pub compute: Compute,
    /// Where gradients are taken; `None`: at the bare base with a fresh LoRA.
    pub bundle: Option<PathBuf>,
    /// The LoRA without a bundle.
    pub lora: LoraShape,
    /// Pairs.
    pub data: Vec<PathBuf>,
    /// How many of them are measured, the first ones.
    pub pairs: usize,
    /// The losses.
    pub losses: Vec<Objective>,
    /// Which tokens count.
    pub mask: Mask,
    /// How many of the pairs get a heat map.
    pub heat_maps: usize,
    /// Where `entangle.json` and the heat maps go; `None`: nothing is written.
    pub out: Option<PathBuf>,
    /// Longest prompt that is kept of a pair that is too long.
    pub max_prompt: usize,
    /// Longest prompt and response.
    pub max_length: usize,
    /// Seed of a fresh LoRA.
    pub seed: u64,
}

/// What is known of one loss.
#[derive(Debug, Serialize)]
struct OfLoss {
    loss: String,
    normalized: bool,
    /// (case, share of pairs).
    shares: Vec<(Case, f64)>,
    pairs: Vec<Measured>,
}

/// Measures pairs, and says which share of them each loss puts in which case.
///
/// # Errors
/// A bundle or data that cannot be used; a disk that fails.
pub fn entangle(request: &EntangleRequest) -> Result<String, TrainError> {
    let base = base_model::load(&request.base, request.compute.for_gradients()?)?;
    let (mut adapter, pairs) = begin(request, &base)?;
    let prefix = PromptPrefix {
        bos: base.tokenizer.added_bos(),
        n_user_tokens: adapter.users.as_ref().map_or(0, |u| u.n_user_tokens),
    };
    let probe = Probe {
        decoder: &base.decoder,
        prefix,
        activations: Activations::Keep,
    };
    let found = measure(&probe, &request.losses, &mut adapter, &pairs)?;
    if let Some(out) = &request.out {
        fs::create_dir_all(out).map_err(TrainError::io(out))?;
        let path = out.join("entangle.json");
        let json = serde_json::to_vec_pretty(&found).unwrap_or_default();
        fs::write(&path, json).map_err(TrainError::io(&path))?;
        for (i, pair) in pairs.iter().take(request.heat_maps).enumerate() {
            let map = HeatMap::measure(&probe, &base.tokenizer, &mut adapter, &pair.pair)?;
            map.write(&out.join(heat_map::file_name(i)))?;
        }
    }
    Ok(table(&found, pairs.len()))
}

/// The adapter, all of it trained, and the pairs with their references.
fn begin(
    request: &EntangleRequest,
    base: &BaseModel,
) -> Result<(TrainedAdapter, Vec<HeldOutPair>), TrainError> {
    let (mut adapter, rows) = match &request.bundle {
        Some(dir) => load(dir, base).map(|loaded| (loaded.adapter, loaded.rows))?,
        None => {
            let (lora, seed) = (&request.lora, request.seed);
            let adapter = init::adapter(&base.decoder, lora, None, Init::Zero, seed)?;
            (adapter, Default::default())
        }
    };
    for parameter in &mut adapter.parameters {
        parameter.trained = 0..parameter.values.len();
    }
    let data = dataset::read(&request.data)?;
    data.counts.warn();
    if data.pairs.len() > request.pairs {
        let (used, all) = (request.pairs, data.pairs.len());
        tracing::warn!("the first {used} of {all} pairs are used (--pairs)");
    }
    let encoder = encoder(base, request.max_prompt, request.max_length)?;
    let indices: Vec<usize> = (0..data.pairs.len().min(request.pairs)).collect();
    let (mut pairs, counts) = evaluation_pairs(&encoder, &data.pairs, &indices, &rows)?;
    counts.warn();
    check_context(counts.longest, base)?;
    for HeldOutPair { pair, .. } in &mut pairs {
        pair.kept = request.mask.kept(&pair.chosen, &pair.rejected);
    }
    let reference = Policy::reference(&base.decoder, base.tokenizer.added_bos());
    let ids = pairs.iter_mut().map(|p| &mut p.pair);
    add_reference(&reference, ids, PACK_ROWS, |_, _| {})?;
    Ok((adapter, pairs))
}

/// Each loss, plain and then normalized, on all pairs.
fn measure(
    probe: &Probe,
    losses: &[Objective],
    adapter: &mut TrainedAdapter,
    pairs: &[HeldOutPair],
) -> Result<Vec<OfLoss>, TrainError> {
    let policy = probe.policy(adapter)?;
    let ways = [false, true].into_iter();
    let diagnosis = |normalized| {
        losses.iter().map(move |objective| Diagnosis {
            probe,
            objective: *objective,
            normalized,
        })
    };
    let diagnoses: Vec<Diagnosis> = ways.flat_map(diagnosis).collect();
    let mut measured: Vec<Vec<Measured>> = vec![Vec::new(); diagnoses.len()];
    for HeldOutPair { pair, .. } in pairs {
        let user = adapter.users.is_some().then_some(pair.user);
        let found = probe.pair(&policy, adapter, &pair.completions(user))?;
        for (diagnosis, measured) in diagnoses.iter().zip(&mut measured) {
            measured.push(diagnosis.measure(adapter, pair, user, &found)?);
        }
    }
    let of_loss = |(diagnosis, pairs): (&Diagnosis, Vec<Measured>)| OfLoss {
        loss: diagnosis.objective.to_string(),
        normalized: diagnosis.normalized,
        shares: shares(pairs.iter().map(|m| m.case)).into_iter().collect(),
        pairs,
    };
    Ok(diagnoses.iter().zip(measured).map(of_loss).collect())
}

fn table(found: &[OfLoss], pairs: usize) -> String {
    let mut table = Table::new();
    let cases = Case::ALL.iter().map(|case| case.name().to_owned());
    table
        .load_preset(NOTHING)
        .add_row([String::new()].into_iter().chain(cases));
    for one in found {
        let name = match one.normalized {
            true => format!("{}, normalized", one.loss),
            false => one.loss.clone(),
        };
        let shares = one.shares.iter().map(|(_, share)| format!("{share:.3}"));
        table.add_row([name].into_iter().chain(shares));
    }
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if number > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let table = table.trim_fmt();
    format!("{pairs} pairs; share of them by what a small step does\n{table}\n")
}
