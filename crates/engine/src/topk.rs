//! The best of many values without sorting all of them.
//!
//! What the greatest of each block is tells where the others can be: n blocks have a value that is no less than the
//! nth greatest of the blocks' greatest, so the n best are no less either, and only blocks that reach it are
//! looked through.

/// Values of a block.
pub(super) const BLOCK: usize = 64;

/// A value that at least `n` values reach (n > 0), by the greatest of each block; negative infinity where there are
/// fewer blocks.
pub(super) fn nth_greatest_of_blocks(maxima: &[f32], n: usize, room: &mut Vec<f32>) -> f32 {
    if n > maxima.len() {
        return f32::NEG_INFINITY;
    }
    room.clear();
    room.extend_from_slice(maxima);
    let (_, nth, _) = room.select_nth_unstable_by(n - 1, |a, b| b.total_cmp(a));
    *nth
}

/// Adds the keys of values that are at least `bound`.
pub(super) fn at_least(bound: f32, values: &[f32], maxima: &[f32], keys: &mut Vec<u64>) {
    let blocks = (0u32..).step_by(BLOCK).zip(values.chunks(BLOCK));
    let blocks = blocks.zip(maxima).filter(|(_, max)| **max >= bound);
    for ((start, block), _) in blocks {
        let found = (start..).zip(block).filter(|(_, value)| **value >= bound);
        keys.extend(found.map(|(id, value)| key(id, *value)));
    }
}

/// Moves the `n` greatest keys to the front, in order, and returns them; `n <= keys.len()`.
pub(super) fn best_keys(keys: &mut [u64], n: usize) -> &[u64] {
    if n < keys.len() && n > 0 {
        keys.select_nth_unstable_by(n - 1, |a, b| b.cmp(a));
    }
    let front = &mut keys[..n];
    front.sort_unstable_by(|a, b| b.cmp(a));
    front
}

/// The id in a key.
pub(super) fn key_id(key: u64) -> u32 {
    !(key as u32)
}

/// The value in a key; 0.0 for -0.0.
pub(super) fn key_value(key: u64) -> f32 {
    let ordered = (key >> 32) as u32;
    let bits = if ordered >> 31 == 1 {
        ordered & !(1 << 31)
    } else {
        !ordered
    };
    f32::from_bits(bits)
}

/// A value and its id as one integer whose order is the order of preference: greater values first,
/// then lower ids. Comparing integers is what makes selection fast.
pub(super) fn key(id: u32, value: f32) -> u64 {
    // + 0.0 turns -0.0 into 0.0: they are equal, so the lower id must win.
    let bits = (value + 0.0).to_bits();
    let ordered = if bits >> 31 == 0 {
        bits | 1 << 31
    } else {
        !bits
    };
    u64::from(ordered) << 32 | u64::from(!id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids of the `n` greatest values.
    fn best(values: &[f32], n: usize) -> Vec<u32> {
        let greatest = |block: &[f32]| block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let maxima: Vec<f32> = values.chunks(BLOCK).map(greatest).collect();
        let bound = nth_greatest_of_blocks(&maxima, n, &mut Vec::new());
        let mut keys = Vec::new();
        at_least(bound, values, &maxima, &mut keys);
        assert!(keys.len() >= n);
        best_keys(&mut keys, n).iter().map(|k| key_id(*k)).collect()
    }

    #[test]
    fn greatest_first_and_lower_ids_among_equals() {
        let values = [0.0, -0.0, -1.5, 7.0, f32::NEG_INFINITY, 7.0, -2.0];
        assert_eq!(best(&values, 7), [3, 5, 0, 1, 2, 6, 4]);
        assert_eq!(best(&values, 3), [3, 5, 0]);
    }

    #[test]
    fn blocks_that_cannot_have_one_are_not_looked_through() {
        let mut values = vec![0.0; 10 * BLOCK];
        for (i, at) in [5, 70, 71, 200, 500].into_iter().enumerate() {
            values[at] = i as f32 + 1.0;
        }
        assert_eq!(best(&values, 5), [500, 200, 71, 70, 5]);
        assert_eq!(best(&values, 7), [500, 200, 71, 70, 5, 0, 1]);
        assert_eq!(best(&values, 640).len(), 640);
    }

    #[test]
    fn a_key_gives_its_value_back() {
        for value in [0.0, 1.5, -1.5, 1e-40, -3e38, f32::NEG_INFINITY] {
            let key = key(7, value);
            assert_eq!((key_id(key), key_value(key)), (7, value));
        }
    }
}
