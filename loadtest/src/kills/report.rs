//! What the kills came to.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::mix::report::MixReport;
use crate::recorder::Summary;
use crate::stats::Errors;

/// A whole run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KillsReport {
    /// What was done, over all servers.
    #[serde(flatten)]
    pub mix: MixReport,
    /// Servers that were killed.
    pub kills: usize,
    /// What broke off with the server, and other failures.
    pub broke_off: BTreeMap<String, Errors>,
    /// Preferences that were sent again after a kill, and were there once then.
    pub sent_again: u64,
    /// From a start to the first answer, in milliseconds.
    pub start_ms: Option<Summary>,
}

/// The report as text.
pub fn render(report: &KillsReport) -> String {
    let mix = &report.mix;
    let start = report.start_ms.map_or_else(String::new, |s| {
        format!(
            " A start took {:.0} ms (p50), {:.0} ms at most.",
            s.p50, s.max
        )
    });
    let mut text = format!(
        "{} kills, {} deeds, {} changes of versions; {} writes and deletions acknowledged, {} sent again, {} \
         records at the end.{start}\n",
        report.kills, mix.deeds(), mix.changes, mix.acknowledged, report.sent_again, mix.kept,
    );
    if mix.interrupted {
        text.push_str("Ended before all kills that were asked for.\n");
    }
    let _ = writeln!(text, "Done: {}.", mix.deeds_by_name());
    for (kind, errors) in mix.refused.iter().chain(&report.broke_off) {
        let _ = writeln!(
            text,
            "Not answered: {} x {kind}: {}",
            errors.count, errors.example
        );
    }
    if mix.broken.is_empty() {
        text.push_str("Nothing that was acknowledged is lost, is there twice, or came back.\n");
    }
    for fault in &mix.broken {
        let _ = writeln!(text, "FAULT: {fault}");
    }
    text
}
