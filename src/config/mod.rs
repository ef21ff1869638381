//! Configuration in two stages: what was typed, and what it means.
//!
//! | file | subject |
//! |---|---|
//! | [`raw`], [`resolved`], [`http`], `sharing` | `attune` |
//! | [`train`], [`training`], `compute` | `attune-train`, with its TOML files |
//! | [`train_expo`] | its commands on tasks |
//! | [`moment`] | moments in time |
//! | [`learning_loop`] | `attune loop`, which has the settings of `attune-train pdpo`, too |

mod compute;
pub mod http;
pub mod learning_loop;
pub mod moment;
pub mod raw;
pub mod resolved;
mod sharing;
pub mod train;
pub mod train_expo;
pub mod training;
