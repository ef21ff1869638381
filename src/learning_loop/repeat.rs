//! Turn after turn, until told to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::gate::Rule;
use super::target::Target;
use super::turn::{turn, Turn};
use super::work_dir::WorkDir;
use super::LoopError;
use crate::config::error::ConfigError;
use crate::config::learning_loop::{Loop, LoopConfig};

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
        let config = LoopConfig::new(raw, WorkDir::snapshot_in)?;
        let gate = config.gate;
        Ok(Self {
            every: config.every,
            threads: config.threads,
            turn: Turn {
                target: Target {
                    bundles: config.bundles,
                    data_dir: config.data_dir,
                    url: config.url,
                    key: config.api_key,
                },
                alias: config.alias,
                settings: config.settings,
                compute: config.compute,
                max_memory: config.max_memory,
                rule: Rule {
                    margin: gate.margin,
                    chance: gate.chance,
                    coalition: gate.coalition,
                    max_losers: gate.max_losers,
                    min_people: gate.min_people,
                    min_test_pairs: gate.min_test_pairs,
                },
                judge: config.judge,
                fit_users: config.fit_users,
                min_pairs: config.min_pairs,
                keep_runs: config.keep_runs,
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
