//! Five families of tiny random models: logits, log-probs, greedy continuations, soft prompts.

use crate::common::{
    argmax, floats_of, ids_of, last_row, log_prob, oracle_json, oracle_tensors, slack, soft_rows,
    tiny, tokens, Row, Solo,
};
use attune_model::decoder::Decoder;
use candle_core::Tensor;
use serde_json::Value;

const LOGITS: f32 = 2e-4;
const LOG_PROB_SUM: f64 = 1e-3;
const MARGIN: f64 = 2e-3;

#[test]
fn llama() {
    check("llama");
}

#[test]
fn qwen2() {
    check("qwen2");
}

#[test]
fn qwen3() {
    check("qwen3");
}

#[test]
fn mistral() {
    check("mistral");
}

#[test]
fn gemma3() {
    check("gemma3");
}

fn check(family: &str) {
    let decoder = tiny(family);
    let cases = oracle_json(&format!("tiny/{family}/cases.json"));
    let tensors = oracle_tensors(&format!("tiny/{family}/logits.safetensors"));
    for (i, case) in cases["cases"].as_array().unwrap().iter().enumerate() {
        for (block, soft, logits) in [
            ("plain", None, "logits".to_owned()),
            ("soft_noise", Some("noise"), "logits_soft_noise".to_owned()),
            ("soft_exact", Some("exact"), "logits_soft_exact".to_owned()),
        ] {
            let soft = soft.map(|s| soft_rows(&tensors[&format!("case{i}.soft.{s}")]));
            let want = &tensors[&format!("case{i}.{logits}")];
            check_block(&decoder, case, &case[block], soft.unwrap_or_default(), want);
        }
    }
}

fn check_block(decoder: &Decoder, case: &Value, block: &Value, soft: Vec<Row>, want: &Tensor) {
    let (prompt, response) = (ids_of(&case["ids"]), ids_of(&case["response_ids"]));
    let mut rows = soft;
    rows.extend(tokens(&prompt));
    let n_prompt = rows.len();
    let mut whole = rows.clone();
    whole.extend(tokens(&response));
    let got = Solo::new(decoder, 128, None).feed(&whole);
    let error = (&got - want).unwrap().abs().unwrap().max_all().unwrap();
    let error = error.to_scalar::<f32>().unwrap();
    assert!(
        error < LOGITS * slack() as f32,
        "{} {}: logits differ by {error}",
        case["name"],
        decoder.config().family
    );
    let logps = |i: usize, id: &u32| {
        log_prob(
            &got.get(n_prompt - 1 + i).unwrap().to_vec1::<f32>().unwrap(),
            *id,
        )
    };
    let sum: f64 = response
        .iter()
        .enumerate()
        .map(|(i, id)| logps(i, id))
        .sum();
    assert!((sum - block["response_logp_sum"].as_f64().unwrap()).abs() < LOG_PROB_SUM * slack());
    check_greedy(decoder, &rows, &block["greedy"]);
}

/// Greedy ids are exact up to the first step whose margin is too thin; there, either of the two best
/// will do, and what follows is not compared.
fn check_greedy(decoder: &Decoder, rows: &[Row], want: &Value) {
    let ids = ids_of(&want["ids"]);
    let mut solo = Solo::new(decoder, 128, None);
    let mut logits = last_row(&solo.feed(rows));
    for (id, margin) in ids.iter().zip(floats_of(&want["top2_margin"])) {
        if margin < MARGIN * slack() {
            return;
        }
        assert_eq!(argmax(&logits), *id);
        logits = last_row(&solo.feed(&[Row::Token(*id)]));
    }
}
