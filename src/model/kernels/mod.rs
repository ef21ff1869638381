//! CPU kernels. Each computes a row from that row alone, in one fixed order of summation, so that a
//! row's result never depends on what else is in the batch (batch invariance; ARCHITECTURE.md).

pub mod gated;
pub mod math;
pub mod packed_matmul;
pub mod paged_attention;
