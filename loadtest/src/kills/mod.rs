//! Is anything lost that a server has acknowledged? A mix of requests goes on, the server is killed at a random
//! moment and started again, and what it has of everybody is compared with what it had acknowledged.
//!
//! | module | subject |
//! |---|---|
//! | [`run`] | rounds of start, compare, mix, kill |
//! | [`report`] | what is written and printed |

pub mod report;
pub mod run;
