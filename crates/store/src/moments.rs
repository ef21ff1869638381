//! In which order deletions and requests came: clocks may stand still or step back, so the order is not left
//! to them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Hands out moments, in milliseconds since 1970: the clock's, but never one before a moment that was handed
/// out, and a deletion's is before all that are handed out after it.
#[derive(Debug, Default)]
pub(super) struct Moments {
    /// The earliest moment that may be handed out.
    next: AtomicU64,
}

impl Moments {
    /// When something begins that may write records of people.
    pub(super) fn begin(&self, now_unix_ms: u64) -> u64 {
        self.next
            .fetch_max(now_unix_ms, Ordering::SeqCst)
            .max(now_unix_ms)
    }

    /// When a person is deleted: not before anything that has begun.
    pub(super) fn delete(&self, now_unix_ms: u64) -> u64 {
        let behind = |next: u64| Some(next.max(now_unix_ms).saturating_add(1));
        let before = self
            .next
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, behind);
        // The update never declines, so both sides hold what was there.
        before
            .unwrap_or_else(|unchanged| unchanged)
            .max(now_unix_ms)
    }

    /// A record of that moment is in the store: nothing is handed out before it.
    pub(super) fn saw(&self, at_unix_ms: u64) {
        self.next.fetch_max(at_unix_ms, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_divides_what_began_before_it_from_what_began_after() {
        let moments = Moments::default();
        // The clock stands still, and steps back.
        for now in [50, 50, 40, 60, 10] {
            let before = moments.begin(now);
            let deleted = moments.delete(now);
            let after = moments.begin(now);
            assert!(
                before <= deleted && deleted < after,
                "{before} {deleted} {after}"
            );
        }
        moments.saw(1000);
        assert_eq!(
            (moments.begin(5), moments.delete(5), moments.begin(5)),
            (1000, 1000, 1001)
        );
        moments.saw(u64::MAX);
        assert_eq!(moments.delete(5), u64::MAX, "an absurd time is no panic");
    }
}
