//! Accuracy by user: dots sorted by accuracy, with intervals, beside those of another policy.

use std::collections::HashMap;

use super::error::ReportError;
use super::plot::{Mark, Plot, FIRST, SECOND};
use crate::evaluate::{Evaluation, UserScore};

/// The plot of an evaluation's users, worst first; the first of `against` is the second series.
///
/// # Errors
/// See [`Plot::svg`].
pub fn svg(evaluation: &Evaluation) -> Result<String, ReportError> {
    let users = sorted(evaluation);
    let others = other_accuracies(evaluation);
    let mut marks = Vec::new();
    for (user, x) in users.iter().zip(1..) {
        let x = f64::from(x);
        marks.push((Mark::Span(x, user.score.interval), FIRST));
        if let Some(accuracy) = others.get(user.user.as_str()) {
            marks.push((Mark::Dot(x, *accuracy), SECOND));
        }
        marks.push((Mark::Dot(x, user.score.accuracy), FIRST));
    }
    let plot = Plot {
        title: "Accuracy by user",
        marks,
        y: Some((-0.02, 1.02)),
        x_labels: false,
    };
    plot.svg()
}

/// Users from the lowest accuracy up; equal ones by name.
pub fn sorted(evaluation: &Evaluation) -> Vec<&UserScore> {
    let mut users: Vec<&UserScore> = evaluation.users.iter().collect();
    let key = |u: &UserScore| u.score.accuracy;
    users.sort_by(|a, b| key(a).total_cmp(&key(b)).then(a.user.cmp(&b.user)));
    users
}

/// The accuracy of each user under the first of the other policies.
pub fn other_accuracies(evaluation: &Evaluation) -> HashMap<&str, f64> {
    let others = evaluation.against.first().map(|c| &c.evaluation.users);
    let others = others.into_iter().flatten();
    others
        .map(|u| (u.user.as_str(), u.score.accuracy))
        .collect()
}
