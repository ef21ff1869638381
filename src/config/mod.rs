//! Configuration: what was typed, and what it means, checked once. A file per command:
//!
//! | file | subject |
//! |---|---|
//! | [`attune`] | the command line of `attune` |
//! | [`train`] | `attune-train`: a file per command, and per group of settings that commands share |
//! | [`serve`] | `attune serve`, with a file per group of settings |
//! | [`learning_loop`] | `attune loop`, whose runs have the settings of `attune-train pdpo` |
//! | [`adapter`], [`key`], [`model`], [`store`] | the other commands of `attune` |
//! | [`layers`] | defaults < settings file < environment < flags |
//! | [`compute`], [`data_dir`], [`moment`], `sizes` | settings that several commands share |
//! | [`error`] | a setting that cannot be used; checks that many share |

pub mod adapter;
pub mod attune;
pub mod compute;
pub mod data_dir;
pub mod error;
pub mod key;
pub mod layers;
pub mod learning_loop;
pub mod model;
pub mod moment;
pub mod serve;
mod sizes;
pub mod store;
pub mod train;
