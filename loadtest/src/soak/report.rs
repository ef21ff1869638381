//! What a soak came to.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::flat::{Trend, FEWEST};
use super::sample::Sample;
use crate::mix::report::MixReport;
use crate::stats::Errors;
use crate::table::{new_table, short};

/// A whole soak.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SoakReport {
    /// What was done.
    #[serde(flatten)]
    pub mix: MixReport,
    /// From the first deed to the end of the last.
    pub wall_s: f64,
    /// Failures that are no refusals.
    pub failed: BTreeMap<String, Errors>,
    /// The last quarter against the first.
    pub trends: Vec<Trend>,
    /// All looks at the process.
    pub samples: Vec<Sample>,
    /// The look after the last deed, when nothing may be left.
    pub settled: Sample,
}

impl SoakReport {
    /// What was not as it should be; empty is good.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.mix.broken.clone();
        if self.trends.is_empty() {
            faults.push(format!(
                "fewer than {FEWEST} looks at the process: more requests, or a shorter sample_every"
            ));
        }
        let grown = self.trends.iter().filter(|trend| !trend.flat);
        faults.extend(grown.map(|t| format!("{} grows: {:.1} to {:.1}", t.name, t.first, t.last)));
        if !self.settled.is_idle() {
            faults.push(format!(
                "not idle after the last request: {:?}",
                self.settled
            ));
        }
        for (kind, errors) in &self.failed {
            faults.push(format!("{} x {kind}: {}", errors.count, errors.example));
        }
        let refused: u64 = self.mix.refused.values().map(|e| e.count).sum();
        let done = self.mix.deeds();
        if refused > done {
            faults.push(format!(
                "{refused} refusals for {done} answers: fewer clients"
            ));
        }
        faults
    }
}

/// The report as text.
pub fn render(report: &SoakReport) -> String {
    let mut table = new_table(&[
        "",
        "first quarter",
        "last quarter",
        "most",
        "at the end",
        "",
    ]);
    let settled = &report.settled;
    let at_end = [
        settled.rss_mib,
        settled.descriptors,
        settled.threads,
        settled.kv_blocks,
    ];
    for (trend, at_end) in report.trends.iter().zip(at_end) {
        table.add_row([
            trend.name.clone(),
            short(trend.first),
            short(trend.last),
            short(trend.most),
            short(at_end),
            (if trend.flat { "flat" } else { "GROWS" }).to_owned(),
        ]);
    }
    let (mix, done) = (&report.mix, report.mix.deeds());
    let mut text = format!(
        "{table}\n{done} deeds in {:.0} s ({:.0}/s), {} changes of versions, {} writes and deletions acknowledged, {} records kept.\n",
        report.wall_s,
        done as f64 / report.wall_s.max(1e-9),
        mix.changes,
        mix.acknowledged,
        mix.kept,
    );
    let _ = writeln!(text, "Done: {}.", mix.deeds_by_name());
    if mix.interrupted {
        text.push_str("Ended before all deeds that were asked for.\n");
    }
    for (kind, errors) in &mix.refused {
        let _ = writeln!(
            text,
            "Refused: {} x {kind}: {}",
            errors.count, errors.example
        );
    }
    for fault in report.faults() {
        let _ = writeln!(text, "FAULT: {fault}");
    }
    text
}
