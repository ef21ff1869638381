//! Does a server stay as it was? A mix of requests goes on for long, the process is looked at meanwhile, and
//! what it holds in the last quarter is compared with the first.
//!
//! | module | subject |
//! |---|---|
//! | [`sample`] | what a process holds at a moment: memory, descriptors, threads, KV blocks, sequences |
//! | [`flat`] | whether a row of samples stays where it is |
//! | [`run`] | the run: clients, operator, samples, the last look |
//! | [`report`] | what is written and printed |

pub mod flat;
pub mod report;
pub mod run;
pub mod sample;
