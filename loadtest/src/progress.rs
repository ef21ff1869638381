//! The bar on the terminal. Nothing is drawn where standard error is not a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::outcome::Outcome;

/// Progress of one level.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    tokens: u64,
    errors: u64,
}

impl Progress {
    /// A bar of `requests` steps; `quiet` draws nothing.
    pub fn new(label: &str, requests: usize, quiet: bool) -> Self {
        Self {
            bar: bar(label, requests, quiet),
            started: Instant::now(),
            tokens: 0,
            errors: 0,
        }
    }

    /// Counts one finished request.
    pub fn add(&mut self, outcome: &Outcome) {
        match &outcome.result {
            Ok(success) => self.tokens += success.output_tokens,
            Err(_) => self.errors += 1,
        }
        let rate = self.tokens as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
        self.bar
            .set_message(format!("{rate:.1} tok/s, {} errors", self.errors));
        self.bar.inc(1);
    }

    /// Removes the bar: the table says the same.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// Progress of something that is only counted.
pub struct Steps(ProgressBar);

impl Steps {
    /// A bar of so many steps; `quiet` draws nothing.
    pub fn new(label: &str, steps: usize, quiet: bool) -> Self {
        Self(bar(label, steps, quiet))
    }

    /// Counts one.
    pub fn add(&self) {
        self.0.inc(1);
    }

    /// Removes the bar.
    pub fn finish(self) {
        self.0.finish_and_clear();
    }
}

fn bar(label: &str, steps: usize, quiet: bool) -> ProgressBar {
    let target = if quiet {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
    // A constant template; the plain bar if it should ever be refused.
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    bar.set_prefix(label.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

const TEMPLATE: &str = "{prefix:24} [{bar:30}] {pos}/{len}, {elapsed}, eta {eta}, {msg}";
