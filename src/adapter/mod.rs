//! Immutable adapter versions: LoRA + user model + manifest; aliases and leases.
//!
//! | file | subject |
//! |---|---|
//! | [`bundle`] | a version on disk: read, verify, write, hash |
//! | [`registry`] | alias to version, compare-and-swap |
//! | [`lease`] | a pin that keeps a version loaded |

pub mod bundle;
pub mod lease;
pub mod registry;
