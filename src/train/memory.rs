//! How many rows a pass may have, so that a run stays below its memory.

use super::policy::Activations;
use super::TrainError;
use crate::model::config::ModelConfig;

/// Rows of one pass beyond which the products of a CPU do not get faster.
const USEFUL_ROWS: usize = 512;
/// Token log-probabilities at once: logits of 48 rows and their gradients, see `kernels::log_probs`.
const HEAD_ROWS: usize = 2 * 48;

/// How passes are cut, and what is kept between the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Packed rows of one pass.
    pub pack_rows: usize,
    /// What is kept.
    pub activations: Activations,
}

/// Bytes that one packed row takes.
fn bytes_per_row(config: &ModelConfig, activations: Activations) -> usize {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let queries = config.n_heads * config.head_dim;
    let keys = config.n_kv_heads * config.head_dim;
    // Residual stream and norms; q, k, v before and after LoRA and rotation; gate, up, their product.
    let block = 4 * (7 * hidden + 6 * queries + 7 * keys + 4 * inner);
    match activations {
        Activations::Keep => config.n_layers * block,
        // The way back through one block has gradients beside the values.
        Activations::Recompute => config.n_layers * 4 * hidden + 2 * block,
    }
}

/// Bytes that are there whatever a pass has: weights both ways, embeddings, logits, the trained
/// numbers with gradient and moments.
fn fixed_bytes(config: &ModelConfig, trained: usize) -> usize {
    let projections: usize = crate::model::lora::Projection::ALL
        .iter()
        .map(|p| config.projection_shape(*p))
        .map(|(n_out, n_in)| n_out * n_in)
        .sum();
    let embeddings = config.vocab_size * config.hidden_size;
    let head = HEAD_ROWS * config.vocab_size;
    4 * (2 * config.n_layers * projections + 3 * embeddings + head + 6 * trained)
}

/// A plan for at most `max_memory` bytes, of which `taken` are an engine's cache, `trained` numbers, and
/// pairs or answers of up to `longest` rows.
///
/// # Errors
/// Even one at a time does not fit; says what would.
pub fn plan(
    config: &ModelConfig,
    trained: usize,
    longest: usize,
    max_memory: usize,
    taken: usize,
) -> Result<MemoryPlan, TrainError> {
    let fixed = fixed_bytes(config, trained) + taken;
    let rows = |activations| max_memory.saturating_sub(fixed) / bytes_per_row(config, activations);
    for activations in [Activations::Keep, Activations::Recompute] {
        if rows(activations) >= longest {
            return Ok(MemoryPlan {
                pack_rows: rows(activations).min(USEFUL_ROWS.max(longest)),
                activations,
            });
        }
    }
    let needed = fixed + longest * bytes_per_row(config, Activations::Recompute);
    Err(TrainError::Unfit(format!(
        "--max-memory is {} MiB and the longest pair or answer ({longest} rows) needs {} MiB: allow more, \
         or give a smaller --max-length or --max-tokens",
        max_memory >> 20,
        (needed >> 20) + 1,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: usize = 1 << 30;

    /// SmolLM2-135M's shape.
    fn config() -> ModelConfig {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
            "vocab_size": 49152, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
            "rope_theta": 100000.0, "tie_word_embeddings": true, "hidden_act": "silu"}"#;
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        crate::model::weights::hugging_face::read_config(dir.path()).unwrap()
    }

    /// That shape, and the numbers of a LoRA of rank 16.
    fn plan_of(longest: usize, max_memory: usize) -> Result<MemoryPlan, TrainError> {
        plan(&config(), 2_000_000, longest, max_memory, 0)
    }

    fn bytes(plan: MemoryPlan) -> usize {
        let config = config();
        fixed_bytes(&config, 2_000_000) + plan.pack_rows * bytes_per_row(&config, plan.activations)
    }

    #[test]
    fn a_plan_stays_below_its_memory_and_gets_better_with_more() {
        let mut last: Option<MemoryPlan> = None;
        for quarters in 5..40 {
            let memory = quarters * GIB / 4;
            let Ok(plan) = plan_of(100, memory) else {
                assert!(last.is_none(), "more memory cannot be too little");
                continue;
            };
            assert!(bytes(plan) <= memory && plan.pack_rows >= 100);
            if let Some(last) = last {
                let recomputes = |p: MemoryPlan| p.activations == Activations::Recompute;
                assert!(recomputes(last) || !recomputes(plan));
                assert!(recomputes(last) != recomputes(plan) || plan.pack_rows >= last.pack_rows);
            }
            last = Some(plan);
        }
        let last = last.unwrap();
        assert_eq!(
            (last.pack_rows, last.activations),
            (USEFUL_ROWS, Activations::Keep)
        );
    }

    #[test]
    fn a_pair_that_does_not_fit_is_told_what_would() {
        let text = plan_of(4000, GIB).unwrap_err().to_string();
        let needed = text.split("needs ").nth(1).unwrap();
        let needed: usize = needed.split(' ').next().unwrap().parse().unwrap();
        assert!(plan_of(4000, needed << 20).is_ok(), "{text}");
        assert!(plan_of(4000, (needed - 2) << 20).is_err(), "{text}");
    }
}
