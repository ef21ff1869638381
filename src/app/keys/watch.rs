//! A key file that changes is read again, and so it is on SIGHUP.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{signal, Signal, SignalKind};
use tokio::time::MissedTickBehavior;

use super::file::KeyFileError;
use super::ring::KeyRing;
use crate::app::state::AppState;

/// How often the file is looked at, unless a test wants more.
pub const EVERY: Duration = Duration::from_secs(2);

/// Watches the key file for as long as it is polled; without one, ends at once. Nothing is done about SIGHUP
/// then.
pub async fn run(state: Arc<AppState>, every: Duration) {
    if !state.keys.has_file() {
        return;
    }
    let mut hangups = hangups();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let told = tokio::select! {
            _ = ticks.tick() => false,
            () = next(&mut hangups) => true,
        };
        let work = move |state: &AppState| {
            report(look(&state.keys, told));
            Ok(())
        };
        // A thread that fails has said so itself.
        let _ = state.blocking(work).await;
    }
}

fn look(keys: &KeyRing, told: bool) -> Option<Result<usize, KeyFileError>> {
    if told {
        return Some(keys.reload());
    }
    keys.refresh()
}

fn report(read: Option<Result<usize, KeyFileError>>) {
    match read {
        None => {}
        Some(Ok(0)) => tracing::warn!(
            "the API key file no longer names any key; every request will be refused"
        ),
        Some(Ok(keys)) => tracing::info!(keys, "the API keys were read again"),
        Some(Err(error)) => tracing::error!(%error, "the API keys stay as they were"),
    }
}

fn hangups() -> Option<Signal> {
    let made: io::Result<Signal> = signal(SignalKind::hangup());
    made.inspect_err(|error| tracing::warn!(%error, "SIGHUP is not heard; the key file is still read again when it changes"))
        .ok()
}

/// Resolves at the next SIGHUP.
async fn next(hangups: &mut Option<Signal>) {
    if let Some(signal) = hangups {
        if signal.recv().await.is_some() {
            return;
        }
    }
    std::future::pending().await
}
