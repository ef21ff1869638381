//! The directory of a run.
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

/// The evaluation of the run's last version: the output of `attune-train eval --json`.
pub const EVAL_FILE: &str = "eval.json";
/// The evaluation of the run's last version on tasks.
pub const SOLVED_FILE: &str = "solved.json";
/// What the run was started with: any JSON object.
pub const RUN_FILE: &str = "run.json";

/// The state of the best evaluation.
pub const BEST_FILE: &str = "best.safetensors";
/// Where the version goes.
pub const BUNDLE_DIR: &str = "bundle";
