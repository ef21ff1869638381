//! Whether the store works, as far as is known: looked at in the background, read from memory.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::Arc;
use std::time::Duration;

use metrics::{describe_gauge, gauge};

use super::error::AppError;
use super::state::AppState;
use super::store_threads::StoreWork;
use crate::store::StoreError;

/// How often the store is looked at.
pub const EVERY: Duration = Duration::from_secs(1);

/// Looks in a row that found the last one still under way before the store counts as hanging.
const PATIENCE: u32 = 5;

/// The gauge of it.
const WRITABLE: &str = "attune_store_writable";

/// Help texts of what is counted here.
pub fn describe() {
    describe_gauge!(WRITABLE, "1 while the store takes writes.");
}

/// What the store can do. Answers are made in every case: all that they need of it is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreState {
    /// Everything.
    Writable,
    /// A write failed: it is read only.
    Failed,
    /// The disk does not answer.
    Hanging,
}

impl StoreState {
    const ALL: [Self; 3] = [Self::Writable, Self::Failed, Self::Hanging];

    /// The word that callers see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Writable => "writable",
            Self::Failed => "failed",
            Self::Hanging => "hanging",
        }
    }
}

/// The last that was found.
#[derive(Debug, Default)]
pub struct StoreHealth(AtomicU8);

impl StoreHealth {
    /// What the store can do, as it was found last.
    pub fn state(&self) -> StoreState {
        let found = usize::from(self.0.load(Ordering::Acquire));
        StoreState::ALL
            .get(found)
            .copied()
            .unwrap_or(StoreState::Failed)
    }

    /// Sets it; returns what it was.
    pub fn set(&self, state: StoreState) -> StoreState {
        let before = self.state();
        // Fieldless, so that the number is its place in `ALL`.
        self.0.store(state as u8, Ordering::Release);
        before
    }
}

/// Looks again and again; dropped when the server ends.
pub async fn run(state: Arc<AppState>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let looks = Arc::new(tokio::sync::Semaphore::new(1));
    let mut missed = 0;
    loop {
        ticks.tick().await;
        // A look that hangs is not waited for: the next one says so.
        match looks.clone().try_acquire_owned() {
            Ok(looking) => {
                missed = 0;
                let looked = state.clone();
                state.tasks.spawn(async move {
                    look(&looked).await;
                    drop(looking);
                });
            }
            Err(_) => {
                missed += 1;
                if missed >= PATIENCE {
                    found(&state, StoreState::Hanging, "the disk does not answer");
                }
            }
        }
    }
}

/// Looks once.
pub async fn look(state: &Arc<AppState>) {
    let look = |store: &crate::store::Store| -> Result<Result<(), StoreError>, StoreError> {
        Ok(store.is_writable())
    };
    match state.store_threads.run(StoreWork::Probe, look).await {
        Ok(Ok(())) => found(state, StoreState::Writable, ""),
        Ok(Err(error)) => found(state, StoreState::Failed, &error.to_string()),
        // The last look is under way still.
        Err(AppError::StoreBusy { .. }) => {}
        Err(error) => found(state, StoreState::Failed, &error.to_string()),
    }
}

fn found(state: &AppState, now: StoreState, why: &str) {
    let before = state.store_health.set(now);
    if before != now {
        match now {
            StoreState::Writable => tracing::info!("the store takes writes again"),
            _ => tracing::error!(
                state = now.as_str(),
                why,
                "the store takes no writes; answers go on"
            ),
        }
    }
    let writable = f64::from(u8::from(now == StoreState::Writable));
    state.metrics.record(|| gauge!(WRITABLE).set(writable));
}
