//! Logits of whole sequences under a version, as a server computes them: `benches/peft_interop.py`
//! compares them with those of transformers and PEFT.
//!
//!   logits MODEL BUNDLE IDS.jsonl OUT.safetensors
//!
//! A line of IDS has `ids` (token ids), `user` (an id or null) and `soft_at` (how many ids stand before
//! the soft prompt). OUT has a tensor for each line, `0`, `1`, ...: f32, (rows of soft prompt and ids,
//! vocab).

use std::collections::HashMap;
use std::env::args;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use attune_adapter::bundle::{self, Adapter};
use attune_base_model::{self as base_model, BaseModel};
use attune_engine::kv_cache::KvCache;
use attune_ids::{Tenant, UserId, UserKey};
use attune_model::input::{ForwardInput, SequenceSpan, SoftRow};
use attune_model::kernels::packed_matmul::WeightType;
use attune_model::kernels::paged_attention::BLOCK_SIZE;
use attune_model::linear::LinearFormat;
use candle_core::Tensor;
use serde::Deserialize;

#[derive(Deserialize)]
struct Line {
    ids: Vec<u32>,
    user: Option<String>,
    soft_at: usize,
}

fn main() -> Result<()> {
    let mut given = args().skip(1);
    let mut next = || given.next().context("give MODEL BUNDLE IDS.jsonl OUT");
    let (model, dir, lines, out) = (next()?, next()?, next()?, next()?);
    let base = base_model::load(&model, LinearFormat::Packed(WeightType::F32))?;
    let dir = bundle::locate(Path::new(&dir))?;
    let version = bundle::read(&dir, base.decoder.config(), &base.sha256)?;
    let mut tensors = HashMap::new();
    for (i, line) in fs::read_to_string(lines)?.lines().enumerate() {
        let line: Line = serde_json::from_str(line)?;
        tensors.insert(i.to_string(), logits(&base, &version, &line)?);
    }
    candle_core::safetensors::save(&tensors, out)?;
    Ok(())
}

fn logits(base: &BaseModel, version: &Adapter, line: &Line) -> Result<Tensor> {
    let user = line.user.as_ref().map(UserId::new).transpose()?;
    let user = user.map(|user| UserKey {
        tenant: Tenant::default(),
        user,
    });
    let soft: Arc<[f32]> = match &version.people {
        Some(people) => people.soft_prompt(user.as_ref()).rows().clone(),
        None => Arc::from([]),
    };
    let n_soft = soft.len() / base.decoder.config().hidden_size;
    let mut token_ids = line.ids.clone();
    token_ids.splice(line.soft_at..line.soft_at, vec![0; n_soft]);
    let rows = token_ids.len();
    let blocks = rows.div_ceil(BLOCK_SIZE);
    let mut kv = KvCache::placed(base.decoder.config(), base.decoder.placement(), blocks)?;
    let input = ForwardInput {
        soft_rows: (0..n_soft)
            .map(|index| SoftRow {
                row: line.soft_at + index,
                embeddings: soft.clone(),
                index,
                digest: None,
            })
            .collect(),
        spans: vec![SequenceSpan {
            rows: 0..rows,
            past: 0,
            block_table: (0..blocks as u32).collect(),
            lora: Some(version.lora.clone()),
        }],
        logit_rows: (0..rows).collect(),
        token_ids,
        ..ForwardInput::default()
    };
    Ok(base.decoder.forward(&input, &mut kv)?)
}
