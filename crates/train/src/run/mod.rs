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
//! | `eval.json`, `solved.json` | the best one, evaluated on the pairs or tasks that were held out |
//! | `bundle/VERSION/` | the version |
//! | `report.html` | all of it, to look at |
//!
//! | module | subject |
//! |---|---|
//! | [`whole`] | from settings to a version |
//! | [`work`], [`material`] | what a run learns from, behind one trait |
//! | [`pair_work`] | preference pairs; tasks are [`expo`](crate::expo)'s |
//! | [`start`] | a new directory, or the state to go on from |
//! | [`steps`] | step after step, with metrics, evaluations and checkpoints |
//! | [`finish`] | the best state, evaluated and published |
//! | [`place`] | where a run is and what it may take |

pub mod finish;
pub mod material;
pub mod pair_work;
pub mod place;
pub mod start;
pub mod steps;
pub mod whole;
pub mod work;

pub use finish::BUNDLE_DIR;
pub use place::Place;
pub use whole::{run, Outcome};
