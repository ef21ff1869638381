//! What the kills came to.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::recorder::Summary;
use crate::stats::Errors;

/// A whole run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KillsReport {
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// Free text from `--note`.
    pub note: Option<String>,
    /// The scenario with all defaults.
    pub scenario: Value,
    /// What made the load.
    pub environment: BTreeMap<String, String>,
    /// Servers that were killed.
    pub kills: usize,
    /// Ended before all kills that were asked for; what was made of them is whole.
    pub interrupted: bool,
    /// Deeds that were done, by name.
    pub done: BTreeMap<String, u64>,
    /// Answers of 429 and 503.
    pub refused: BTreeMap<String, Errors>,
    /// What broke off with the server, and other failures.
    pub broke_off: BTreeMap<String, Errors>,
    /// Changes of versions that were acknowledged.
    pub changes: u64,
    /// Writes and deletions that were acknowledged.
    pub acknowledged: u64,
    /// Preferences that were sent again after a kill, and were there once then.
    pub sent_again: u64,
    /// Records that were there at the end.
    pub kept: usize,
    /// From a start to the first answer, in milliseconds.
    pub start_ms: Option<Summary>,
    /// Records that are not as they were acknowledged.
    pub broken: Vec<String>,
}

/// The report as text.
pub fn render(report: &KillsReport) -> String {
    let done: u64 = report.done.values().sum();
    let start = report.start_ms.map_or_else(String::new, |s| {
        format!(
            " A start took {:.0} ms (p50), {:.0} ms at most.",
            s.p50, s.max
        )
    });
    let mut text = format!(
        "{} kills, {done} deeds, {} changes of versions; {} writes and deletions acknowledged, {} sent again, {} \
         records at the end.{start}\n",
        report.kills, report.changes, report.acknowledged, report.sent_again, report.kept,
    );
    if report.interrupted {
        text.push_str("Ended before all kills that were asked for.\n");
    }
    let names: Vec<String> = report
        .done
        .iter()
        .map(|(name, n)| format!("{name} {n}"))
        .collect();
    let _ = writeln!(text, "Done: {}.", names.join(", "));
    for (kind, errors) in report.refused.iter().chain(&report.broke_off) {
        let _ = writeln!(
            text,
            "Not answered: {} x {kind}: {}",
            errors.count, errors.example
        );
    }
    if report.broken.is_empty() {
        text.push_str("Nothing that was acknowledged is lost, is there twice, or came back.\n");
    }
    for fault in &report.broken {
        let _ = writeln!(text, "FAULT: {fault}");
    }
    text
}
