//! Preference pairs become an adapter version.
//!
//! | module | subject |
//! |---|---|
//! | [`loss`] | one loss a file: the log-probabilities of a pair in, value and derivatives out |
//! | [`mixture`] | how individual and generic rows of a batch share its loss |
//! | [`metrics`] | `metrics.jsonl`, in TRL's names |
//! | [`evaluate`] | accuracy over held-out pairs, by user, with intervals |
//! | [`report`] | a run's directory becomes one page |

pub mod evaluate;
pub mod loss;
pub mod metrics;
pub mod mixture;
pub mod report;
