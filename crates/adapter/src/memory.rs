//! Memory that versions may take together, reserved before it is used.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// So many bytes, and how many of them are reserved.
#[derive(Debug)]
pub(super) struct Budget {
    max: usize,
    used: AtomicUsize,
}

/// Bytes of a [`Budget`], given back when this is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            used: AtomicUsize::new(0),
        }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// `None`: they are not free.
    pub(super) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let grown = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        let order = Ordering::AcqRel;
        self.used
            .fetch_update(order, Ordering::Acquire, grown)
            .ok()?;
        Some(Reservation {
            budget: self.clone(),
            bytes,
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_reserved_than_there_is_and_all_of_it_comes_back() {
        let budget = Arc::new(Budget::new(10));
        let six = budget.reserve(6).unwrap();
        assert!(budget.reserve(5).is_none());
        assert!(budget.reserve(usize::MAX).is_none());
        let four = budget.reserve(4).unwrap();
        assert_eq!(budget.used(), 10);
        drop(six);
        assert_eq!(budget.used(), 4);
        drop(four);
        assert_eq!(budget.used(), 0);
    }
}
