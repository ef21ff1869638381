//! Learning from self-explanations (ExPO, arXiv 2507.02834), the offline part: who is shown the answer
//! explains how to get there, and the explanation becomes the better of two responses to the plain question.
//!
//! | module | subject |
//! |---|---|
//! | [`prompts`] | the plain question, the question with its answer, and what gives the answer away |
//! | [`rollout`] | many answers through the serving engine, in this process |
//! | [`explain`] | `attune-train explain`: tasks become preference pairs |
//! | [`solve`] | `attune-train solve`: pass@k |

pub mod explain;
pub mod prompts;
pub mod rollout;
pub mod solve;
