//! A training run, from settings to a published version.
//!
//! The directory of a run:
//!
//! | file | what |
//! |---|---|
//! | `run.json` | settings, counts of the data, base model |
//! | `metrics.jsonl` | a line each few steps |
//! | `checkpoint.safetensors` | the state to go on from |
//! | `best.safetensors` | the state of the best evaluation |
//! | `eval.json` | the best one, evaluated on the pairs that were held out |
//! | `bundle/VERSION/` | the version |
//! | `report.html` | all of it, to look at |
//!
//! | module | subject |
//! |---|---|
//! | [`whole`] | from settings to a version |
//! | [`start`] | a new directory, or the state to go on from |
//! | [`steps`] | step after step, with metrics, evaluations and checkpoints |
//! | [`finish`] | the best state, evaluated and published |
//! | [`place`] | where a run is and what it may take |

pub mod finish;
pub mod place;
pub mod start;
pub mod steps;
pub mod whole;

pub use finish::BUNDLE_DIR;
pub use place::Place;
pub use whole::{run, Outcome};
