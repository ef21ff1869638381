//! What the server does by itself from time to time: completions whose time is over go, so do the bytes of
//! people who were deleted, in the store and in versions, and so do versions that nobody needs.

use std::sync::Arc;
use std::time::Duration;

use super::boot::now_unix_ms;
use super::error::AppError;
use super::state::AppState;
use super::store_threads::StoreWork;
use attune_store::{Store, StoreError};

/// How often at least. A deleted person's bytes are out of the files after this and the time of a compaction.
pub const EVERY: Duration = Duration::from_secs(600);

/// Does it again and again; dropped when the server ends.
pub async fn run(state: Arc<AppState>) {
    // Often enough to forget in time.
    let (least, most) = (Duration::from_secs(1), EVERY);
    let every = (state.limits.forget_within / 4).clamp(least, most);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick comes at once: a wish to compact may be older than this process.
    loop {
        ticks.tick().await;
        if let Err(error) = once(&state).await {
            tracing::warn!(%error, "the store could not be cleaned up; trying again later");
        }
        if let Err(error) = versions(&state).await {
            tracing::warn!(%error, "versions could not be cleaned up; trying again later");
        }
    }
}

/// Does it now.
///
/// # Errors
/// The store cannot write, or is being read: it is as it was.
pub async fn once(state: &Arc<AppState>) -> Result<(), AppError> {
    let work = |store: &Store| -> Result<(), StoreError> {
        let swept = store.sweep_completions(now_unix_ms())?;
        if swept > 0 {
            tracing::info!(swept, "completions expired");
        }
        if store.wants_compaction() {
            let summary = store.compact()?;
            let (before, after) = (summary.before, summary.after);
            tracing::info!(before, after, "the store was compacted");
        }
        Ok(())
    };
    state.store_threads.run(StoreWork::Long, work).await
}

/// Does now what is due for versions: those that could not be loaded are tried again, people who were deleted
/// leave them, and those go that nobody needs.
///
/// # Errors
/// The store or the disk cannot write, a bundle is damaged, or memory has no room for the version that is to
/// answer: what was done is done, and the rest is tried again.
pub async fn versions(state: &Arc<AppState>) -> Result<(), AppError> {
    let work = |state: &AppState| {
        let (limits, now) = (&state.limits, now_unix_ms());
        state.versions.retry()?;
        let forgotten = state.versions.forget_when_due(limits.forget_within, now);
        state.versions.prune(limits.keep_versions, now)?;
        forgotten.map(drop)
    };
    state.blocking(work).await
}
