//! K shared prompts, mixed for each person: `e_i = sum_k softmax(s_i)[k] V_k` (docs/papers.md, "cluster").

use super::table::{Table, UserModelError};

/// The name that checkpoints give the shared prompts.
pub const CLUSTER_EMBEDDING: &str = "cluster_embedding";
/// The name that checkpoints give the logits.
pub const USER_WEIGHT: &str = "user_weight";

/// Shared prompts (K * T_u, width), row(k, j) = k * T_u + j, and logits (N + 1, K).
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterUserModel {
    centres: Table,
    logits: Table,
    n_user_tokens: usize,
}

impl ClusterUserModel {
    /// K is the width of `logits`.
    ///
    /// # Errors
    /// `n_user_tokens` is 0 or `centres` does not have K * n_user_tokens rows.
    pub fn new(
        centres: Table,
        logits: Table,
        n_user_tokens: usize,
    ) -> Result<Self, UserModelError> {
        let k = logits.width();
        if n_user_tokens == 0 || k.checked_mul(n_user_tokens) != Some(centres.n_rows()) {
            return Err(UserModelError::Shape {
                table: CLUSTER_EMBEDDING,
                rows: centres.n_rows(),
                width: centres.width(),
                expected: format!(
                    "its rows must be K * T_u with K = {k} (the width of {USER_WEIGHT}) and \
                     T_u = n_user_tokens = {n_user_tokens} > 0"
                ),
            });
        }
        Ok(Self {
            centres,
            logits,
            n_user_tokens,
        })
    }

    /// N.
    pub fn n_users(&self) -> usize {
        self.logits.n_rows() - 1
    }

    /// T_u.
    pub fn n_user_tokens(&self) -> usize {
        self.n_user_tokens
    }

    /// Width of a row.
    pub fn width(&self) -> usize {
        self.centres.width()
    }

    /// (T_u, width) values of user row `user`, which is at most N.
    pub(super) fn prompt(&self, user: usize) -> Vec<f32> {
        let weights = softmax(self.logits.rows(user, 1));
        let t = self.n_user_tokens;
        let mut sum = vec![0f64; t * self.width()];
        for (k, weight) in weights.iter().enumerate() {
            for (s, v) in sum.iter_mut().zip(self.centres.rows(k * t, t)) {
                *s += weight * f64::from(*v);
            }
        }
        sum.into_iter().map(|s| s as f32).collect()
    }
}

impl ClusterUserModel {
    /// Adds to `centres` and `logits`, the gradients of the tables, what follows from `prompt`, the
    /// gradient of the prompt of user row `user`: dV_k = w_k g and, through the softmax,
    /// ds_k = w_k (<V_k, g> - sum_j w_j <V_j, g>).
    pub(super) fn add_gradient(
        &self,
        user: usize,
        prompt: &[f32],
        [centres, logits]: [&mut [f32]; 2],
    ) {
        let weights = softmax(self.logits.rows(user, 1));
        let (k, t) = (weights.len(), self.n_user_tokens);
        let pulls: Vec<f64> = (0..k)
            .map(|k| {
                let products = self.centres.rows(k * t, t).iter().zip(prompt);
                products.map(|(v, g)| f64::from(*v) * f64::from(*g)).sum()
            })
            .collect();
        let mean: f64 = pulls.iter().zip(&weights).map(|(p, w)| p * w).sum();
        for (logit, (pull, weight)) in logits[user * k..]
            .iter_mut()
            .zip(pulls.iter().zip(&weights))
        {
            *logit += (weight * (pull - mean)) as f32;
        }
        for (centre, weight) in centres.chunks_exact_mut(prompt.len()).zip(&weights) {
            for (c, g) in centre.iter_mut().zip(prompt) {
                *c += (weight * f64::from(*g)) as f32;
            }
        }
    }
}

/// In f64, so that the order of the clusters does not show in f32.
fn softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits
        .iter()
        .map(|l| (f64::from(*l) - f64::from(max)).exp())
        .collect();
    let total: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(values: &[f32], shape: (usize, usize)) -> Table {
        Table::new("t", values.to_vec(), shape).unwrap()
    }

    /// K = 2, T_u = 2, width 2; user row 0 has equal logits, user row 1 has (0, ln 3).
    fn model() -> ClusterUserModel {
        let centres = table(&[0., 0., 1., 10., 2., 20., 3., 30.], (4, 2));
        let logits = table(&[7., 7., 0., 3f32.ln()], (2, 2));
        ClusterUserModel::new(centres, logits, 2).unwrap()
    }

    #[test]
    fn prompts_are_mixed_by_the_softmax_of_the_logits() {
        let model = model();
        assert_eq!((model.n_users(), model.n_user_tokens()), (1, 2));
        assert_eq!(model.prompt(0), [1.0, 10.0, 2.0, 20.0]);
        let mixed = model.prompt(1);
        // .25 row 0 + .75 row 2, .25 row 1 + .75 row 3
        for (got, expected) in mixed.iter().zip([1.5, 15.0, 2.5, 25.0]) {
            assert!((got - expected).abs() < 1e-6, "{mixed:?}");
        }
    }

    #[test]
    fn gradients_agree_with_differences() {
        let (centres, logits) = (
            [0.3, -1.0, 0.2, 0.7, 2.0, 0.1],
            [0.5, -0.2, 0.1, 0.4, 0.0, 1.0],
        );
        let by = [0.7f32, -0.4];
        // <prompt of row 1, by> for K = 3, T_u = 1, width 2, with one number moved.
        let value = |moved: usize, step: f32| {
            let mut numbers = [centres, logits].concat();
            numbers[moved] += step;
            let (centres, logits) = numbers.split_at(6);
            let model = ClusterUserModel::new(table(centres, (3, 2)), table(logits, (2, 3)), 1);
            let prompt = model.unwrap().prompt(1);
            prompt.iter().zip(by).map(|(p, b)| p * b).sum::<f32>()
        };
        let model = ClusterUserModel::new(table(&centres, (3, 2)), table(&logits, (2, 3)), 1);
        let (mut d_centres, mut d_logits) = (vec![0.0; 6], vec![0.0; 6]);
        model
            .unwrap()
            .add_gradient(1, &by, [&mut d_centres, &mut d_logits]);
        for (moved, got) in d_centres.iter().chain(&d_logits).enumerate() {
            let want = (value(moved, 1e-2) - value(moved, -1e-2)) / 2e-2;
            assert!((got - want).abs() < 1e-3, "{moved}: {got}, not {want}");
        }
        assert_eq!(d_logits[..3], [0.0; 3], "user row 0 is absent");
    }

    #[test]
    fn far_apart_logits_choose_one_cluster() {
        let centres = table(&[1.0, 2.0], (2, 1));
        let logits = table(&[1e30, -1e30, -1e30, 1e30], (2, 2));
        let model = ClusterUserModel::new(centres, logits, 1).unwrap();
        assert_eq!(
            (model.prompt(0), model.prompt(1)),
            (vec![1.0f32], vec![2.0])
        );
    }

    #[test]
    fn centres_must_be_whole_clusters() {
        for (rows, t) in [(4, 1), (4, 0), (4, usize::MAX), (3, 2)] {
            let centres = table(&vec![0.0; rows * 2], (rows, 2));
            let err = ClusterUserModel::new(centres, table(&[0., 0.], (1, 2)), t).unwrap_err();
            assert!(matches!(err, UserModelError::Shape { .. }), "{err}");
        }
    }
}
