//! Batching, chunking, caching, preempting and cancelling change no answer.

use attune::engine::request::{EngineRequest, SamplingParams};
use attune::engine::step::StepOutcome;
use attune::engine::thread::EngineConfig;
use proptest::prelude::*;

use crate::driver::{config, naive, request, soft, Driver, End, Reader};
use crate::mock::{adapter, MockRunner, ORDINARY};

/// Prompts share beginnings: a common stem, cut somewhere, and a tail.
fn any_prompt() -> impl Strategy<Value = Vec<u32>> {
    let tail = prop::collection::vec(0..ORDINARY, 0..6);
    (0..2u32, 0..40usize, tail).prop_map(|(stem, cut, tail)| {
        let stem = (0..cut as u32).map(|i| (i * 7 + stem) % ORDINARY);
        stem.chain(tail).chain([3]).collect()
    })
}

fn any_sampling() -> impl Strategy<Value = SamplingParams> {
    let greedy = Just(SamplingParams::greedy()).boxed();
    let drawn = (
        any::<u64>(),
        0..6usize,
        0.3f32..=1.0,
        0.0f32..0.3,
        0.8f32..1.5,
    );
    let drawn = drawn.prop_map(|(seed, top_k, top_p, min_p, penalty)| SamplingParams {
        seed: Some(seed),
        top_k,
        top_p,
        min_p,
        repetition_penalty: penalty,
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        logit_bias: vec![(5, 1.0)],
        logprobs: Some(2),
        ..SamplingParams::default()
    });
    prop_oneof![greedy, drawn.boxed()]
}

fn any_request() -> impl Strategy<Value = EngineRequest> {
    let parts = (
        any_prompt(),
        prop::collection::vec(0..2u8, 0..5),
        0..2usize,
        prop::option::of(0..2u8),
        any_sampling(),
        prop_oneof![12 => 1..30usize, 1 => 66..90usize],
        0..4usize,
        any::<bool>(),
    );
    parts.prop_map(
        |(prompt, rows, soft_at, version, sampling, max_tokens, min_tokens, ignore_eos)| {
            let rows: Vec<f32> = rows.into_iter().map(f32::from).collect();
            EngineRequest {
                soft_prompt: soft(&rows),
                soft_at,
                adapter: version.map(adapter),
                sampling,
                min_tokens,
                ignore_eos,
                ..request(&prompt, max_tokens)
            }
        },
    )
}

/// What happens to a request on its way.
#[derive(Debug, Clone)]
struct Fate {
    request: EngineRequest,
    submitted_at: usize,
    dropped_after: Option<usize>,
    /// Steps from one look at the events to the next: a slow reader has a full channel by then.
    reads_every: usize,
}

fn any_fate() -> impl Strategy<Value = Fate> {
    let cut = prop::option::weighted(0.3, 0..20usize);
    let reads_every = prop_oneof![Just(1usize), Just(100)];
    (any_request(), 0..10usize, cut, reads_every).prop_map(
        |(request, submitted_at, dropped_after, reads_every)| Fate {
            request,
            submitted_at,
            dropped_after,
            reads_every,
        },
    )
}

#[derive(Debug, Clone)]
struct Machine {
    config: EngineConfig,
    n_blocks: usize,
    block_size: usize,
}

/// From just enough blocks for one sequence to plenty.
fn any_machine() -> impl Strategy<Value = Machine> {
    let parts = (1..6usize, 1..40usize, any::<bool>(), 1..9usize, 0..60usize);
    parts.prop_map(
        |(max_running, token_budget, prefix_cache, block_size, extra)| Machine {
            config: EngineConfig {
                max_running,
                token_budget,
                prefix_cache,
                ..config()
            },
            n_blocks: 140usize.div_ceil(block_size) + extra,
            block_size,
        },
    )
}

/// Runs all requests and compares what was not dropped; returns how often one was preempted.
fn check(fates: &[Fate], machine: &Machine) -> u64 {
    let runner = MockRunner::new(machine.n_blocks, machine.block_size);
    let mut driver = Driver::new(runner, &machine.config);
    let mut readers: Vec<Option<Reader>> = fates.iter().map(|_| None).collect();
    for now in 0..100_000 {
        for (fate, reader) in fates.iter().zip(&mut readers) {
            if fate.submitted_at == now {
                *reader = Some(driver.submit_one(fate.request.clone()));
            }
            let dropped_at = fate.dropped_after.map(|n| fate.submitted_at + n);
            if dropped_at == Some(now) {
                *reader = None;
            }
        }
        let idle = driver.step() == StepOutcome::Idle;
        for (fate, reader) in fates.iter().zip(&mut readers) {
            if idle || now % fate.reads_every == 0 {
                reader.as_mut().map(Reader::read);
            }
        }
        let open = |r: &Reader| r.outcome.end == End::Open;
        if idle && now > 30 && !readers.iter().flatten().any(open) {
            break;
        }
    }
    driver.assert_empty();
    for (fate, reader) in fates.iter().zip(&mut readers) {
        if let Some(reader) = reader {
            assert_ne!(reader.read().end, End::Open, "every answer ends");
            assert_eq!(reader.outcome, naive(&fate.request));
        }
    }
    driver.engine.stats().preemptions
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_are_those_of_each_request_alone(
        fates in prop::collection::vec(any_fate(), 1..12),
        machine in any_machine(),
    ) {
        check(&fates, &machine);
    }
}

/// The property above is worth something only if blocks do run out.
#[test]
fn a_tight_cache_preempts_and_changes_nothing() {
    let fate = |i: u32| Fate {
        request: request(&[i, 1, 2, 3], 40),
        submitted_at: 0,
        dropped_after: None,
        reads_every: 1,
    };
    let fates: Vec<Fate> = (0..5).map(fate).collect();
    for prefix_cache in [false, true] {
        let machine = Machine {
            config: EngineConfig {
                prefix_cache,
                ..config()
            },
            n_blocks: 23,
            block_size: 4,
        };
        assert!(check(&fates, &machine) > 0, "nothing was preempted");
    }
}

#[test]
fn the_oldest_runs_as_if_it_were_alone() {
    let mut driver = Driver::new(MockRunner::new(23, 4), &config());
    let ask = |i: u32| request(&[i, 1, 2, 3], 40);
    let mut readers: Vec<Reader> = (0..5).map(|i| driver.submit_one(ask(i))).collect();
    // The prompt and the first token in one step, and one for each of the others.
    for step in 1..=40 {
        assert_eq!(readers[0].read().ids.len(), step - 1, "step {step}");
        driver.step();
    }
    assert_eq!(readers[0].read(), &naive(&ask(0)));
    assert!(driver.engine.stats().preemptions > 0);
}

#[test]
fn decodes_come_before_prompts_and_a_step_keeps_its_budget() {
    let config = EngineConfig {
        token_budget: 4,
        ..config()
    };
    let mut driver = Driver::new(MockRunner::new(64, 4), &config);
    let mut first = driver.submit_one(request(&[1], 20));
    driver.step();
    let mut second = driver.submit_one(request(&[2; 10], 20));
    // 3 rows a step are left for the prompt of 10: it takes 4 steps.
    for step in 1..=4 {
        assert!(second.read().ids.is_empty());
        let rows = if step == 4 { 2 } else { 4 };
        assert_eq!(driver.step(), StepOutcome::Ran { rows });
        assert_eq!(first.read().ids.len(), 1 + step);
    }
    assert_eq!(second.read().ids.len(), 1);
}
