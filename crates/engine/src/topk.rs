//! The best of many logits without sorting all of them.

/// The ids of the `n` greatest values, greatest first, lower ids first among equals. No NaN.
pub fn best(values: &[f32], n: usize) -> Vec<u32> {
    let mut keys = keys(values);
    let n = n.min(keys.len());
    best_keys(&mut keys, n).iter().map(|k| key_id(*k)).collect()
}

/// The keys of `values`.
pub(super) fn keys(values: &[f32]) -> Vec<u64> {
    let key = |(id, value): (usize, &f32)| key(id as u32, *value);
    values.iter().enumerate().map(key).collect()
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

    #[test]
    fn greatest_first_and_lower_ids_among_equals() {
        let values = [0.0, -0.0, -1.5, 7.0, f32::NEG_INFINITY, 7.0, -2.0];
        assert_eq!(best(&values, 7), [3, 5, 0, 1, 2, 6, 4]);
        assert_eq!(best(&values, 3), [3, 5, 0]);
        assert_eq!(best(&values, 0), [] as [u32; 0]);
        assert_eq!(best(&values, 99).len(), 7);
    }
}
