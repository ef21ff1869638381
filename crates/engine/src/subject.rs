//! Of whom a sequence is, as far as the engine must know: to forget it.

use sha2::{Digest, Sha256};

/// What it leaves in the prefix cache can be found by this, and taken out. What it stands for is the caller's
/// to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject([u8; 32]);

impl Subject {
    /// One for these parts in this order.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"attune subject 1");
        for part in parts {
            // With its length: parts cannot run into each other.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}
