//! The promises where our CPU kernels do not compute: on the device that `$ATTUNE_TEST_DEVICE` names, by
//! default on the CPU by the operations that other devices run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../promises/sequences.rs"]
mod sequences;

mod sampling;

use std::sync::{Arc, Barrier, Mutex};

use attune_engine::device::ranks::{Rank, RankedRunner};
use attune_engine::kv_cache::KvCache;
use attune_engine::model_runner::ModelRunner;
use attune_engine::request::{EngineRequest, SamplingParams};
use attune_engine::runner::Runner;
use attune_engine::thread::{Answer, EngineConfig, EngineHandle};
use attune_model::config::ModelConfig;
use attune_model::decoder::Decoder;
use attune_model::input::{ForwardInput, SequenceSpan};
use attune_model::load::ModelFiles;
use attune_model::placement::Placement;
use attune_model::shard::{Shard, SumOverRanks};
use attune_model::weights::config_json::read_config;
use attune_model::weights::Weights;
use candle_core::{DType, Device, Tensor};
use common::{
    ids_of, last_row, oracle_json, oracles, slack, smollm2_gguf, tokens, Row, Solo, EXACT,
};
use sequences::{alone, engine, greedy, noise_adapter, noise_rows, usual, PLENTY};

const FAMILIES: [&str; 5] = ["llama", "qwen2", "qwen3", "mistral", "gemma3"];
/// Logits in f32, by other operations in another order.
const LOGITS: f64 = 2e-3;

/// A share of 3 % in f16, and of 24 % in bf16, is as much as [`LOGITS`] there.
const SHARE: f64 = LOGITS * 500.0 / 0.03;

/// Not our kernels, in any case.
fn elsewhere() -> Placement {
    match common::placed(EXACT) {
        named if named.device.is_cpu() && std::env::var("ATTUNE_TEST_DEVICE").is_err() => {
            Placement::dense(Device::Cpu, DType::F32)
        }
        named => named,
    }
}

fn pair(files: &ModelFiles) -> [Arc<Decoder>; 2] {
    [
        Arc::new(files.load(EXACT).unwrap()),
        Arc::new(files.load(elsewhere()).unwrap()),
    ]
}

fn tiny(family: &str) -> [Arc<Decoder>; 2] {
    pair(&ModelFiles::at(&oracles().join("tiny").join(family)).unwrap())
}

/// The greatest difference in f32; in types of 16 bits, whose greatest one says little, the root of the mean
/// square, as a share of what the logits themselves vary by, in the unit of [`slack`].
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let differences = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
    if slack() == 1.0 {
        return differences.fold(0.0, f64::max);
    }
    let n = a.len() as f64;
    let mean = a.iter().map(|a| f64::from(*a)).sum::<f64>() / n;
    let variance = a
        .iter()
        .map(|a| (f64::from(*a) - mean).powi(2))
        .sum::<f64>()
        / n;
    let square = differences.map(|d| d * d).sum::<f64>() / n;
    (square / variance).sqrt() * SHARE
}

/// A prompt in three pieces with a soft prompt and a LoRA, then single rows: every way into attention.
fn agree(name: &str, [ours, theirs]: &[Arc<Decoder>; 2], ids: &[u32]) {
    let config = ours.config();
    let soft = noise_rows(config, 3, 5);
    let lora = noise_adapter(config, 4, 9).lora;
    for lora in [None, Some(lora)] {
        let mut solos = [ours, theirs].map(|d| Solo::new(d, ids.len() + 16, lora.clone()));
        let front: Vec<Row> = (0..3).map(|i| Row::Soft(soft.rows().clone(), i)).collect();
        let rows = [front, tokens(ids)].concat();
        let cuts = [0, 2, rows.len() / 2, rows.len() - 3];
        let ends = [2, rows.len() / 2, rows.len() - 3, rows.len()];
        for (start, end) in cuts.into_iter().zip(ends) {
            let pieces = match end == rows.len() {
                true => rows[start..].chunks(1),
                false => rows[start..end].chunks(end - start),
            };
            for piece in pieces {
                let [a, b] = [0, 1].map(|i| last_row(&solos[i].feed(piece)));
                if start == 0 && slack() > 1.0 {
                    // Two rows of noise in front of everything: no trained model is steady there.
                    continue;
                }
                let error = distance(&a, &b);
                assert!(error < LOGITS * slack(), "{name} {start}..{end}: {error}");
            }
        }
    }
}

#[test]
fn families_agree_with_our_kernels() {
    for family in FAMILIES {
        agree(family, &tiny(family), &many_ids(40));
    }
}

fn config_of(text: &str) -> ModelConfig {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.json"), text).unwrap();
    read_config(directory.path()).unwrap()
}

fn noise(config: &ModelConfig, seed: u64, placement: impl Into<Placement>) -> Arc<Decoder> {
    let weights = Weights::noise(Device::Cpu, seed);
    Arc::new(Decoder::load(config.clone(), weights, placement).unwrap())
}

/// A model of noise, by our kernels and by the others.
fn noise_pair(text: &str) -> [Arc<Decoder>; 2] {
    let config = config_of(text);
    [noise(&config, 3, EXACT), noise(&config, 3, elsewhere())]
}

fn many_ids(n: u32) -> Vec<u32> {
    (0..n).map(|i| (i * 37 + 11) % 100).collect()
}

/// Heads as wide as the kernels of GPUs want them, and windows that end inside blocks.
#[test]
fn wide_heads_and_sliding_windows_agree() {
    let models = noise_pair(
        r#"{"model_type": "gemma3_text", "hidden_size": 128, "intermediate_size": 256,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
        "vocab_size": 128, "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "sliding_window": 21,
        "sliding_window_pattern": 2, "query_pre_attn_scalar": 64, "tie_word_embeddings": true,
        "hidden_activation": "gelu_pytorch_tanh"}"#,
    );
    let windows = &models[0].config().sliding_window;
    assert!(windows.contains(&Some(21)) && windows.contains(&None));
    agree("windows", &models, &many_ids(60));
}

/// Heads of 128, and contexts that GPU kernels cut into parts (from 512 positions on; from 15 Ki on, which
/// takes the CPU too long, they cut in any case).
#[test]
fn long_contexts_agree() {
    let models = noise_pair(
        r#"{"model_type": "llama", "hidden_size": 128, "intermediate_size": 128,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 128,
        "vocab_size": 128, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "tie_word_embeddings": true, "hidden_act": "silu"}"#,
    );
    let n = match elsewhere().device {
        Device::Cpu => 600,
        _ => 15_500,
    };
    agree("long", &models, &many_ids(n));
}

#[test]
fn the_real_model_agrees_with_our_kernels() {
    let models = pair(&ModelFiles::at(&smollm2_gguf()).unwrap());
    let record = &oracle_json("smollm2/chat.json")["records"][0];
    agree("smollm2", &models, &ids_of(&record["prompt_ids"]));
}

/// Requests of several people and versions; `logprobs` decides whether tokens are chosen on the host.
fn requests(decoder: &Decoder, logprobs: Option<usize>) -> Vec<EngineRequest> {
    let config = decoder.config();
    let request = |i: usize| {
        let prompt: Vec<u32> = (0..3 + 5 * i)
            .map(|p| ((p * 31 + i * 7) % 100) as u32)
            .collect();
        let sampling = SamplingParams {
            temperature: [0.0, 0.8][i % 2],
            top_p: [1.0, 0.9][i / 2 % 2],
            top_k: [0, 0, 0, 20][i % 4],
            seed: Some(i as u64),
            logprobs,
            ..SamplingParams::default()
        };
        EngineRequest {
            sampling,
            soft_prompt: noise_rows(config, 1 + i % 3, i as u64),
            soft_at: i % 2,
            adapter: (!i.is_multiple_of(3)).then(|| noise_adapter(config, 4, (i % 3) as u64)),
            ..greedy(&prompt, 12)
        }
    };
    (0..9).map(request).collect()
}

fn ids(engine: &EngineHandle, requests: Vec<EngineRequest>) -> Vec<Vec<u32>> {
    let mut answers = engine.submit(requests).unwrap();
    let of = |answer: &mut Answer| sequences::rest(answer).iter().map(|t| t.0).collect();
    answers.iter_mut().map(of).collect()
}

/// The share of answers that are the same, token by token.
fn same(a: &[Vec<u32>], b: &[Vec<u32>]) -> f64 {
    let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
    equal as f64 / a.len() as f64
}

/// Prompts that come in chunks, decodes beside prefills, few blocks (so that some are preempted), tokens
/// chosen on the device and on the host: the answers of the CPU. With other types than f32 a near tie may
/// fall to the other side, and everything behind it differs.
#[test]
fn answers_are_those_of_our_kernels() {
    let least = if slack() > 1.0 { 0.3 } else { 1.0 };
    for family in ["llama", "gemma3"] {
        let [ours, theirs] = tiny(family);
        for (blocks, token_budget) in [(PLENTY, 512), (24, 12)] {
            let config = EngineConfig {
                token_budget,
                max_running: 6,
                prefix_cache: true,
                ..usual()
            };
            for logprobs in [None, Some(2)] {
                let [a, b] = [&ours, &theirs].map(|decoder| {
                    let engine = engine(decoder, blocks, config.clone());
                    ids(&engine, requests(decoder, logprobs))
                });
                let share = same(&a, &b);
                assert!(
                    share >= least,
                    "{family}, {blocks} blocks: {share}\n{a:?}\n{b:?}"
                );
            }
        }
    }
}

/// A row alone and in a batch: not to the bit as with our kernels, but as near as sums in another order.
#[test]
fn a_batch_does_not_change_answers() {
    let least = if slack() > 1.0 { 0.3 } else { 1.0 };
    let [_, decoder] = tiny("qwen3");
    let together = ids(&engine(&decoder, PLENTY, usual()), requests(&decoder, None));
    let one_by_one = requests(&decoder, None).into_iter().map(|request| {
        let tokens = alone(&decoder, request);
        tokens.iter().map(|t| t.0).collect()
    });
    let share = same(&together, &one_by_one.collect::<Vec<_>>());
    assert!(share >= least, "{share}");
}

/// Ranks of one process that meet in memory.
#[derive(Debug)]
struct Adding {
    everybody: Barrier,
    parts: Mutex<Vec<Tensor>>,
}

impl SumOverRanks for Adding {
    fn sum(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.everybody.wait();
        self.parts.lock().unwrap().push(x.clone());
        self.everybody.wait();
        let parts = self.parts.lock().unwrap().clone();
        // Nobody clears before all have read.
        self.everybody.wait();
        self.parts.lock().unwrap().clear();
        let mut sum = parts[0].clone();
        for part in &parts[1..] {
            sum = (sum + part)?;
        }
        Ok(sum)
    }
}

/// A model that can be divided by two.
const DIVISIBLE: &str = r#"{"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 128, "max_position_embeddings": 256, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "tie_word_embeddings": false, "hidden_act": "silu"}"#;

/// Ranks that never meet.
#[derive(Debug)]
struct Apart;

impl SumOverRanks for Apart {
    fn sum(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(x.clone())
    }
}

/// A GPU that is sent to a row or a block that is not there takes no more work from the process, or writes
/// elsewhere: such a pass is refused before it begins, and the next one runs.
#[test]
fn what_is_not_there_is_an_error() {
    let config = config_of(DIVISIBLE);
    let decoder = noise(&config, RANKED_SEED, elsewhere());
    let kv = KvCache::placed(&config, decoder.placement(), 1).unwrap();
    let mut runner = ModelRunner::new(decoder, kv);
    let pass = |id: u32, rows: usize| ForwardInput {
        token_ids: vec![id; rows],
        spans: vec![SequenceSpan {
            rows: 0..rows,
            past: 0,
            block_table: Arc::from([0, 1]),
            lora: None,
        }],
        logit_rows: vec![rows - 1],
        ..ForwardInput::default()
    };
    for (id, rows, expected) in [
        (config.vocab_size as u32, 3, "there is no token"),
        (1, 20, "there is no block 1"),
    ] {
        let error = runner.forward(&pass(id, rows)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(runner.forward(&pass(1, 9)).is_ok());
    }
}

/// Seed of the weights that ranks share.
const RANKED_SEED: u64 = 5;

/// A model over two threads, with so many KV blocks each.
fn two_ranks(
    config: &ModelConfig,
    others: Arc<dyn SumOverRanks>,
    blocks: [usize; 2],
) -> RankedRunner {
    let runner = |rank: usize| {
        let shard = Shard {
            rank,
            n_ranks: 2,
            others: others.clone(),
        };
        let placement = Placement {
            shard: Some(shard),
            ..elsewhere()
        };
        let decoder = noise(config, RANKED_SEED, placement);
        let kv = KvCache::placed(config, decoder.placement(), blocks[rank]).unwrap();
        ModelRunner::new(decoder, kv)
    };
    let second = runner(1);
    let second = Rank::spawn(1, move || Ok(second)).unwrap();
    RankedRunner::new(runner(0), vec![second])
}

/// After a pass that failed on one of them, ranks may have met different sums: no pass is run any more.
#[test]
fn ranks_stop_when_one_of_them_fails() {
    let config = config_of(DIVISIBLE);
    // Room for 16 positions on the second one.
    let mut ranked = two_ranks(&config, Arc::new(Apart), [4, 1]);
    let pass = |rows: usize| ForwardInput {
        token_ids: vec![1; rows],
        spans: vec![SequenceSpan {
            rows: 0..rows,
            past: 0,
            block_table: Arc::from([0, 1]),
            lora: None,
        }],
        logit_rows: vec![rows - 1],
        ..ForwardInput::default()
    };
    assert!(ranked.forward(&pass(9)).is_ok());
    for rows in [20, 9] {
        let error = ranked.forward(&pass(rows)).unwrap_err().to_string();
        assert!(error.contains("restart"), "{error}");
    }
}

/// Tensor parallelism without GPUs: two ranks in threads give the answers of the whole model, with soft
/// prompts and LoRA.
#[test]
fn two_ranks_are_one_model() {
    let config = config_of(DIVISIBLE);
    let adding = Arc::new(Adding {
        everybody: Barrier::new(2),
        parts: Mutex::default(),
    });
    let ranked = two_ranks(&config, adding.clone(), [PLENTY; 2]);
    let whole = noise(&config, RANKED_SEED, elsewhere());
    let expected = ids(&engine(&whole, PLENTY, usual()), requests(&whole, None));
    let got = ids(
        &EngineHandle::spawn(Box::new(ranked), usual()),
        requests(&whole, None),
    );
    let least = if slack() > 1.0 { 0.3 } else { 1.0 };
    let share = same(&expected, &got);
    assert!(share >= least, "{share}\n{expected:?}\n{got:?}");
    // What cannot be divided is refused before anything is computed.
    let shard = Shard {
        rank: 0,
        n_ranks: 4,
        others: adding,
    };
    let error = shard.config(&config).unwrap_err().to_string();
    assert!(error.contains("num_key_value_heads"), "{error}");
}
