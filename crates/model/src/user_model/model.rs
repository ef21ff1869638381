//! Either kind of user model, behind one type.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cluster::ClusterUserModel;
use super::individual::IndividualUserModel;
use super::soft_prompt::{RowKind, SoftPrompt};

/// Which formula makes a person's prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserModelKind {
    /// e_i = e_0 + o_i
    Individual,
    /// e_i = o_i
    IndividualNoGeneric,
    /// `e_i = sum_k softmax(s_i)[k] V_k`
    Cluster,
}

/// A user model in memory: user row in, soft prompt out.
#[derive(Debug, Clone, PartialEq)]
pub enum UserModel {
    /// One prompt per person.
    Individual(IndividualUserModel),
    /// K shared prompts, mixed for each person.
    Cluster(ClusterUserModel),
}

impl UserModel {
    /// N: user rows are 0 ..= N.
    pub fn n_users(&self) -> usize {
        match self {
            Self::Individual(model) => model.n_users(),
            Self::Cluster(model) => model.n_users(),
        }
    }

    /// T_u: rows of a soft prompt.
    pub fn n_user_tokens(&self) -> usize {
        match self {
            Self::Individual(model) => model.n_user_tokens(),
            Self::Cluster(model) => model.n_user_tokens(),
        }
    }

    /// Width of a row: the base model's hidden size.
    pub fn width(&self) -> usize {
        match self {
            Self::Individual(model) => model.width(),
            Self::Cluster(model) => model.width(),
        }
    }

    /// The soft prompt of user row `user`, computed anew: (T_u, width). A row beyond N has nobody, and
    /// gets what 0 gets: the generic user.
    pub fn soft_prompt(&self, user: usize) -> SoftPrompt {
        let user = if user <= self.n_users() { user } else { 0 };
        let kind = match user {
            0 => RowKind::Generic,
            _ => RowKind::User,
        };
        let rows = match self {
            Self::Individual(model) => model.prompt(user),
            Self::Cluster(model) => model.prompt(user),
        };
        SoftPrompt::new(Arc::from(rows), self.width(), kind)
    }
}

impl UserModel {
    /// Adds to the gradients of the tables, in the order in which the model was made of them, what
    /// follows from `prompt`, the gradient (T_u, width) of the soft prompt of user row `user`.
    pub fn add_gradient(&self, user: usize, prompt: &[f32], tables: &mut [Vec<f32>]) {
        match (self, tables) {
            (Self::Individual(model), [table]) => model.add_gradient(user, prompt, table),
            (Self::Cluster(model), [centres, logits]) => {
                model.add_gradient(user, prompt, [centres, logits]);
            }
            (Self::Individual(_), _) => debug_assert!(false, "one table"),
            (Self::Cluster(_), _) => debug_assert!(false, "two tables"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user_model::table::Table;

    #[test]
    fn a_row_says_whose_it_is() {
        let table = Table::new("t", vec![1.0, 2.0, 3.0], (3, 1)).unwrap();
        let model = UserModel::Individual(IndividualUserModel::new(table, 1, true).unwrap());
        let prompts: Vec<SoftPrompt> = (0..4).map(|user| model.soft_prompt(user)).collect();
        let kinds: Vec<RowKind> = prompts.iter().map(SoftPrompt::kind).collect();
        assert_eq!(
            kinds,
            [
                RowKind::Generic,
                RowKind::User,
                RowKind::User,
                RowKind::Generic
            ]
        );
        assert_eq!(prompts[2].rows()[..], [4.0]);
        assert_eq!(prompts[3].rows()[..], [1.0]);
        assert_eq!(prompts[3].digest(), prompts[0].digest());
        assert_ne!(prompts[1].digest(), prompts[2].digest());
    }

    #[test]
    fn kinds_have_stable_names() {
        let names = serde_json::to_string(&[
            UserModelKind::Individual,
            UserModelKind::IndividualNoGeneric,
            UserModelKind::Cluster,
        ]);
        assert_eq!(
            names.unwrap(),
            r#"["individual","individual_no_generic","cluster"]"#
        );
    }
}
