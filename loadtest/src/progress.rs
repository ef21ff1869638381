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
        let target = if quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(requests as u64), target);
        // A constant template; the plain bar if it should ever be refused.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        bar.set_prefix(label.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        Self {
            bar,
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

const TEMPLATE: &str = "{prefix:24} [{bar:30}] {pos}/{len} requests, {elapsed}, eta {eta}, {msg}";
