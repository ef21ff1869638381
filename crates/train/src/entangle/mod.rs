//! Gradient entanglement (arXiv 2410.13828): a margin loss ties what happens to the chosen response to
//! what happens to the rejected one, by the inner product of their gradients.
//!
//! | module | subject |
//! |---|---|
//! | [`measure`] | norms and inner product of a pair: the condition, the case, the predicted change |
//! | [`gradients`] | the gradients themselves, and the change that a step really brings |
//! | [`heat_map`] | cosines of the gradients of single tokens, as numbers and as a picture |
//! | [`mask`], [`gate`], [`token_weights`] | which tokens count: sparse token masking, exact or learned |
//! | [`diagnose`] | some pairs of a run, measured every now and then |

pub mod diagnose;
pub mod gate;
pub mod gradients;
pub mod heat_map;
pub mod mask;
pub mod measure;
pub mod token_weights;
