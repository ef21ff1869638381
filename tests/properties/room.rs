//! Who finds room, and what the engine says of it.

use attune::engine::fairness::Sharing;
use attune::engine::request::{EngineRequest, Payer};
use attune::engine::thread::EngineConfig;

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
