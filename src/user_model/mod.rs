//! A user id becomes soft-prompt rows (P-RLHF, 2402.05133; papers.md 1.2).

pub mod soft_prompt;
