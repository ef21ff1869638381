//! What the first steps of a run are given, for another trainer: `benches/trl_dpo.py` trains TRL on it.
//!
//! Takes the arguments of `attune-train pdpo` and writes into `--out` the token ids of each step's pairs
//! (`steps.jsonl`) and the LoRA before the first step as a PEFT checkpoint (`peft/`). Plain training
//! only (`--alpha 0`): TRL knows no soft prompts.

use std::fs;
use std::io::Write;

use anyhow::{bail, Result};
use attune::config::train::{TrainCli, TrainCommand};
use attune_adapter::data_until::Reach;
use attune_adapter::manifest::BaseModel;
use attune_adapter::peft_export;
use attune_base_model as base_model;
use attune_model::kernels::packed_matmul::WeightType;
use attune_model::linear::LinearFormat;
use attune_train::init::{adapter, Init};
use attune_train::order::Order;
use attune_train::prepare::prepare;
use attune_train::publish::{contents, Description};
use clap::Parser;
use serde_json::{json, Value};

fn main() -> Result<()> {
    let TrainCommand::Pdpo(raw) = TrainCli::parse().command else {
        bail!("give the arguments of `attune-train pdpo`");
    };
    let config = raw.config()?;
    let settings = config.settings;
    if settings.user_model.is_some() {
        bail!("give --alpha 0: other trainers have no user model");
    }
    let base = base_model::load(&settings.base, LinearFormat::Packed(WeightType::F32))?;
    let prepared = prepare(&settings, &base)?;
    fs::create_dir_all(&config.out)?;
    let mut out = fs::File::create(config.out.join("steps.jsonl"))?;
    let n_pairs = prepared.train.len();
    let mut order = Order::new(n_pairs, settings.batch_size, settings.seed);
    for step in 0..settings.total_steps(n_pairs) {
        let pairs: Vec<Value> = order
            .batch(step)
            .into_iter()
            .map(|i| &prepared.train[i])
            .map(|p| json!({"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected}))
            .collect();
        writeln!(out, "{}", json!({"step": step, "pairs": pairs}))?;
    }
    let lora = settings.lora;
    let fresh = adapter(&base.decoder, &lora, None, Init::Zero, settings.seed)?;
    let description = Description {
        name: None,
        created_unix: 0,
        base: BaseModel {
            name: base.id,
            sha256: base.sha256,
        },
        lora: Some(lora.manifest()),
        users: Vec::new(),
        reach: Reach::default(),
        training: Value::Null,
    };
    peft_export::export(&contents(&fresh, description), &config.out.join("peft"))?;
    Ok(())
}
