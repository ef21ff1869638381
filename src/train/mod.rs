//! Preference pairs become an adapter version.
//!
//! | module | subject |
//! |---|---|
//! | [`loss`] | one loss a file: the log-probabilities of a pair in, value and derivatives out |
//! | [`mixture`] | how individual and generic rows of a batch share its loss |
//! | [`metrics`] | `metrics.jsonl`, in TRL's names |

pub mod loss;
pub mod metrics;
pub mod mixture;
