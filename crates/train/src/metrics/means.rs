//! Rows since the last line, averaged.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::RowResult;

/// Means over rows. The user row 0 is the generic user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Means {
    all: Sums,
    each: Sums,
    users: BTreeMap<usize, Sums>,
}

/// Sums over some of the rows.
#[derive(Debug, Clone, Default, PartialEq)]
struct Sums {
    rows: usize,
    loss: f64,
    chosen_reward: f64,
    rejected_reward: f64,
    reward_wins: usize,
    chosen_logp: f64,
    rejected_logp: f64,
    logp_wins: usize,
}

impl Means {
    /// Takes a row in.
    pub fn add(&mut self, row: &RowResult) {
        self.all.add(row);
        self.users.entry(row.user).or_default().add(row);
        if row.user != 0 {
            self.each.add(row);
        }
    }

    /// Rows taken in.
    pub fn rows(&self) -> usize {
        self.all.rows
    }

    /// The plain mean of the rows' losses, which is the loss of an evaluation; `None` without rows.
    pub fn loss(&self) -> Option<f64> {
        (self.all.rows > 0).then(|| self.all.mean(self.all.loss))
    }

    /// Forgets the rows: a line was written.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Writes the means under their names, each with `prefix` in front. No rows, no names.
    pub fn write(&self, prefix: &str, line: &mut Map<String, Value>) {
        let all = &self.all;
        if all.rows == 0 {
            return;
        }
        let mut put = |name: &str, value: f64| {
            line.insert(format!("{prefix}{name}"), Value::from(value));
        };
        put("rewards/chosen", all.mean(all.chosen_reward));
        put("rewards/rejected", all.mean(all.rejected_reward));
        put(
            "rewards/margins",
            all.mean(all.chosen_reward - all.rejected_reward),
        );
        put("rewards/accuracies", all.mean(all.reward_wins as f64));
        put("logps/chosen", all.mean(all.chosen_logp));
        put("logps/rejected", all.mean(all.rejected_logp));
        for (user, sums) in &self.users {
            sums.write(&format!("user_{user:02}"), &mut put);
        }
        if self.each.rows > 0 {
            self.each.write("user_each", &mut put);
        }
    }
}

impl Sums {
    /// A tie is no win: the names are TRL's, and so is this.
    fn add(&mut self, row: &RowResult) {
        self.rows += 1;
        self.loss += row.loss.value;
        self.chosen_reward += row.chosen_reward;
        self.rejected_reward += row.rejected_reward;
        self.reward_wins += usize::from(row.chosen_reward > row.rejected_reward);
        self.chosen_logp += row.logps.chosen;
        self.rejected_logp += row.logps.rejected;
        self.logp_wins += usize::from(row.logps.chosen > row.logps.rejected);
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.rows as f64
    }

    fn write(&self, who: &str, put: &mut impl FnMut(&str, f64)) {
        let reward_wins = self.mean(self.reward_wins as f64);
        put(&format!("rewards/{who}_accuracies"), reward_wins);
        let logp_wins = self.mean(self.logp_wins as f64);
        put(&format!("logps/{who}_accuracies"), logp_wins);
        put(&format!("logps/{who}_chosen"), self.mean(self.chosen_logp));
        let rejected = self.mean(self.rejected_logp);
        put(&format!("logps/{who}_rejected"), rejected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::{PairLogps, PairLoss};

    fn row(user: usize, (chosen, rejected): (f64, f64), rewards: (f64, f64)) -> RowResult {
        RowResult {
            user,
            logps: PairLogps {
                chosen,
                rejected,
                ref_chosen: 0.0,
                ref_rejected: 0.0,
                n_chosen: 1,
                n_rejected: 1,
            },
            loss: PairLoss {
                value: -chosen,
                d_chosen: 0.0,
                d_rejected: 0.0,
            },
            chosen_reward: rewards.0,
            rejected_reward: rewards.1,
        }
    }

    fn written(means: &Means, prefix: &str) -> Map<String, Value> {
        let mut line = Map::new();
        means.write(prefix, &mut line);
        line
    }

    /// Three rows: a win, a loss of the same user, and a tie of the generic user.
    fn means() -> Means {
        let mut means = Means::default();
        means.add(&row(7, (-1.0, -2.0), (3.0, 1.0)));
        means.add(&row(7, (-4.0, -3.0), (0.0, 1.0)));
        means.add(&row(0, (-1.0, -1.0), (0.0, 0.0)));
        means
    }

    #[test]
    fn rows_are_averaged_under_the_names_of_trl() {
        let line = written(&means(), "");
        for (name, want) in [
            ("rewards/chosen", 1.0),
            ("rewards/rejected", 2.0 / 3.0),
            ("rewards/margins", 1.0 / 3.0),
            ("rewards/accuracies", 1.0 / 3.0),
            ("logps/chosen", -2.0),
            ("logps/rejected", -2.0),
            ("rewards/user_07_accuracies", 0.5),
            ("logps/user_07_accuracies", 0.5),
            ("logps/user_07_chosen", -2.5),
            ("logps/user_07_rejected", -2.5),
            ("rewards/user_00_accuracies", 0.0),
            ("logps/user_00_chosen", -1.0),
            ("rewards/user_each_accuracies", 0.5),
            ("logps/user_each_accuracies", 0.5),
            ("logps/user_each_chosen", -2.5),
            ("logps/user_each_rejected", -2.5),
        ] {
            let got = line[name].as_f64().unwrap();
            assert!((got - want).abs() < 1e-12, "{name}: {got}, not {want}");
        }
        // 6 of all rows, 4 each of user_00, user_07 and user_each.
        assert_eq!(line.len(), 18);
        assert_eq!(means().loss(), Some(2.0));
    }

    #[test]
    fn a_prefix_stands_before_every_name() {
        let line = written(&means(), "eval_");
        assert!(line.keys().all(|name| name.starts_with("eval_")));
        assert!(line.contains_key("eval_logps/user_07_chosen"));
    }

    #[test]
    fn large_user_rows_keep_their_digits() {
        let mut means = Means::default();
        means.add(&row(1234, (-1.0, -2.0), (1.0, 0.0)));
        assert!(written(&means, "").contains_key("rewards/user_1234_accuracies"));
    }

    #[test]
    fn without_rows_there_is_nothing_to_say() {
        let mut means = means();
        assert_eq!(means.rows(), 3);
        means.clear();
        assert_eq!((means.rows(), means.loss()), (0, None));
        assert!(written(&means, "").is_empty());
        means.add(&row(0, (-1.0, -2.0), (1.0, 0.0)));
        let line = written(&means, "");
        assert!(!line.keys().any(|name| name.contains("each")), "{line:?}");
    }
}
