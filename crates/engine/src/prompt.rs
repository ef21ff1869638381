//! The ids of a prompt.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// Token ids in order. Clones share them and what was found out of them, so that 128 answers to one prompt
/// cost one look at it.
#[derive(Debug, Clone)]
pub struct PromptIds {
    ids: Arc<[u32]>,
    found: Arc<Found>,
}

#[derive(Debug)]
struct Found {
    greatest: Option<u32>,
    distinct: OnceLock<Arc<[u32]>>,
}

impl PromptIds {
    /// The greatest id; `None` where there is none.
    pub fn greatest(&self) -> Option<u32> {
        self.found.greatest
    }

    /// Each id once, in ascending order. The first call sorts: where prompts are long, make it where that
    /// holds nobody up.
    pub fn distinct(&self) -> &Arc<[u32]> {
        self.found.distinct.get_or_init(|| {
            let mut distinct = self.ids.to_vec();
            distinct.sort_unstable();
            distinct.dedup();
            distinct.into()
        })
    }
}

impl<T: Into<Arc<[u32]>>> From<T> for PromptIds {
    fn from(ids: T) -> Self {
        let ids = ids.into();
        let found = Found {
            greatest: ids.iter().copied().max(),
            distinct: OnceLock::new(),
        };
        Self {
            ids,
            found: Arc::new(found),
        }
    }
}

impl Deref for PromptIds {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_what_was_found_out() {
        let prompt = PromptIds::from(vec![5, 2, 5, 9, 2]);
        let other = prompt.clone();
        assert_eq!(&other[..], [5, 2, 5, 9, 2]);
        assert_eq!(&other.distinct()[..], [2, 5, 9]);
        assert!(Arc::ptr_eq(other.distinct(), prompt.distinct()));
        assert_eq!(prompt.greatest(), Some(9));
        assert_eq!(PromptIds::from(Vec::new()).greatest(), None);
    }
}
