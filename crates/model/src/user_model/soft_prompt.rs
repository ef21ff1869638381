//! The (T_u, hidden) rows that are prepended to a user's prompt.

use std::sync::Arc;

use sha2::{Digest, Sha256};

/// Whose rows these are; named in every answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// No user model: the bare base, or a version that has none.
    None,
    /// The generic user e_0: the person is unknown, or nobody was named.
    Generic,
    /// A row of the person's own.
    User,
}

impl RowKind {
    /// The word that answers carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Generic => "generic",
            Self::User => "user",
        }
    }
}

/// Soft-prompt rows, ready to be fed in place of token embeddings.
#[derive(Debug, Clone)]
pub struct SoftPrompt {
    rows: Arc<[f32]>,
    width: usize,
    digest: [u8; 32],
    kind: RowKind,
}

impl SoftPrompt {
    /// No rows.
    pub fn none() -> Self {
        Self::new(Arc::from([]), 1, RowKind::None)
    }

    /// `rows` is (n, width), row-major; `width` divides its length and is not 0.
    pub fn new(rows: Arc<[f32]>, width: usize, kind: RowKind) -> Self {
        debug_assert!(width > 0 && rows.len().is_multiple_of(width));
        let mut hash = Sha256::new();
        hash.update((width as u64).to_le_bytes());
        for value in rows.iter() {
            hash.update(value.to_le_bytes());
        }
        Self {
            digest: hash.finalize().into(),
            rows,
            width,
            kind,
        }
    }

    /// T_u, the number of rows.
    pub fn len(&self) -> usize {
        self.rows.len() / self.width
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The values, (T_u, width) row-major.
    pub fn rows(&self) -> &Arc<[f32]> {
        &self.rows
    }

    /// SHA-256 of the values: part of the identity of KV blocks.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Whose rows these are.
    pub fn kind(&self) -> RowKind {
        self.kind
    }
}
