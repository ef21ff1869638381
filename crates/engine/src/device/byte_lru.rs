//! Things kept under a byte budget; what was used least recently goes first.

use std::collections::HashMap;
use std::hash::Hash;

/// Values by key. A value larger than the whole budget is not kept.
#[derive(Debug)]
pub struct ByteLru<K, V> {
    entries: HashMap<K, Entry<V>>,
    budget: usize,
    bytes: usize,
    /// Counts uses.
    tick: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    used_at: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> ByteLru<K, V> {
    /// Nothing, and room for `budget` bytes.
    pub fn new(budget: usize) -> Self {
        Self {
            entries: HashMap::new(),
            budget,
            bytes: 0,
            tick: 0,
        }
    }

    /// What is kept under `key`; if nothing is, what `make` makes of `bytes` bytes.
    ///
    /// # Errors
    /// That of `make`; then nothing changes.
    pub fn get_or_make<E>(
        &mut self,
        key: &K,
        bytes: usize,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        self.tick += 1;
        if let Some(entry) = self.entries.get_mut(key) {
            entry.used_at = self.tick;
            return Ok(entry.value.clone());
        }
        let value = make()?;
        if bytes > self.budget {
            return Ok(value);
        }
        while self.bytes + bytes > self.budget {
            self.evict_oldest();
        }
        self.bytes += bytes;
        let entry = Entry {
            value: value.clone(),
            bytes,
            used_at: self.tick,
        };
        self.entries.insert(key.clone(), entry);
        Ok(value)
    }

    /// Keeps nothing any more.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// Bytes of what is kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Entries come and go at prefill only, and there are few: a look at all of them will do.
    fn evict_oldest(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, e)| e.used_at);
        let Some(key) = oldest.map(|(key, _)| key.clone()) else {
            return;
        };
        if let Some(entry) = self.entries.remove(&key) {
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut lru = ByteLru::new(10);
        let mut made = Vec::new();
        for key in [1, 2, 1, 3, 1, 2, 3] {
            let make = || {
                made.push(key);
                Ok::<u32, ()>(key * 10)
            };
            assert_eq!(lru.get_or_make(&key, 4, make), Ok(key * 10));
            assert!(lru.bytes() <= 10);
        }
        // 3 pushes 2 out, for 1 was used after it; then 2 pushes 3 out, and 3 pushes 1 out.
        assert_eq!(made, [1, 2, 3, 2, 3]);
    }

    #[test]
    fn what_is_too_large_passes_through_and_failures_leave_nothing() {
        let mut lru = ByteLru::new(10);
        assert_eq!(lru.get_or_make(&1, 11, || Ok::<_, ()>(5)), Ok(5));
        assert_eq!(lru.bytes(), 0);
        assert_eq!(lru.get_or_make(&1, 3, || Err::<u32, _>("no")), Err("no"));
        assert_eq!(lru.bytes(), 0);
        assert_eq!(lru.get_or_make(&1, 10, || Ok::<_, ()>(6)), Ok(6));
        assert_eq!(lru.bytes(), 10);
        lru.clear();
        assert_eq!(lru.bytes(), 0);
        assert_eq!(lru.get_or_make(&1, 10, || Ok::<_, ()>(7)), Ok(7));
    }
}
