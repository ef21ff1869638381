//! A user id becomes soft-prompt rows (P-RLHF, 2402.05133).
//!
//! | file | subject |
//! |---|---|
//! | [`table`] | a checked (rows, width) table of f32 |
//! | [`individual`] | e_i = e_0 + o_i, or e_i = o_i |
//! | [`cluster`] | e_i = softmax(s_i) over K shared prompts |
//! | [`model`] | either of them, behind one type |
//! | [`people`] | whose row is whose, and the prompts that were computed lately |
//! | [`soft_prompt`] | the rows that the engine is fed |
//!
//! N known people have the user rows 1..=N; user row 0 is the generic user e_0. T_u is the number
//! of soft-prompt rows a user has. Nothing here knows where the rows go: they are raw embeddings,
//! before a family's embedding scale.

pub mod cluster;
pub mod individual;
pub mod model;
pub mod people;
pub mod soft_prompt;
pub mod table;
