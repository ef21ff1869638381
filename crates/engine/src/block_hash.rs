//! What makes two KV blocks the same.
//!
//! The keys and values of a position depend on everything in front of it: the weights (base model
//! and adapter version), the soft-prompt rows and where they stand, and all token ids so far. A
//! block's hash therefore chains the hash of the block before it, and the chain starts from
//! (salt, adapter version or base, soft-prompt digest, `soft_at`). Two sequences share a block only if
//! all of these agree. The salt changes no key and no value: it keeps those apart who must not learn, from
//! what was found in the cache, what the others have asked.

use sha2::{Digest, Sha256};

use attune_ids::AdapterVersion;
use attune_model::user_model::soft_prompt::SoftPrompt;

/// The identity of a full KV block: SHA-256 over the chain that ends with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockHash([u8; 32]);

/// Sequences of different salts share no block. What a salt stands for is the caller's to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CacheSalt([u8; 32]);

impl CacheSalt {
    /// One for these parts in this order.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"attune salt 1");
        for part in parts {
            // With its length: parts cannot run into each other.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

/// One row of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// A token id, of the prompt or of the answer.
    Token(u32),
    /// Row `n` of the soft prompt; its values are covered by the digest at the chain's start.
    Soft(u32),
}

impl BlockHash {
    /// Where a chain starts. `soft_at` does not matter where there are no soft rows.
    pub fn root(
        salt: &CacheSalt,
        version: Option<&AdapterVersion>,
        soft: &SoftPrompt,
        soft_at: usize,
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"attune kv 2");
        hash.update(salt.0);
        match version {
            None => hash.update([0]),
            // A version is always 64 characters, so the fields cannot run into each other.
            Some(version) => {
                hash.update([1]);
                hash.update(version.as_str());
            }
        }
        hash.update(soft.digest());
        hash.update((soft.len() as u64).to_le_bytes());
        let at = if soft.is_empty() { 0 } else { soft_at as u64 };
        hash.update(at.to_le_bytes());
        Self(hash.finalize().into())
    }

    /// The hash of the block that follows this one and holds `rows`.
    pub fn next(&self, rows: impl Iterator<Item = Row>) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        for row in rows {
            let (kind, value) = match row {
                Row::Token(id) => (0, id),
                Row::Soft(index) => (1, index),
            };
            let [a, b, c, d] = value.to_le_bytes();
            hash.update([kind, a, b, c, d]);
        }
        Self(hash.finalize().into())
    }
}

impl std::fmt::Debug for BlockHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(&self.0[..6]))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use attune_model::user_model::soft_prompt::RowKind;

    fn soft(values: &[f32]) -> SoftPrompt {
        SoftPrompt::new(Arc::from(values), 1, RowKind::User)
    }

    #[test]
    fn the_start_tells_salts_versions_digests_and_places_apart() {
        let none = CacheSalt::default();
        let salts = [
            CacheSalt::of(&[]),
            CacheSalt::of(&[b""]),
            CacheSalt::of(&[b"ab"]),
            CacheSalt::of(&[b"a", b"b"]),
            CacheSalt::of(&[b"ab", b""]),
        ];
        let a = AdapterVersion::new("a".repeat(64)).unwrap();
        let b = AdapterVersion::new("b".repeat(64)).unwrap();
        let roots = [
            BlockHash::root(&none, None, &SoftPrompt::none(), 0),
            BlockHash::root(&none, Some(&a), &SoftPrompt::none(), 0),
            BlockHash::root(&none, Some(&b), &SoftPrompt::none(), 0),
            BlockHash::root(&none, Some(&a), &soft(&[1.0]), 0),
            BlockHash::root(&none, Some(&a), &soft(&[1.0]), 1),
            BlockHash::root(&none, Some(&a), &soft(&[2.0]), 0),
        ];
        let salted = salts.map(|salt| BlockHash::root(&salt, None, &SoftPrompt::none(), 0));
        let roots = [&roots[..], &salted].concat();
        for (i, x) in roots.iter().enumerate() {
            for y in &roots[..i] {
                assert_ne!(x, y);
            }
        }
        assert_eq!(
            roots[0],
            BlockHash::root(&none, None, &SoftPrompt::none(), 1),
            "without soft rows their place means nothing"
        );
    }

    #[test]
    fn a_soft_row_is_not_the_token_of_the_same_number() {
        let root = BlockHash::root(&CacheSalt::default(), None, &SoftPrompt::none(), 0);
        let token = root.next([Row::Token(3)].into_iter());
        assert_ne!(token, root.next([Row::Soft(3)].into_iter()));
        assert_eq!(token, root.next([Row::Token(3)].into_iter()));
        assert_ne!(token, token.next([Row::Token(3)].into_iter()));
    }
}
