//! Where a run is, and what it may take.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use indicatif::{ProgressBar, ProgressStyle};

use crate::baseline::Baseline;
use crate::compute::Compute;
use crate::settings::judge::JudgeSettings;

/// Where a run is, and what it may take.
#[derive(Debug, Clone)]
pub struct RunOptions<'a> {
    /// Its directory.
    pub out: PathBuf,
    /// What the version is compared with, on the same pairs.
    pub against: Vec<Baseline>,
    /// Who compares answers with those of `against`; `None`: likelihoods alone are compared.
    pub judge: Option<JudgeSettings>,
    /// Go on from the checkpoint there.
    pub resume: bool,
    /// The device.
    pub compute: Compute,
    /// Bytes.
    pub max_memory: usize,
    /// Set from outside: stop after the step in progress.
    pub stop: &'a AtomicBool,
    /// Show a progress bar.
    pub progress: bool,
}

impl RunOptions<'_> {
    /// A bar that is called `what`; hidden where nobody looks.
    pub(crate) fn bar(&self, what: &'static str) -> ProgressBar {
        if !self.progress {
            return ProgressBar::hidden();
        }
        let template = "{prefix:>10} {bar:30} {pos}/{len} {elapsed} left {eta}  {msg}";
        let style = ProgressStyle::with_template(template);
        let bar = ProgressBar::new(0).with_prefix(what);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    }
}
