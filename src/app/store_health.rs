//! Whether the store works, as far as is known: looked at in the background, read from memory.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::Arc;
use std::time::Duration;

use metrics::{describe_gauge, gauge};
use tokio::sync::Semaphore;

use super::error::AppError;
use super::state::AppState;
use super::store_threads::StoreWork;
use attune_store::Store;

/// How often the store is looked at.
pub const EVERY: Duration = Duration::from_secs(1);

/// Looks in a row that found the last one still under way before the store counts as hanging.
const PATIENCE: u32 = 5;

/// Looks after which a store that could not be mended is tried again; it doubles each time.
const FIRST_PAUSE: u32 = 2;
/// The most of them.
const LONGEST_PAUSE: u32 = 300;

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
    /// The disk is nearly full: only what makes room is written.
    Full,
    /// A write failed: nothing is written until the database was opened anew.
    Failed,
    /// The disk does not answer.
    Hanging,
}

impl StoreState {
    const ALL: [Self; 4] = [Self::Writable, Self::Full, Self::Failed, Self::Hanging];

    /// The word that callers see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Writable => "writable",
            Self::Full => "full",
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

/// Looks again and again, and mends a store that has failed; dropped when the server ends.
pub async fn run(state: Arc<AppState>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (looks, mends) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1)));
    let (mut missed, mut pause, mut paused) = (0, FIRST_PAUSE, 0);
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
            Err(_) => missed += 1,
        }
        if missed >= PATIENCE {
            found(&state, StoreState::Hanging, "the disk does not answer");
        }
        match state.store_health.state() {
            StoreState::Failed if paused < pause => paused += 1,
            StoreState::Failed => {
                (paused, pause) = (0, pause.saturating_mul(2).min(LONGEST_PAUSE));
                let Ok(mending) = mends.clone().try_acquire_owned() else {
                    continue;
                };
                let mended = state.clone();
                state.tasks.spawn(async move {
                    mend(&mended).await;
                    drop(mending);
                });
            }
            _ => (paused, pause) = (0, FIRST_PAUSE),
        }
    }
}

/// Opens a store that has failed anew, and looks whether it works then.
pub async fn mend(state: &Arc<AppState>) {
    let mend = |store: &Store| store.mend();
    match state.store_threads.run(StoreWork::Long, mend).await {
        Ok(()) => look(state).await,
        Err(error) => {
            tracing::warn!(%error, "the store could not be reopened; trying again")
        }
    }
}

/// Looks once.
pub async fn look(state: &Arc<AppState>) {
    let look = |store: &Store| store.is_writable();
    match state.store_threads.run(StoreWork::Probe, look).await {
        Ok(()) => found(state, StoreState::Writable, ""),
        Err(AppError::StoreFull(why)) => found(state, StoreState::Full, &why),
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
