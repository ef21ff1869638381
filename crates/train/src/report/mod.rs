//! A run's directory becomes one page: `report.html`, complete by itself, without scripts.
//!
//! | file | subject |
//! |---|---|
//! | [`run_files`] | `metrics.jsonl`, `eval.json` and `run.json` of a run, as far as they are there |
//! | [`history`] | the lines of `metrics.jsonl` as curves over steps |
//! | [`plot`] | axes, lines and dots as SVG; colours that the page's style changes in the dark |
//! | [`curves`] | which curves there are |
//! | [`users`] | accuracy by user: sorted dots with intervals |
//! | [`tables`] | results and configuration |
//! | [`tasks`] | results and samples of a run on tasks |
//! | [`page`] | the page around them, and writing it |
//!
//! User ids, file names and configuration are anybody's text. The page is built with maud, which escapes
//! what it is given; plots hold numbers and words of this program only.

pub mod curves;
pub mod error;
pub mod history;
pub mod page;
pub mod plot;
pub mod run_files;
pub mod tables;
pub mod tasks;
#[cfg(test)]
mod tests;
pub mod users;

pub use error::ReportError;
pub use page::report;
