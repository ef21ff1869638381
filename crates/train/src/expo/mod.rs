//! Learning from self-explanations (ExPO, arXiv 2507.02834): who is shown the answer explains how to get
//! there, and the explanation becomes the better of two responses to the plain question (ExP-DPO), or is
//! learned beside what the policy answers by itself (ExP-GRPO).
//!
//! | module | subject |
//! |---|---|
//! | [`prompts`] | the plain question, the question with its answer, and what gives the answer away |
//! | [`explain`] | `attune-train explain`: tasks become preference pairs |
//! | [`solve`] | `attune-train solve`: pass@k |
//! | [`prepare`] | tasks of a run |
//! | [`answers`] | answers and explanations of a policy in training |
//! | [`group`] | a batch of groups becomes gradients |
//! | [`group_work`], [`explained_work`] | steps of `exp-grpo`; steps of `exp-dpo` |
//! | [`session`] | what both have: answers, evaluations, the time they take |
//! | [`evaluator`], [`signals`] | pass@k on the way; what makes a positive answer a good one |

pub mod answers;
pub mod evaluator;
pub mod explain;
pub mod explained_work;
pub mod group;
pub mod group_work;
pub mod prepare;
pub mod prompts;
pub mod session;
pub mod signals;
pub mod solve;
