//! The decoder's steps as operations of the tensor library: what runs where our kernels do not, that
//! is on any device but the CPU and in any type but f32.
//!
//! Each computes what the kernel of the same name computes, with its gradient, and has a test that
//! says so on the CPU. Sums are in f32 whatever the type of the tensors. Where no gradient is asked
//! for, an operation that the library has fused takes the place of its parts.

pub mod attention;
pub mod frozen;
pub mod log_probs;
pub mod steps;

#[cfg(test)]
mod tests;
