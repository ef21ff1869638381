//! Who finds room, and what the engine says of it.

use attune_engine::fairness::Sharing;
use attune_engine::request::{EngineRequest, Payer};
use attune_engine::thread::EngineConfig;

use crate::driver::{config, request, Driver, End};
use crate::mock::MockRunner;

/// A whole batch may end in the step in which it began: what fits side by side is known all the same.
#[test]
fn how_many_fit_is_known_after_all_of_them_have_ended() {
    // Two blocks each, and one of growth for each that runs: the third finds none.
    let mut driver = Driver::new(MockRunner::new(6, 4), &config());
    let mut readers = [1, 2, 3].map(|i| driver.submit_one(request(&[i; 5], 1)));
    driver.step();
    assert_eq!(driver.engine.scheduler().running().len(), 0);
    assert_eq!(driver.engine.scheduler().full_at(), Some(2));
    driver.step();
    assert_eq!(driver.engine.scheduler().full_at(), None, "nobody waits");
    for reader in &mut readers {
        assert_eq!(reader.read().end, End::Length);
    }
}

fn of(group: u64, prompt: &[u32], max_tokens: usize) -> EngineRequest {
    EngineRequest {
        payer: Payer {
            group,
            ..Payer::default()
        },
        ..request(prompt, max_tokens)
    }
}

/// A heavy payer's two answers have a prompt of 4 blocks in common. Returns how many are recomputed when somebody
/// comes who needs `more` blocks than are free or theirs alone, and whose prompt begins like theirs if it is `alike`.
fn displaced_by(more: isize, alike: bool) -> u64 {
    let config = EngineConfig {
        sharing: Sharing {
            patience: 0,
            ..Sharing::default()
        },
        ..config()
    };
    let mut driver = Driver::new(MockRunner::new(80, 4), &config);
    let common = [3; 17];
    let mut readers = Vec::new();
    for request in [
        of(1, &common, 200),
        of(1, &common, 200),
        // Served half of what the others get together, and no more than whoever comes next.
        of(2, &[4], 200),
    ] {
        readers.push(driver.submit_one(request));
        driver.step();
    }
    for _ in 0..50 {
        driver.step();
        readers.iter_mut().for_each(|r| drop(r.read().clone()));
    }
    let scheduler = driver.engine.scheduler();
    let tables = scheduler.running().iter().map(|s| s.block_table().len());
    let tables: Vec<usize> = tables.collect();
    let theirs = tables[0] - 4 + tables[1] - 4;
    assert_eq!(theirs + 4 + tables[2], scheduler.blocks().used());
    let n_blocks = (scheduler.blocks().available() + theirs).saturating_add_signed(more);
    let mut prompt = vec![5; n_blocks * 4];
    if alike {
        prompt[..17].copy_from_slice(&common);
    }
    readers.push(driver.submit_one(of(3, &prompt, 1)));
    driver.step();
    let runs = driver.engine.scheduler().running();
    let displaced = driver.engine.stats().preemptions;
    assert_eq!(runs.iter().any(|s| s.arrival() == 3), displaced > 0);
    displaced
}

/// What two share becomes free with both of them only, and what grows beside a newcomer keeps its room: nobody is
/// recomputed for somebody who finds no room then.
#[test]
fn nobody_gives_way_to_whoever_finds_no_room_then() {
    assert_eq!(
        displaced_by(4, false),
        0,
        "with what the two share, but for growth"
    );
    assert_eq!(displaced_by(-3, false), 2);
    assert_eq!(displaced_by(1, true), 2, "it shares these blocks, too");
}
