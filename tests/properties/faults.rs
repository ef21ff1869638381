//! What one sequence does, or its reader, is no concern of the others. Counted in steps.

use std::time::Duration;

use attune_engine::clock::{Clock, Hands};
use attune_engine::outbox::{Left, EVENT_CAPACITY};
use attune_engine::request::{EngineRequest, SamplingParams, SubmitError, TimeLimits};
use attune_engine::step::StepOutcome;
use attune_engine::thread::EngineConfig;
use proptest::prelude::*;

use crate::driver::{config, naive, request, Driver, End, Reader};
use crate::mock::{MockRunner, FAILS, NOT_A_NUMBER, PANICS, VOCAB};

/// Ordinary requests around a bad one: the bad one ends as `expected`, the others as if alone.
fn only_the_bad_one_ends(bad: u32, expected: &End) {
    for ahead in [false, true] {
        let mut runner = MockRunner::new(64, 4);
        runner.ahead = ahead;
        let mut driver = Driver::new(runner, &config());
        let good: Vec<EngineRequest> = (0..4).map(|i| request(&[i, 2, 3], 12)).collect();
        let mut readers: Vec<Reader> = good.iter().map(|r| driver.submit_one(r.clone())).collect();
        driver.step();
        let mut bad = driver.submit_one(request(&[1, bad, 2], 12));
        let mut late = driver.submit_one(good[0].clone());
        driver.run_to_idle(200);
        assert_eq!(&bad.read().end, expected);
        assert!(bad.outcome.ids.is_empty());
        for (request, reader) in good.iter().zip(&mut readers) {
            assert_eq!(reader.read(), &naive(request));
        }
        assert_eq!(late.read(), &naive(&good[0]));
        driver.assert_empty();
    }
}

/// What a device says of a pass only when its tokens are waited for.
#[test]
fn a_pass_that_fails_on_its_device_ends_those_in_it() {
    let mut runner = MockRunner::ahead(64, 4);
    runner.loses = Some(3);
    let mut driver = Driver::new(runner, &config());
    let mut readers = [1, 2].map(|i| driver.submit_one(request(&[i], 9)));
    driver.run_to_idle(20);
    for reader in &mut readers {
        assert_eq!(reader.read().end, End::Step);
        assert_eq!(reader.outcome.ids.len(), 2);
    }
    driver.assert_empty();
    let mut next = driver.submit_one(request(&[1], 9));
    driver.run_to_idle(20);
    assert_eq!(next.read(), &naive(&request(&[1], 9)));
}

#[test]
fn a_sequence_whose_pass_fails_ends_alone() {
    only_the_bad_one_ends(FAILS, &End::Step);
}

#[test]
fn a_sequence_whose_pass_panics_ends_alone() {
    only_the_bad_one_ends(PANICS, &End::Step);
}

#[test]
fn a_sequence_whose_logits_are_not_numbers_ends_alone() {
    only_the_bad_one_ends(NOT_A_NUMBER, &End::NotFinite);
}

#[test]
fn a_dropped_answer_is_freed_by_the_next_step() {
    let mut driver = Driver::new(MockRunner::new(64, 4), &config());
    let stays = driver.submit_one(request(&[1], 50));
    driver.step();
    let alone = driver.engine.stats().blocks_used;
    let leaves = driver.submit_one(request(&[7; 30], 50));
    driver.step();
    assert!(driver.engine.stats().blocks_used > alone + 7);
    assert_eq!(driver.engine.stats().running, 2);
    drop(leaves);
    driver.step();
    assert_eq!(driver.engine.stats().running, 1);
    assert_eq!(driver.engine.stats().blocks_used, alone);
    drop(stays);
    assert_eq!(driver.step(), StepOutcome::Idle);
    driver.assert_empty();
}

#[test]
fn a_dropped_answer_that_waits_gives_its_place_back() {
    let config = EngineConfig {
        max_running: 1,
        max_queued: 1,
        ..config()
    };
    let mut driver = Driver::new(MockRunner::new(64, 4), &config);
    let _runs = driver.submit_one(request(&[1], 60));
    driver.step();
    let waits = driver.submit_one(request(&[2], 60));
    driver.step();
    let full = driver.submit(vec![request(&[3], 60)]).unwrap_err();
    assert!(matches!(full, SubmitError::Full { retry_after } if retry_after.as_secs() >= 1));
    drop(waits);
    driver.step();
    driver
        .submit(vec![request(&[3], 60)])
        .expect("there is a place");
}

#[test]
fn a_slow_reader_pauses_its_own_answer_and_loses_nothing() {
    for ahead in [false, true] {
        let mut runner = MockRunner::new(128, 4);
        runner.ahead = ahead;
        a_slow_reader_pauses_only_itself(Driver::new(runner, &config()));
    }
}

fn a_slow_reader_pauses_only_itself(mut driver: Driver) {
    let (slow, fast) = (request(&[1, 2], 150), request(&[3, 4], 150));
    let mut slow_reader = driver.submit_one(slow.clone());
    let mut fast_reader = driver.submit_one(fast.clone());
    for _ in 0..160 {
        driver.step();
        fast_reader.read();
    }
    assert_eq!(fast_reader.outcome, naive(&fast), "the other went on");
    assert_eq!(driver.step(), StepOutcome::Idle, "nothing to do but wait");
    assert_eq!(slow_reader.answer.events.len(), EVENT_CAPACITY);
    for _ in 0..5 {
        slow_reader.read();
        driver.run_to_idle(200);
    }
    assert_eq!(slow_reader.read(), &naive(&slow));
    driver.assert_empty();
}

#[test]
fn slow_readers_do_not_keep_others_out() {
    // One slot, and blocks for one long sequence only.
    let config = EngineConfig {
        max_running: 1,
        ..config()
    };
    let mut driver = Driver::new(MockRunner::new(40, 4), &config);
    let slow = request(&[1, 2], 150);
    let mut slow_reader = driver.submit_one(slow.clone());
    driver.run_to_idle(200);
    let other = request(&[5; 100], 20);
    let mut other_reader = driver.submit_one(other.clone());
    driver.run_to_idle(200);
    assert_eq!(other_reader.read(), &naive(&other));
    assert!(driver.engine.stats().preemptions > 0);
    for _ in 0..5 {
        slow_reader.read();
        driver.run_to_idle(200);
    }
    assert_eq!(slow_reader.read(), &naive(&slow));
}

const SECOND: Duration = Duration::from_secs(1);

/// A driver whose time is moved by hand, with one place to run.
fn timed() -> (Driver, Hands) {
    let (clock, hands) = Clock::by_hand();
    let config = EngineConfig {
        max_running: 1,
        clock,
        ..config()
    };
    (Driver::new(MockRunner::new(128, 4), &config), hands)
}

/// 150 tokens, more than wait for a reader; 10 seconds without one, 60 in all.
fn patient() -> EngineRequest {
    EngineRequest {
        limits: TimeLimits {
            answer: Some(60 * SECOND),
            stall: Some(10 * SECOND),
        },
        ..request(&[1, 2], 150)
    }
}

#[test]
fn an_answer_that_nobody_reads_ends_and_gives_everything_back() {
    let (mut driver, hands) = timed();
    let mut unread = driver.submit_one(patient());
    driver.run_to_idle(100);
    assert_eq!(driver.engine.stats().stalled, 1);
    hands.advance(9 * SECOND);
    assert_eq!(driver.step(), StepOutcome::Idle);
    assert_eq!(driver.engine.stats().running, 1, "it may stall for so long");
    hands.advance(SECOND);
    driver.step();
    driver.assert_empty();
    assert_eq!(unread.read().end, End::Stalled);
    assert_eq!(unread.outcome.ids.len(), EVENT_CAPACITY, "no token is lost");
}

#[test]
fn a_reader_who_takes_a_token_now_and_then_is_no_stall() {
    let (mut driver, hands) = timed();
    let mut slow = driver.submit_one(patient());
    for _ in 0..5 {
        driver.run_to_idle(100);
        hands.advance(9 * SECOND);
        let event = slow.answer.events.try_recv().expect("a token to read");
        slow.take(event);
    }
    driver.run_to_idle(100);
    assert_eq!(
        driver.engine.stats().running,
        1,
        "45 seconds, never 10 at once"
    );
    hands.advance(15 * SECOND);
    driver.step();
    driver.assert_empty();
    assert_eq!(slow.read().end, End::Deadline, "but an answer may take 60");
}

#[test]
fn time_is_over_for_those_that_wait_and_for_those_that_were_put_back() {
    let (mut driver, hands) = timed();
    let mut put_back = driver.submit_one(patient());
    driver.run_to_idle(100);
    let mut runs = driver.submit_one(EngineRequest {
        limits: TimeLimits::default(),
        ..patient()
    });
    driver.step();
    let mut waits = driver.submit_one(EngineRequest {
        limits: TimeLimits {
            answer: Some(5 * SECOND),
            stall: None,
        },
        ..patient()
    });
    driver.step();
    let counts = driver.intake.admission().counts();
    let (stats, rows) = (driver.engine.stats(), 2 + 2 + EVENT_CAPACITY);
    assert_eq!(stats.preemptions, 1);
    assert_eq!((stats.running, stats.waiting), (1, 2));
    assert_eq!(
        (counts.running, counts.waiting, counts.waiting_rows),
        (1, 2, rows)
    );
    hands.advance(10 * SECOND);
    driver.step();
    assert_eq!(put_back.read().end, End::Stalled);
    assert_eq!(waits.read().end, End::Deadline);
    let counts = driver.intake.admission().counts();
    assert_eq!((counts.running, counts.waiting), (1, 0));
    for _ in 0..5 {
        driver.run_to_idle(200);
        runs.read();
        hands.advance(60 * SECOND);
    }
    assert_eq!(
        runs.outcome,
        naive(&request(&[1, 2], 150)),
        "it has no limits"
    );
    driver.assert_empty();
}

/// What the metrics say of one answer whose reader leaves after some tokens.
fn metrics_of_one_that_left(leave: impl FnOnce(Reader)) -> String {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let mut driver = Driver::new(MockRunner::new(64, 4), &config());
        let mut reader = driver.submit_one(request(&[1; 9], 30));
        for _ in 0..4 {
            driver.step();
        }
        assert_eq!(reader.read().ids.len(), 4);
        leave(reader);
        driver.run_to_idle(20);
        driver.assert_empty();
    });
    handle.render()
}

#[test]
fn a_reader_that_leaves_counts_as_what_it_says() {
    let disconnect = "attune_request_disconnect_total 1";
    let stop = "attune_request_success_total{finished_reason=\"stop\"} 1";
    let deadline = "attune_request_failure_total{reason=\"deadline\"} 1";
    let given_up = "attune_request_failure_total{reason=\"given_up\"} 1";
    let all = [disconnect, stop, deadline, given_up];
    for (why, expected) in [
        (None, disconnect),
        (Some(Left::Complete), stop),
        (Some(Left::Deadline), deadline),
        (Some(Left::GivenUp), given_up),
    ] {
        let text = metrics_of_one_that_left(|reader| match why {
            None => drop(reader),
            Some(why) => reader.answer.leave(why),
        });
        let counted: Vec<_> = all.into_iter().filter(|line| text.contains(line)).collect();
        assert_eq!(counted, [expected], "{why:?}\n{text}");
        let tokens = "attune_request_generation_tokens_count 1";
        assert_eq!(text.contains(tokens), why == Some(Left::Complete), "{text}");
    }
}

#[test]
fn a_reader_knows_what_was_cached_before_the_end() {
    let mut driver = Driver::new(MockRunner::new(64, 4), &config());
    let first = driver.submit_one(request(&[1; 9], 30));
    driver.step();
    assert_eq!(first.answer.cached_tokens(), 0);
    let second = driver.submit_one(request(&[1; 9], 30));
    driver.step();
    assert_eq!(second.answer.cached_tokens(), 8);
}

#[test]
fn what_can_never_run_is_refused_with_its_reason() {
    let mut driver = Driver::new(MockRunner::new(4, 4), &config());
    let ask = |change: fn(&mut EngineRequest)| {
        let mut request = request(&[1, 2], 2);
        change(&mut request);
        request
    };
    let cases: [(&str, EngineRequest); 7] = [
        ("KV cache holds 16", ask(|r| r.max_tokens = 16)),
        ("KV cache holds 16", ask(|r| r.max_tokens = usize::MAX)),
        ("prompt is empty", ask(|r| r.prompt = [].as_slice().into())),
        ("soft_at", ask(|r| r.soft_at = 3)),
        ("max_tokens", ask(|r| r.max_tokens = 0)),
        (
            "token id 40",
            ask(|r| r.prompt = [VOCAB as u32].as_slice().into()),
        ),
        ("temperature", ask(|r| r.sampling.temperature = f32::NAN)),
    ];
    for (why, request) in cases {
        let error = driver.submit(vec![request]).unwrap_err();
        let SubmitError::Invalid(message) = error else {
            panic!("{error:?}");
        };
        assert!(message.contains(why), "{message}");
    }
    driver.assert_empty();
    let mut longest = driver.submit_one(request(&[1, 2], 15));
    driver.run_to_idle(100);
    assert_eq!(
        longest.read().ids.len(),
        15,
        "exactly what fits is answered"
    );
}

#[test]
fn a_prompt_of_soft_rows_only_is_answered() {
    let only_soft = EngineRequest {
        soft_prompt: crate::driver::soft(&[1.0, 2.0, 3.0]),
        ..request(&[], 5)
    };
    let mut driver = Driver::new(MockRunner::new(8, 4), &config());
    let mut reader = driver.submit_one(only_soft.clone());
    driver.run_to_idle(20);
    assert_eq!(reader.read(), &naive(&only_soft));
}

#[test]
fn the_metrics_tell_what_happened() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        attune_engine::metrics::describe();
        let mut driver = Driver::new(MockRunner::new(64, 4), &config());
        let _readers = [0, 1].map(|_| driver.submit_one(request(&[1; 9], 3)));
        driver.run_to_idle(20);
        let _third = driver.submit_one(request(&[1; 9], 3));
        driver.run_to_idle(20);
    });
    let text = handle.render();
    for line in [
        "attune_prompt_tokens_total 27",
        "attune_generation_tokens_total 9",
        "attune_prefix_cache_queries_total 27",
        "attune_prefix_cache_hits_total 16",
        "attune_request_success_total{finished_reason=\"length\"} 3",
        "attune_time_to_first_token_seconds_count 3",
        "attune_inter_token_latency_seconds_count 6",
        "attune_request_queue_time_seconds_count 3",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}

/// A client that comes, perhaps reads, and leaves at some step.
#[derive(Debug, Clone)]
struct Client {
    prompt: usize,
    comes: usize,
    stays: usize,
    reads: bool,
}

fn any_client() -> impl Strategy<Value = Client> {
    (1..40usize, 0..200usize, 0..60usize, any::<bool>()).prop_map(
        |(prompt, comes, stays, reads)| Client {
            prompt,
            comes,
            stays,
            reads,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_hundred_disconnects_leave_nothing_behind(
        clients in prop::collection::vec(any_client(), 100),
        n_blocks in 30..80usize,
        ahead in any::<bool>(),
    ) {
        let mut runner = MockRunner::new(n_blocks, 4);
        runner.ahead = ahead;
        let mut driver = Driver::new(runner, &config());
        let mut readers: Vec<Option<Reader>> = clients.iter().map(|_| None).collect();
        let last = clients.iter().map(|c| c.comes + c.stays).max().unwrap();
        for now in 0..=last {
            for (i, (client, reader)) in clients.iter().zip(&mut readers).enumerate() {
                if now == client.comes {
                    let mut ask = request(&vec![i as u32 % 30; client.prompt], 80);
                    ask.sampling = SamplingParams::default();
                    *reader = Some(driver.submit_one(ask));
                }
                if client.reads {
                    reader.as_mut().map(Reader::read);
                }
                if now == client.comes + client.stays {
                    *reader = None;
                }
            }
            driver.step();
        }
        prop_assert_eq!(driver.step(), StepOutcome::Idle);
        driver.assert_empty();
    }
}
