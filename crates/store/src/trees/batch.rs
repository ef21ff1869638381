//! Many edits, a transaction at a time.

use crate::trees::{Edit, Writer};
use crate::StoreError;

/// Edits of one transaction, at most.
const MOST: usize = 1000;
/// Bytes of their records, which are all in memory at once.
const MOST_BYTES: usize = 8 << 20;

/// The edits of the next transaction.
#[derive(Default)]
pub(crate) struct Batch {
    edits: Vec<Edit>,
    bytes: usize,
}

impl Batch {
    /// One more.
    pub(crate) fn push(&mut self, edit: Edit) {
        self.bytes += edit.key.len() + edit.value.as_ref().map_or(0, Vec::len);
        self.edits.push(edit);
    }

    /// Applies them if they are as many as may be held; true if it did.
    pub(crate) fn apply_if_full(&mut self, writer: &Writer<'_>) -> Result<bool, StoreError> {
        let full = self.is_full();
        if full {
            writer.apply(&self.take())?;
        }
        Ok(full)
    }

    /// Whether they are as many as may be held.
    pub(crate) fn is_full(&self) -> bool {
        self.edits.len() >= MOST || self.bytes >= MOST_BYTES
    }

    /// Those that are left.
    pub(crate) fn take(&mut self) -> Vec<Edit> {
        self.bytes = 0;
        std::mem::take(&mut self.edits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_in_number_and_in_bytes() {
        for (bytes, most) in [(10, MOST), (1 << 20, 8)] {
            let mut batch = Batch::default();
            while !batch.is_full() {
                batch.push(Edit::put_raw("t", vec![0], vec![0; bytes]));
            }
            assert_eq!(batch.take().len(), most);
            assert!(!batch.is_full() && batch.take().is_empty());
        }
    }
}
