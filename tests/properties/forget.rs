//! Whoever is forgotten is found in no block any more; nobody else notices.

use attune_engine::request::EngineRequest;
use attune_engine::subject::Subject;
use proptest::prelude::*;

use crate::driver::{config, naive, request, soft, Driver, End};
use crate::mock::{adapter, MockRunner};

fn person(n: u8) -> Subject {
    Subject::of(&[&[n]])
}

/// A request of person `n`, who has a row of their own; 0 is nobody, who has none.
fn ask(n: u8, prompt: &[u32], max_tokens: usize) -> EngineRequest {
    EngineRequest {
        soft_prompt: soft(&[f32::from(n)]),
        adapter: Some(adapter(1)),
        subject: (n > 0).then(|| person(n)),
        ..request(prompt, max_tokens)
    }
}

fn driver() -> Driver {
    Driver::new(MockRunner::new(256, 4), &config())
}

/// Prompt ids that a repetition finds.
fn cached(driver: &mut Driver, request: EngineRequest) -> usize {
    let mut reader = driver.submit_one(request);
    driver.run_to_idle(100);
    reader.read();
    reader.cached_tokens.unwrap()
}

#[test]
fn blocks_of_the_forgotten_are_gone_and_those_of_others_are_not() {
    let mut driver = driver();
    let prompt: Vec<u32> = (0..17).collect();
    for n in [1, 2, 0] {
        cached(&mut driver, ask(n, &prompt, 2));
        // 18 rows, 4 full blocks before the last: 16 rows, one of them soft.
        assert_eq!(cached(&mut driver, ask(n, &prompt, 2)), 15, "{n}");
    }
    driver.forget(person(1));
    driver.step();
    assert_eq!(cached(&mut driver, ask(1, &prompt, 2)), 0);
    for n in [2, 0] {
        assert_eq!(cached(&mut driver, ask(n, &prompt, 2)), 15, "{n}");
    }
    // A beginning that two have in common goes with the one who computed it.
    let anonymous = |n| EngineRequest {
        soft_prompt: soft(&[]),
        ..ask(n, &prompt, 2)
    };
    cached(&mut driver, anonymous(3));
    assert_eq!(cached(&mut driver, anonymous(2)), 16);
    driver.forget(person(3));
    assert_eq!(cached(&mut driver, anonymous(2)), 0);
    assert_eq!(cached(&mut driver, anonymous(2)), 16);
}

fn any_request() -> impl Strategy<Value = (u8, Vec<u32>, usize)> {
    (0..4u8, prop::collection::vec(0..3u32, 1..14), 1..12usize)
}

#[test]
fn what_was_cached_goes_without_an_end_to_what_runs_unless_nobody_reads_it() {
    let mut driver = driver();
    let (runs, left) = (ask(1, &[1; 9], 9), ask(1, &[2; 9], 9));
    let mut read = driver.submit_one(runs.clone());
    let unread = driver.submit_one(left.clone());
    driver.step();
    drop(unread);
    driver.engine.forget(&[(person(1), 0)].into());
    assert_eq!(driver.engine.scheduler().running().len(), 1);
    assert_eq!(cached(&mut driver, left), 0);
    assert_eq!(read.read(), &naive(&runs));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// At any moment, with sequences that run and wait and passes in flight: those of the person end, the others
    /// say what they would have said, and the books are in order (the driver looks after each step).
    #[test]
    fn only_the_forgotten_end(
        requests in prop::collection::vec(any_request(), 1..8),
        whom in 1..4u8,
        after in 0..12usize,
        ahead in any::<bool>(),
        afterwards in prop::collection::vec(any_request(), 0..3),
    ) {
        let make = if ahead { MockRunner::ahead } else { MockRunner::new };
        let mut driver = Driver::new(make(40, 4), &config());
        let asked: Vec<EngineRequest> = requests.iter().map(|(n, p, m)| ask(*n, p, *m)).collect();
        let readers: Vec<_> = asked.iter().map(|r| driver.submit_one(r.clone())).collect();
        for _ in 0..after {
            driver.step();
        }
        let noted = driver.intake.next_arrival();
        // The engine hears of the deletion when it has these, too.
        let later: Vec<EngineRequest> = afterwards.iter().map(|(n, p, m)| ask(*n, p, *m)).collect();
        let answered: Vec<_> = later.iter().map(|r| driver.submit_one(r.clone())).collect();
        driver.engine.forget(&[(person(whom), noted)].into());
        driver.engine.scheduler().check_integrity().unwrap();
        driver.run_to_idle(400);
        for (mut reader, request) in answered.into_iter().zip(&later) {
            prop_assert_eq!(reader.read(), &naive(request));
        }
        for ((mut reader, request), (n, _, _)) in readers.into_iter().zip(&asked).zip(&requests) {
            let outcome = reader.read().clone();
            let alone = naive(request);
            if *n == whom && outcome.end == End::Forgotten {
                prop_assert_eq!(&outcome.ids[..], &alone.ids[..outcome.ids.len()]);
            } else {
                prop_assert_eq!(outcome, alone);
            }
        }
        driver.assert_empty();
        // Nothing of theirs is found, also not what was computed while they were forgotten. What they have left
        // since is theirs.
        for (n, prompt, _) in requests.iter().filter(|_| afterwards.is_empty()) {
            if *n == whom {
                let hit = cached(&mut driver, ask(*n, prompt, 1));
                driver.forget(person(whom));
                prop_assert_eq!(hit, 0);
            }
        }
    }
}
