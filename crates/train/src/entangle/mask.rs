//! Sparse token masking (2410.13828, section 5): tokens that both responses share do not count.
//!
//! ```text
//! l = loss(sum_t M_w^t d_w^t, sum_t M_l^t d_l^t)
//! ```
//!
//! Here M is 0 for tokens on a longest common subsequence of the two responses and 1 elsewhere: exact, and
//! nothing is learned. A response of which nothing would be left keeps its last token, its end.

use serde::{Deserialize, Serialize};

/// Which tokens of a pair count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    /// All tokens count.
    #[default]
    None,
    /// Those that the two responses do not share.
    Lcs,
    /// Those, and a learned part of the shared ones.
    Learned,
}

impl Mask {
    /// Which tokens of two responses, neither of them empty, count; `None`: all.
    pub fn kept(self, chosen: &[u32], rejected: &[u32]) -> Option<[Vec<bool>; 2]> {
        match self {
            Self::None | Self::Learned => None,
            Self::Lcs => Some(outside_lcs(chosen, rejected)),
        }
    }

    /// Tokens that count fully whatever a gate says; `None`: there is no gate.
    pub fn contrastive(self, chosen: &[u32], rejected: &[u32]) -> Option<[Vec<bool>; 2]> {
        match self {
            Self::None | Self::Lcs => None,
            Self::Learned => Some(outside_lcs(chosen, rejected)),
        }
    }
}

fn outside_lcs(a: &[u32], b: &[u32]) -> [Vec<bool>; 2] {
    let longest = lengths(a, b);
    let at = |i: usize, j: usize| longest[i * (b.len() + 1) + j];
    let mut kept = [vec![true; a.len()], vec![true; b.len()]];
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            // Taking a match at once never makes the rest shorter.
            (kept[0][i], kept[1][j]) = (false, false);
            (i, j) = (i + 1, j + 1);
        } else if at(i + 1, j) >= at(i, j + 1) {
            i += 1;
        } else {
            j += 1;
        }
    }
    for kept in &mut kept {
        if let (false, Some(last)) = (kept.contains(&true), kept.last_mut()) {
            *last = true;
        }
    }
    kept
}

/// (|a| + 1) x (|b| + 1): length of a longest common subsequence of a[i..] and b[j..].
fn lengths(a: &[u32], b: &[u32]) -> Vec<u32> {
    let width = b.len() + 1;
    let mut longest = vec![0; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            longest[i * width + j] = if a[i] == b[j] {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(chosen: &[u32], rejected: &[u32]) -> [Vec<u32>; 2] {
        let [w, l] = Mask::Lcs.kept(chosen, rejected).unwrap();
        let left = |ids: &[u32], kept: &[bool]| -> Vec<u32> {
            let pairs = ids.iter().zip(kept);
            pairs.filter(|(_, k)| **k).map(|(id, _)| *id).collect()
        };
        [left(chosen, &w), left(rejected, &l)]
    }

    #[test]
    fn what_both_say_does_not_count() {
        // A different first word, the same rest: single-token pairs are left.
        assert_eq!(kept(&[7, 1, 2, 3, 0], &[8, 1, 2, 3, 0]), [[7], [8]]);
        assert_eq!(kept(&[1, 2, 9, 3, 0], &[1, 2, 3, 0]), [vec![9], vec![0]]);
        assert_eq!(kept(&[5], &[6]), [[5], [6]]);
        assert_eq!(kept(&[1, 2, 0], &[1, 2, 0]), [[0], [0]]);
        assert_eq!(Mask::None.kept(&[1], &[2]), None);
    }

    /// By trying all subsequences.
    fn longest(a: &[u32], b: &[u32]) -> usize {
        let within = |sub: &[u32]| {
            let mut rest = b.iter();
            sub.iter().all(|s| rest.any(|r| r == s))
        };
        let picked = |bits: u32| -> Vec<u32> {
            let chosen = a.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
            chosen.map(|(_, id)| *id).collect()
        };
        let subs = (0..1u32 << a.len()).map(picked).filter(|s| within(s));
        subs.map(|s| s.len()).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn what_is_dropped_is_a_longest_common_subsequence(
            a in prop::collection::vec(0..4u32, 1..9), b in prop::collection::vec(0..4u32, 1..9),
        ) {
            let [w, l] = Mask::Lcs.kept(&a, &b).unwrap();
            prop_assert!(w.contains(&true) && l.contains(&true));
            let dropped = |ids: &[u32], kept: &[bool]| -> Vec<u32> {
                ids.iter().zip(kept).filter(|(_, k)| !**k).map(|(id, _)| *id).collect()
            };
            let (from_a, from_b) = (dropped(&a, &w), dropped(&b, &l));
            let n = longest(&a, &b);
            // One token less where nothing else would have been left.
            let whole = |n_ids: usize| if n == n_ids { n - 1 } else { n };
            prop_assert_eq!((from_a.len(), from_b.len()), (whole(a.len()), whole(b.len())));
            let shorter = from_a.len().min(from_b.len());
            prop_assert_eq!(&from_a[..shorter], &from_b[..shorter]);
        }
    }
}
