//! What the integration tests share: fixtures, the real model, one sequence through the decoder.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod gguf;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use attune_engine::kv_cache::KvCache;
use attune_model::decoder::Decoder;
use attune_model::device::DeviceChoice;
use attune_model::hub;
use attune_model::input::{ForwardInput, SequenceSpan, SoftRow};
use attune_model::kernels::packed_matmul::WeightType;
use attune_model::kernels::paged_attention::{KvType, BLOCK_SIZE};
use attune_model::linear::LinearFormat;
use attune_model::load::ModelFiles;
use attune_model::lora::LoraSet;
use attune_model::placement::Placement;
use attune_model::user_model::soft_prompt::SoftPrompt;
use candle_core::{DType, Device, Tensor};

/// Weights as they are in the file.
pub const EXACT: LinearFormat = LinearFormat::Packed(WeightType::F32);

/// Where the oracles are computed: `$ATTUNE_TEST_DEVICE` is `cpu` (our kernels; the default), `portable`
/// (the CPU, by the operations that other devices run), or a device such as `cuda:0`;
/// `$ATTUNE_TEST_DTYPE` is the type there: f32, bf16 or f16. On our kernels linear layers are kept in
/// `format`.
pub fn placed(format: LinearFormat) -> Placement {
    let device = match std::env::var("ATTUNE_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => return format.into(),
        Ok("portable") => Device::Cpu,
        Ok(device) => device.parse::<DeviceChoice>().unwrap().open().unwrap(),
    };
    Placement::dense(device, test_dtype())
}

fn test_dtype() -> DType {
    match std::env::var("ATTUNE_TEST_DTYPE").as_deref() {
        Err(_) | Ok("f32") => DType::F32,
        Ok("bf16") => DType::BF16,
        Ok("f16") => DType::F16,
        Ok(other) => panic!("ATTUNE_TEST_DTYPE is {other}"),
    }
}

/// By how much tolerances grow in the type of [`placed`]. For f16 (11 bits of mantissa) it is what the CPU
/// needs, and half as much again; bf16 (8 bits) has 8 times that, by reckoning.
pub fn slack() -> f64 {
    let on_kernels = matches!(
        std::env::var("ATTUNE_TEST_DEVICE").as_deref(),
        Err(_) | Ok("cpu")
    );
    match test_dtype() {
        _ if on_kernels => 1.0,
        DType::BF16 => 4000.0,
        DType::F16 => 500.0,
        _ => 1.0,
    }
}

/// The folder of golden numbers: `$ORACLES_DIR`, else the copy in the repository.
pub fn oracles() -> PathBuf {
    std::env::var_os("ORACLES_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/oracles"),
        PathBuf::from,
    )
}

/// A JSON file of the oracles.
pub fn oracle_json(path: &str) -> serde_json::Value {
    let path = oracles().join(path);
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// A safetensors file of the oracles.
pub fn oracle_tensors(path: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(oracles().join(path), &Device::Cpu).unwrap()
}

/// The SmolLM2 file, fetched on first use.
pub fn smollm2_gguf() -> PathBuf {
    let model = hub::find("smollm2-135m-instruct").unwrap();
    hub::fetch(model, &hub::cache_directory().unwrap()).unwrap()
}

/// SmolLM2, loaded once a test binary.
pub fn smollm2() -> Arc<Decoder> {
    static MODEL: OnceLock<Arc<Decoder>> = OnceLock::new();
    MODEL
        .get_or_init(|| Arc::new(load(&smollm2_gguf())))
        .clone()
}

/// A model from a path.
pub fn load(path: &Path) -> Decoder {
    let files = ModelFiles::at(path).unwrap();
    files.load(placed(EXACT)).unwrap()
}

/// One of the tiny models of the oracles.
pub fn tiny(family: &str) -> Decoder {
    load(&oracles().join("tiny").join(family))
}

/// One sequence on its own.
pub struct Solo<'a> {
    decoder: &'a Decoder,
    kv: KvCache,
    block_table: Arc<[u32]>,
    past: usize,
    lora: Option<Arc<LoraSet>>,
}

/// A row of a sequence.
#[derive(Clone)]
pub enum Row {
    Token(u32),
    Soft(Arc<[f32]>, usize),
}

pub fn tokens(ids: &[u32]) -> Vec<Row> {
    ids.iter().map(|id| Row::Token(*id)).collect()
}

pub fn soft_rows(rows: &Tensor) -> Vec<Row> {
    let n = rows.dims2().unwrap().0;
    let values: Arc<[f32]> = rows.flatten_all().unwrap().to_vec1::<f32>().unwrap().into();
    (0..n).map(|i| Row::Soft(values.clone(), i)).collect()
}

impl<'a> Solo<'a> {
    pub fn new(decoder: &'a Decoder, positions: usize, lora: Option<Arc<LoraSet>>) -> Self {
        let n_blocks = positions.div_ceil(BLOCK_SIZE);
        let kv = KvCache::placed(decoder.config(), decoder.placement(), n_blocks).unwrap();
        Self {
            decoder,
            kv,
            block_table: (0..n_blocks as u32).collect(),
            past: 0,
            lora,
        }
    }

    /// With keys and values kept so.
    pub fn kept_as(self, kv_type: KvType) -> Self {
        let placement = Placement {
            kv_type,
            ..self.decoder.placement().clone()
        };
        let n_blocks = self.block_table.len();
        let kv = KvCache::placed(self.decoder.config(), &placement, n_blocks).unwrap();
        Self { kv, ..self }
    }

    /// Feeds rows; logits of every one, (rows, vocab).
    pub fn feed(&mut self, rows: &[Row]) -> Tensor {
        let mut input = ForwardInput::default();
        for (row, what) in rows.iter().enumerate() {
            match what {
                Row::Token(id) => input.token_ids.push(*id),
                Row::Soft(embeddings, index) => {
                    input.token_ids.push(0);
                    let embeddings = embeddings.clone();
                    input.soft_rows.push(SoftRow {
                        row,
                        embeddings,
                        index: *index,
                        digest: None,
                    });
                }
            }
        }
        input.spans.push(SequenceSpan {
            rows: 0..rows.len(),
            past: self.past,
            block_table: self.block_table.clone(),
            lora: self.lora.clone(),
        });
        input.logit_rows = (0..rows.len()).collect();
        self.past += rows.len();
        let logits = self.decoder.forward(&input, &mut self.kv).unwrap();
        logits.to_device(&Device::Cpu).unwrap()
    }

    /// Greedy continuation after `rows`: ids and the margin of each over the second best.
    pub fn greedy(&mut self, rows: &[Row], n: usize) -> Vec<u32> {
        let mut last = last_row(&self.feed(rows));
        let mut ids = Vec::new();
        while ids.len() < n {
            let best = argmax(&last);
            ids.push(best);
            last = last_row(&self.feed(&[Row::Token(best)]));
        }
        ids
    }
}

pub fn last_row(logits: &Tensor) -> Vec<f32> {
    let n = logits.dims2().unwrap().0;
    logits.get(n - 1).unwrap().to_vec1().unwrap()
}

pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// log softmax(logits)[id], in f64.
pub fn log_prob(logits: &[f32], id: u32) -> f64 {
    f64::from(logits[id as usize]) - log_sum_exp(logits)
}

pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|l| f64::from(l - max).exp()).sum();
    f64::from(max) + sum.ln()
}

pub fn ids_of(value: &serde_json::Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

pub fn floats_of(value: &serde_json::Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The rows of a soft prompt.
pub fn soft_rows_of(soft: &SoftPrompt) -> Vec<Row> {
    let row = |i| Row::Soft(soft.rows().clone(), i);
    (0..soft.len()).map(row).collect()
}
