//! What the numbers of a quantized file cost beside the same file in f32: for docs/experiments.md.
//!
//!   quantization MODEL TEXTS [MAX_TOKENS]
//!
//! A line of TEXTS is a text as a JSON string. Each is read token by token under both: negative log-likelihood, KL divergence
//! of f32's predictions from the others', and how often both would choose the same token.

#![expect(clippy::print_stdout, reason = "its figures are for a terminal")]

use std::env::args;
use std::fs;

use anyhow::{Context, Result};
use attune_base_model as base_model;
use attune_engine::kv_cache::KvCache;
use attune_model::decoder::Decoder;
use attune_model::input::{ForwardInput, SequenceSpan};
use attune_model::kernels::packed_matmul::WeightType;
use attune_model::kernels::paged_attention::BLOCK_SIZE;
use attune_model::linear::LinearFormat;
use attune_text::tokenizer::SpecialTokens;

#[derive(Default)]
struct Sums {
    tokens: usize,
    nll: [f64; 2],
    kl: f64,
    same: usize,
}

fn main() -> Result<()> {
    let given: Vec<String> = args().skip(1).collect();
    let (model, texts) = (given.first(), given.get(1));
    let (model, texts) = model.zip(texts).context("give MODEL TEXTS")?;
    let longest = given.get(2).map_or(Ok(256), |n| n.parse())?;
    let exact = base_model::load(model, LinearFormat::Packed(WeightType::F32))?;
    let own = base_model::load(model, LinearFormat::AsStored)?;
    let mut sums = Sums::default();
    for line in fs::read_to_string(texts)?.lines() {
        let text: String = serde_json::from_str(line)?;
        let mut ids = exact.tokenizer.encode(&text, SpecialTokens::AsText)?;
        ids.truncate(longest);
        if ids.len() > 1 {
            sums.add(&ids, &exact.decoder, &own.decoder)?;
        }
    }
    let per_token = |sum: f64| sum / sums.tokens as f64;
    let [exact, own] = sums.nll.map(per_token);
    println!(
        "{} tokens: NLL {exact:.5} in f32, {own:.5} in the file's own numbers ({:+.3} %); KL {:.5}; same choice {:.2} %",
        sums.tokens,
        100.0 * (own / exact - 1.0),
        per_token(sums.kl),
        100.0 * per_token(sums.same as f64),
    );
    Ok(())
}

impl Sums {
    fn add(&mut self, ids: &[u32], exact: &Decoder, own: &Decoder) -> Result<()> {
        let [exact, own] = [log_probs(exact, ids)?, log_probs(own, ids)?];
        for (row, target) in ids[1..].iter().enumerate() {
            let (p, q) = (&exact[row], &own[row]);
            self.tokens += 1;
            self.nll[0] -= p[*target as usize];
            self.nll[1] -= q[*target as usize];
            self.kl += p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            self.same += usize::from(greatest(p) == greatest(q));
        }
        Ok(())
    }
}

/// Of each position over the vocabulary.
fn log_probs(decoder: &Decoder, ids: &[u32]) -> Result<Vec<Vec<f64>>> {
    let rows = ids.len();
    let blocks = rows.div_ceil(BLOCK_SIZE);
    let mut kv = KvCache::placed(decoder.config(), decoder.placement(), blocks)?;
    let input = ForwardInput {
        spans: vec![SequenceSpan {
            rows: 0..rows,
            past: 0,
            block_table: (0..blocks as u32).collect(),
            lora: None,
        }],
        logit_rows: (0..rows).collect(),
        token_ids: ids.to_vec(),
        ..ForwardInput::default()
    };
    let logits = decoder.forward(&input, &mut kv)?.to_vec2::<f32>()?;
    let normal = |logits: Vec<f32>| {
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = logits.iter().map(|l| f64::from(l - max).exp()).sum();
        let log_sum = f64::from(max) + sum.ln();
        logits.iter().map(|l| f64::from(*l) - log_sum).collect()
    };
    Ok(logits.into_iter().map(normal).collect())
}

fn greatest(values: &[f64]) -> Option<usize> {
    (0..values.len()).max_by(|a, b| values[*a].total_cmp(&values[*b]))
}
