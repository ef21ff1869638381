//! Tasks with an answer that a program can check: what self-explanations are learned from (ExPO, arXiv
//! 2507.02834).
//!
//! | module | subject |
//! |---|---|
//! | [`final_answer`] | where in a text the answer stands |
//! | [`number`] | numbers as people and LaTeX write them |
//! | [`expression`] | expressions that reach a goal: countdown |
//! | [`verify`] | whether an answer is the right one |
//! | [`load`] | files: attune's own layout, GSM8K's, SVAMP's, MATH's |
//! | [`family`] | tasks that are made up, as hard as one wants |

pub mod expression;
pub mod family;
pub mod final_answer;
pub mod load;
pub mod number;
pub mod verify;

pub use verify::Verifier;

use serde::{Deserialize, Serialize};

use crate::ids::{Tenant, UserId, UserKey};

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
        self.verifier.accepts(text, &self.answer)
    }

    /// Whether `text` has an answer at all.
    pub fn reads(&self, text: &str) -> bool {
        self.verifier.reads(text)
    }
}
