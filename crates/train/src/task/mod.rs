//! Tasks with an answer that a program can check: what self-explanations are learned from (ExPO, arXiv
//! 2507.02834).
//!
//! | module | subject |
//! |---|---|
//! | [`final_answer`] | where in a text the answer stands |
//! | [`maths`] | numbers, tuples, sets and expressions, as people and LaTeX write them |
//! | `choice` | letters of choices |
//! | [`expression`] | expressions that reach a goal: countdown |
//! | [`verify`] | whether an answer is the right one |
//! | [`load`] | files: attune's own layout, GSM8K's, SVAMP's, MATH's |
//! | [`family`] | tasks that are made up, as hard as one wants |

mod choice;
pub mod expression;
pub mod family;
pub mod final_answer;
pub mod load;
pub mod maths;
#[cfg(test)]
mod verdicts;
pub mod verify;

pub use verify::Verifier;

use serde::{Deserialize, Serialize};

use attune_ids::{Tenant, UserId, UserKey};

/// A question with its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// What is asked.
    pub question: String,
    /// The right answer, as the verifier reads it.
    pub answer: String,
    /// How somebody else solved it, if that is known; it ends with the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub solution: Option<String>,
    /// How an answer is checked.
    #[serde(default)]
    pub verifier: Verifier,
    /// How hard it is, where the data says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u32>,
    /// Who asks, where it is somebody in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// Whose user that is; the usual tenant, where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
}

impl Task {
    /// Who asks.
    pub fn asker(&self) -> Option<UserKey> {
        Some(UserKey {
            tenant: self.tenant.clone().unwrap_or_default(),
            user: self.user.clone()?,
        })
    }

    /// Whether the answer in `text` is the right one; a text without an answer is wrong.
    pub fn is_solved_by(&self, text: &str) -> bool {
        let in_any_order = || {
            let mathematical = matches!(self.verifier, Verifier::Number | Verifier::Math);
            let set = format!("\\{{{}\\}}", self.answer);
            mathematical && self.asks_for_a_set() && self.verifier.accepts(text, &set)
        };
        self.verifier.accepts(text, &self.answer) || in_any_order()
    }

    /// Whether a list is asked for that has no order: "Enter all solutions, separated by commas."
    fn asks_for_a_set(&self) -> bool {
        let question = self.question.to_lowercase();
        let ordered = question.contains("order") && !question.contains("any order");
        question.contains("separated by commas") && !ordered
    }

    /// Whether `text` has an answer at all.
    pub fn reads(&self, text: &str) -> bool {
        self.verifier.reads(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solutions_separated_by_commas_have_no_order() {
        let task = |question: &str| Task {
            question: question.into(),
            answer: "1,-2".into(),
            solution: None,
            verifier: Verifier::Math,
            level: None,
            user: None,
            tenant: None,
        };
        let solutions = task("Find all solutions, separated by commas.");
        assert!(solutions.is_solved_by("\\boxed{-2, 1}"));
        assert!(!solutions.is_solved_by("\\boxed{-2, 2}"));
        for question in [
            "Find them.",
            "Enter them in increasing order, separated by commas.",
        ] {
            assert!(!task(question).is_solved_by("\\boxed{-2, 1}"), "{question}");
            assert!(task(question).is_solved_by("\\boxed{1, -2}"), "{question}");
        }
    }
}
