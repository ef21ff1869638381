//! Turn after turn, until told to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::gate::Rule;
use super::target::Target;
use super::turn::{turn, Turn};
use super::work_dir::WorkDir;
use super::LoopError;
use crate::config::learning_loop::LoopConfig;
use crate::config::raw::Loop;
use crate::config::resolved::{data_dir, ConfigError};

/// How often a loop that waits looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(200);

/// A loop.
#[derive(Debug)]
pub struct Repeat {
    /// What each turn is told.
    pub turn: Turn,
    /// Time from the end of a turn to the next; `None`: there is one turn.
    pub every: Option<Duration>,
    /// CPU threads of training.
    pub threads: usize,
}

impl Repeat {
    /// Checks what was typed.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(raw: &Loop) -> Result<Self, ConfigError> {
        let data_dir = data_dir(&raw.data)?;
        let places = |data_dir: &_| [WorkDir::snapshot_in(data_dir), WorkDir::run_in(data_dir)];
        let config = LoopConfig::new(raw, places)?;
        let bundles = raw.bundles.clone();
        Ok(Self {
            every: config.every,
            threads: config.train.threads,
            turn: Turn {
                target: Target {
                    bundles: bundles.unwrap_or_else(|| data_dir.join("bundles")),
                    data_dir,
                    url: raw.url.clone(),
                    key: raw.api_key.clone(),
                },
                alias: config.alias,
                settings: config.train.settings,
                compute: config.train.compute,
                max_memory: config.train.max_memory,
                rule: Rule {
                    margin: config.margin,
                    chance: config.chance,
                    coalition: config.coalition,
                    max_losers: config.max_losers,
                    min_people: raw.min_people,
                    min_test_pairs: raw.min_test_pairs,
                },
                judge: config.judge,
                fit_users: raw.fit_users,
                min_pairs: raw.min_pairs,
                keep_runs: raw.keep_runs.clone(),
                progress: true,
            },
        })
    }

    /// Turns. `say` is told how each turn ended. What stops one turn does not stop the next.
    ///
    /// # Errors
    /// What stopped the turn, if there is one only.
    pub fn all(&self, stop: &AtomicBool, mut say: impl FnMut(&str)) -> Result<(), LoopError> {
        loop {
            match (turn(&self.turn, stop), self.every) {
                (Ok(outcome), _) => say(&outcome.to_string()),
                (Err(error), None) => return Err(error),
                (Err(error), Some(_)) => say(&format!("this turn failed: {error}")),
            }
            match self.every {
                Some(pause) if wait(pause, stop) => {}
                _ => return Ok(()),
            }
        }
    }
}

/// False: it is to stop.
fn wait(pause: Duration, stop: &AtomicBool) -> bool {
    let until = Instant::now() + pause;
    while !stop.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(LOOK));
    }
    false
}
