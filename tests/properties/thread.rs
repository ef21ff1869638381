//! The handle and the thread behind it. Nothing sleeps: gates and channels order what happens.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::time::Duration;

use attune_engine::clock::Clock;
use attune_engine::request::{EngineAdapter, EngineRequest, SubmitError, TimeLimits};
use attune_engine::runner::Runner;
use attune_engine::subject::Subject;
use attune_engine::thread::{EngineConfig, EngineHandle};
use attune_model::error::ModelError;
use attune_model::input::ForwardInput;
use candle_core::Tensor;

use crate::driver::{config, naive, request, End, Reader};
use crate::mock::{adapter, MockRunner};

/// Longer than anything here takes: a bound for a broken engine, not a wait for a working one.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a lease's receiver says when nobody holds the lease any more.
const GIVEN_BACK: Result<(), RecvTimeoutError> = Err(RecvTimeoutError::Disconnected);

fn gated(config: EngineConfig) -> (EngineHandle, Sender<()>) {
    let (open, gate) = channel();
    let mut runner = MockRunner::new(64, 4);
    runner.gate = Some(gate);
    (EngineHandle::spawn(Box::new(runner), config), open)
}

fn submit(engine: &EngineHandle, request: EngineRequest) -> Reader {
    Reader::new(engine.submit(vec![request]).unwrap().pop().unwrap())
}

/// A request whose end the receiver sees: it fails once nothing holds the lease.
fn leased(request: EngineRequest) -> (EngineRequest, Receiver<()>) {
    let (sender, ended) = channel();
    let lease = EngineAdapter {
        lease: Arc::new(std::sync::Mutex::new(sender)),
        ..adapter(0)
    };
    let request = EngineRequest {
        adapter: Some(lease),
        ..request
    };
    (request, ended)
}

#[test]
fn many_submitters_get_the_answers_of_each_alone() {
    let engine = EngineHandle::spawn(Box::new(MockRunner::new(64, 4)), config());
    std::thread::scope(|scope| {
        for i in 0..8 {
            let engine = engine.clone();
            scope.spawn(move || {
                for j in 0..5 {
                    let ask = request(&[i, j, 3], 20);
                    let mut reader = submit(&engine, ask.clone());
                    assert_eq!(reader.read_to_end(), &naive(&ask));
                }
            });
        }
    });
    // Everyone has seen the end of their answers, so it is in the books: no need to stop first.
    let stats = engine.stats();
    assert_eq!((stats.running, stats.waiting, stats.blocks_used), (0, 0, 0));
    engine.stop();
    assert!(stats.steps > 0 && stats.blocks_total == 64);
}

#[test]
fn a_full_queue_refuses_whole_requests_and_takes_more_later() {
    let (engine, open) = gated(EngineConfig {
        max_running: 1,
        max_queued: 2,
        ..config()
    });
    let mut first = submit(&engine, request(&[1], 3));
    let mut second = submit(&engine, request(&[2], 3));
    let two = vec![request(&[3], 3), request(&[4], 3)];
    let refused = engine.submit(two.clone()).unwrap_err();
    assert!(matches!(refused, SubmitError::Full { retry_after } if retry_after.as_secs() >= 1));
    let mut third = submit(&engine, request(&[5], 3));
    assert!(matches!(
        engine.submit(two.clone()),
        Err(SubmitError::Full { .. })
    ));
    drop(open);
    for reader in [&mut first, &mut second, &mut third] {
        assert_eq!(reader.read_to_end().end, End::Length);
    }
    engine.submit(two).expect("there is room again");
    engine.stop();
}

#[test]
fn waiting_rows_are_bounded() {
    let (engine, open) = gated(EngineConfig {
        max_running: 1,
        max_queued_tokens: 20,
        ..config()
    });
    let _first = submit(&engine, request(&[1; 12], 1));
    let _second = submit(&engine, request(&[1; 12], 1));
    let refused = engine.submit(vec![request(&[1; 9], 1)]).unwrap_err();
    assert!(matches!(refused, SubmitError::Full { .. }));
    drop(open);
    engine.stop();
}

#[test]
fn draining_finishes_what_is_there_and_takes_nothing_new() {
    let (engine, open) = gated(config());
    let ask = request(&[1, 2], 10);
    let mut reader = submit(&engine, ask.clone());
    engine.drain();
    let refused = engine.submit(vec![request(&[1], 1)]).unwrap_err();
    assert!(matches!(refused, SubmitError::ShuttingDown));
    drop(open);
    assert_eq!(reader.read_to_end(), &naive(&ask));
    assert!(engine.is_alive());
    engine.stop();
    assert!(!engine.is_alive());
}

#[test]
fn stopping_ends_everything_and_returns_when_it_has() {
    let (engine, open) = gated(EngineConfig {
        max_running: 1,
        ..config()
    });
    // Longer than the channel, and not read: it cannot finish.
    let mut runs = submit(&engine, request(&[1], 100));
    let mut waits = submit(&engine, request(&[2], 100));
    drop(open);
    std::thread::scope(|scope| {
        scope.spawn(|| engine.stop());
        scope.spawn(|| engine.stop());
    });
    assert!(!engine.is_alive());
    assert_eq!(runs.read_to_end().end, End::ShuttingDown);
    assert_eq!(waits.read_to_end().end, End::ShuttingDown);
    let refused = engine.submit(vec![request(&[1], 1)]).unwrap_err();
    assert!(matches!(refused, SubmitError::Stopped));
    assert_eq!(engine.stats().blocks_used, 0);
}

#[test]
fn the_engine_wakes_for_a_slow_reader_that_reads() {
    let engine = EngineHandle::spawn(Box::new(MockRunner::new(128, 4)), config());
    let ask = request(&[1, 2], 200);
    let mut slow = submit(&engine, ask.clone());
    // Came later and is over: by now the slow one has filled its channel.
    submit(&engine, request(&[3], 150)).read_to_end();
    assert_eq!(slow.read_to_end(), &naive(&ask));
    engine.stop();
}

#[test]
fn the_engine_wakes_for_a_slow_reader_that_leaves() {
    let engine = EngineHandle::spawn(Box::new(MockRunner::new(128, 4)), config());
    let (ask, ended) = leased(request(&[1, 2], 200));
    let slow = submit(&engine, ask);
    submit(&engine, request(&[3], 150)).read_to_end();
    drop(slow);
    assert_eq!(ended.recv_timeout(PATIENCE), GIVEN_BACK);
    engine.stop();
}

#[test]
fn the_engine_wakes_for_an_answer_whose_time_is_over() {
    let seconds = Duration::from_secs;
    for limits in [
        TimeLimits {
            answer: Some(seconds(9)),
            stall: None,
        },
        TimeLimits {
            answer: None,
            stall: Some(seconds(9)),
        },
        TimeLimits {
            answer: Some(seconds(600)),
            stall: Some(seconds(9)),
        },
    ] {
        let (clock, hands) = Clock::by_hand();
        let config = EngineConfig { clock, ..config() };
        let engine = EngineHandle::spawn(Box::new(MockRunner::new(128, 4)), config);
        let (ask, ended) = leased(EngineRequest {
            limits,
            ..request(&[1, 2], 200)
        });
        let mut unread = submit(&engine, ask);
        // Came later and is over: by now the one in front has filled its channel.
        submit(&engine, request(&[3], 150)).read_to_end();
        until(|| engine.stats().stalled == 1);
        // In two moves, so that it wakes once too early and has to sleep again.
        hands.advance(seconds(5));
        hands.advance(seconds(5));
        assert_eq!(ended.recv_timeout(PATIENCE), GIVEN_BACK);
        let expected = if limits.stall.is_some() {
            End::Stalled
        } else {
            End::Deadline
        };
        assert_eq!(unread.read_to_end().end, expected);
        engine.stop();
    }
}

/// Polls until `condition` holds.
fn until(condition: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "it does not come");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_submitted_after_a_deletion_is_answered() {
    let (open, gate) = channel();
    let mut runner = MockRunner::new(64, 4);
    runner.gate = Some(gate);
    let passes = Arc::clone(&runner.passes);
    let engine = EngineHandle::spawn(Box::new(runner), config());
    let person = Subject::of(&[b"ann"]);
    let ask = EngineRequest {
        subject: Some(person),
        ..request(&[1, 2], 5)
    };
    let mut runs = submit(&engine, ask.clone());
    until(|| passes.load(Ordering::SeqCst) == 1);
    // All of it is there when the engine looks again.
    let mut waits = submit(&engine, ask.clone());
    engine.forget(person);
    let mut back = submit(&engine, ask.clone());
    // Somebody who was on the way while the person was deleted cleans up behind them.
    engine.forget_cached(person);
    drop(open);
    assert_eq!(runs.read_to_end().end, End::Forgotten);
    assert_eq!(waits.read_to_end().end, End::Forgotten);
    assert_eq!(back.read_to_end(), &naive(&ask));
    engine.stop();
}

#[test]
fn without_handles_the_engine_finishes_and_ends() {
    let (engine, open) = gated(config());
    let (ask, ended) = leased(request(&[1, 2], 10));
    let mut reader = submit(&engine, ask.clone());
    drop((engine, open));
    let expected = naive(&ask);
    drop(ask);
    assert_eq!(reader.read_to_end(), &expected);
    assert_eq!(ended.recv_timeout(PATIENCE), GIVEN_BACK);
}

/// Dies outside of the guarded pass, as a bug in the engine itself would.
struct Dying(MockRunner);

impl Runner for Dying {
    fn forward(&mut self, input: &ForwardInput) -> Result<Tensor, ModelError> {
        self.0.forward(input)
    }

    fn vocab_size(&self) -> usize {
        let passes = self.0.passes.load(Ordering::SeqCst);
        assert!(passes < 3, "a bug");
        self.0.vocab_size()
    }

    fn block_size(&self) -> usize {
        self.0.block_size()
    }

    fn n_blocks(&self) -> usize {
        self.0.n_blocks()
    }
}

#[test]
fn a_dead_engine_tells_everyone() {
    let engine = EngineHandle::spawn(Box::new(Dying(MockRunner::new(64, 4))), config());
    let mut readers = [1, 2].map(|i| submit(&engine, request(&[i], 30)));
    for reader in &mut readers {
        assert_eq!(reader.read_to_end().end, End::Step);
    }
    engine.stop();
    assert!(!engine.is_alive());
    let refused = engine.submit(vec![request(&[1], 1)]).unwrap_err();
    assert!(matches!(refused, SubmitError::Stopped));
}
