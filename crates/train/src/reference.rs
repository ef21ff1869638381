//! Log-probabilities of many completions, each distinct one computed once.

use std::collections::HashMap;

use super::pack::Completion;
use super::policy::Policy;

/// log p of each completion under `policy`, in the order of `completions`; `progress` is told how
/// many distinct ones are done, and of how many.
///
/// # Errors
/// A failure of the tensor library.
pub fn log_probs(
    policy: &Policy,
    completions: &[Completion],
    pack_rows: usize,
    mut progress: impl FnMut(usize, usize),
) -> candle_core::Result<Vec<f64>> {
    let mut distinct: Vec<Completion> = completions.to_vec();
    // Those of one user and prompt side by side: they share its rows.
    distinct.sort_unstable();
    distinct.dedup();
    let mut values: HashMap<Completion, f64> = HashMap::with_capacity(distinct.len());
    for (_, pack) in policy.packs(&distinct, pack_rows, |c| *c) {
        let log_probs = policy.log_probs(&pack)?;
        values.extend(pack.into_iter().zip(log_probs));
        progress(values.len(), distinct.len());
    }
    Ok(completions.iter().map(|c| values[c]).collect())
}
