//! The sampler against one that sorts everything.

use attune_engine::draw::Scratch;
use attune_engine::request::SamplingParams;
use attune_engine::sampler::{Sampler, SamplingPlan};
use attune_model::kernels::math::exp;
use proptest::prelude::*;

use crate::driver::request;

fn draw(params: &SamplingParams, logits: &[f32], u: f64) -> u32 {
    let plan = SamplingPlan::of(params, u);
    plan.choose(logits, &mut Scratch::default()).unwrap()
}

/// What top-k, top-p and min-p keep by their definitions, in order of id, each with its probability in units of the
/// best one's.
fn naive_kept(params: &SamplingParams, logits: &[f32]) -> Vec<(u32, f64)> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |id: u32| exp((logits[id as usize] - max) / params.temperature);
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let descending = |a: f32, b: f32| b.partial_cmp(&a).unwrap();
    ids.sort_by(|a, b| descending(logits[*a as usize], logits[*b as usize]).then(a.cmp(b)));
    if params.top_k > 0 {
        ids.truncate(params.top_k);
    }
    if params.top_p < 1.0 {
        ids.sort_by(|a, b| descending(weight(*a), weight(*b)).then(a.cmp(b)));
        let total: f64 = ids.iter().map(|id| f64::from(weight(*id))).sum();
        let mut sum = 0.0;
        let reached = ids.iter().position(|id| {
            sum += f64::from(weight(*id));
            sum >= f64::from(params.top_p) * total
        });
        ids.truncate(reached.map_or(ids.len(), |i| i + 1));
    }
    ids.retain(|id| weight(*id) >= params.min_p && weight(*id) > 0.0);
    ids.sort_unstable();
    ids.iter().map(|id| (*id, f64::from(weight(*id)))).collect()
}

/// Whether `u` points at `id` where they lie side by side; but for rounding, for sums have no one order.
fn is_pointed_at(kept: &[(u32, f64)], id: u32, u: f64) -> bool {
    let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
    let (at, slack) = (u * total, 1e-12 * total);
    let mut end = 0.0;
    kept.iter().any(|(other, weight)| {
        let start = end;
        end += weight;
        *other == id && start - slack <= at && at < end + slack
    })
}

/// Many equal values, some impossible tokens, at least one possible one.
fn any_logits() -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![
        6 => (-20..20i32).prop_map(|v| v as f32 / 4.0),
        2 => -30.0f32..30.0,
        1 => Just(f32::NEG_INFINITY),
        1 => Just(-0.0f32),
    ];
    (prop::collection::vec(value, 0..700), -5.0f32..5.0).prop_map(|(mut logits, last)| {
        logits.push(last);
        logits
    })
}

fn any_filters() -> impl Strategy<Value = SamplingParams> {
    let top_p = prop_oneof![Just(1.0f32), Just(0.0), 0.0f32..1.0, 0.99f32..1.0];
    let min_p = prop_oneof![Just(0.0f32), Just(1.0), 0.0f32..1.0];
    let top_k = prop_oneof![Just(0usize), 1..4usize, 1..800usize];
    (0.05f32..2.0, top_k, top_p, min_p).prop_map(|(temperature, top_k, top_p, min_p)| {
        SamplingParams {
            temperature,
            top_k,
            top_p,
            min_p,
            ..SamplingParams::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn drawing_agrees_with_sorting_everything(
        logits in any_logits(),
        params in any_filters(),
        u in prop_oneof![Just(0.0f64), Just(1.0 - f64::EPSILON), 0.0..1.0f64],
    ) {
        let id = draw(&params, &logits, u);
        prop_assert!(is_pointed_at(&naive_kept(&params, &logits), id, u), "{}", id);
        prop_assert!(logits[id as usize] > f32::NEG_INFINITY, "an impossible token");
    }

    #[test]
    fn greedy_is_the_first_of_the_greatest(logits in any_logits()) {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let first = logits.iter().position(|l| *l == max).unwrap();
        prop_assert_eq!(draw(&SamplingParams::greedy(), &logits, 0.7), first as u32);
        let one = SamplingParams { top_k: 1, ..SamplingParams::default() };
        prop_assert_eq!(draw(&one, &logits, 0.7), first as u32);
    }
}

#[test]
fn draws_follow_the_softmax_at_the_temperature() {
    let logits = [1.0f32, 0.0, 2.5, f32::NEG_INFINITY, 1.5];
    let params = SamplingParams {
        temperature: 0.7,
        ..SamplingParams::default()
    };
    let exp = logits.map(|l| (f64::from(l) / 0.7).exp());
    let total: f64 = exp.iter().sum();
    let n = 10_000;
    let mut counts = [0usize; 5];
    for i in 0..n {
        let u = (f64::from(i) + 0.5) / f64::from(n);
        counts[draw(&params, &logits, u) as usize] += 1;
    }
    for (count, weight) in counts.iter().zip(exp) {
        let share = *count as f64 / f64::from(n);
        assert!((share - weight / total).abs() < 2e-4, "{counts:?}");
    }
}

#[test]
fn the_nucleus_ends_where_it_reaches_p() {
    let params = SamplingParams {
        top_p: 0.5,
        ..SamplingParams::default()
    };
    assert_eq!(draw(&params, &[1.0, 1.0], 0.9), 0);
    let four = [0.0, 1.0, 1.0, 0.0];
    let drawn: Vec<u32> = [0.0, 0.4, 0.6, 0.99]
        .map(|u| draw(&params, &four, u))
        .into();
    assert_eq!(drawn, [1, 1, 2, 2]);
}

#[test]
fn a_seed_decides_and_different_streams_differ() {
    let logits: Vec<f32> = (0..40).map(|i| (i % 7) as f32 / 10.0).collect();
    let answer = |seed: Option<u64>, stream: u64| -> Vec<u32> {
        let mut request = request(&[1], 32);
        request.sampling = SamplingParams {
            seed,
            ..SamplingParams::default()
        };
        let mut sampler = Sampler::new(&request, 5, stream);
        let mut scratch = Scratch::default();
        (0..32)
            .map(|_| sampler.sample(&logits, &mut scratch).unwrap().id)
            .collect()
    };
    assert_eq!(answer(Some(1), 0), answer(Some(1), 9));
    assert_ne!(answer(Some(1), 0), answer(Some(2), 0));
    assert_ne!(answer(None, 0), answer(None, 1));
    assert_eq!(answer(None, 3), answer(None, 3));
}

#[test]
fn end_ids_are_not_chosen_too_soon() {
    let mut request = request(&[1], 8);
    request.min_tokens = 2;
    request.end_ids = [3u32, 4].as_slice().into();
    let (mut sampler, mut scratch) = (Sampler::new(&request, 0, 0), Scratch::default());
    let logits = [0.0, 2.0, 1.0, 5.0, 6.0];
    let ids: Vec<u32> = (0..3)
        .map(|_| sampler.sample(&logits, &mut scratch).unwrap().id)
        .collect();
    assert_eq!(ids, [1, 1, 4]);
}

#[test]
fn log_probabilities_are_those_of_the_raw_logits() {
    let mut request = request(&[1], 8);
    request.sampling.logprobs = Some(2);
    request.sampling.logit_bias = [(0, 100.0)].into();
    let (mut sampler, mut scratch) = (Sampler::new(&request, 0, 0), Scratch::default());
    // softmax([0, ln 3]) = [1/4, 3/4]
    let token = sampler.sample(&[0.0, 3f32.ln()], &mut scratch).unwrap();
    assert_eq!(token.id, 0, "the bias decides");
    assert!((token.logprob.unwrap() - 0.25f32.ln()).abs() < 1e-6);
    let top: Vec<u32> = token.top.iter().map(|t| t.id).collect();
    assert_eq!(top, [1, 0]);
}

#[test]
fn logits_that_are_no_numbers_are_refused() {
    let mut scratch = Scratch::default();
    for bad in [
        [0.0, f32::NAN],
        [f32::INFINITY, 0.0],
        [f32::NEG_INFINITY; 2],
    ] {
        let mut sampler = Sampler::new(&request(&[1], 8), 0, 0);
        assert!(sampler.sample(&bad, &mut scratch).is_err(), "{bad:?}");
    }
    let mut sampler = Sampler::new(&request(&[1], 8), 0, 0);
    let possible = [f32::NEG_INFINITY, 0.0];
    assert_eq!(sampler.sample(&possible, &mut scratch).unwrap().id, 1);
}
