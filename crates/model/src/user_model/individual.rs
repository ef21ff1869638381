//! One prompt per person: e_i = e_0 + o_i (docs/papers.md, "individualized").

use super::table::{Table, UserModelError};

/// The name that checkpoints give the table.
pub const USER_EMBEDDING: &str = "user_embedding";

/// ((N+1) * T_u, width) rows; row(i, j) = i * T_u + j, i = 0 is the generic user.
#[derive(Debug, Clone, PartialEq)]
pub struct IndividualUserModel {
    table: Table,
    n_user_tokens: usize,
    add_generic: bool,
}

impl IndividualUserModel {
    /// `add_generic`: rows i >= 1 are offsets o_i to e_0; without it they are e_i themselves.
    ///
    /// # Errors
    /// `n_user_tokens` is 0 or the table's rows are not a multiple of it.
    pub fn new(
        table: Table,
        n_user_tokens: usize,
        add_generic: bool,
    ) -> Result<Self, UserModelError> {
        if n_user_tokens == 0 || !table.n_rows().is_multiple_of(n_user_tokens) {
            return Err(UserModelError::Shape {
                table: USER_EMBEDDING,
                rows: table.n_rows(),
                width: table.width(),
                expected: format!(
                    "its rows must be (N + 1) * T_u with T_u = n_user_tokens = {n_user_tokens} > 0"
                ),
            });
        }
        Ok(Self {
            table,
            n_user_tokens,
            add_generic,
        })
    }

    /// N.
    pub fn n_users(&self) -> usize {
        self.table.n_rows() / self.n_user_tokens - 1
    }

    /// T_u.
    pub fn n_user_tokens(&self) -> usize {
        self.n_user_tokens
    }

    /// Width of a row.
    pub fn width(&self) -> usize {
        self.table.width()
    }

    /// (T_u, width) values of user row `user`, which is at most N.
    pub(super) fn prompt(&self, user: usize) -> Vec<f32> {
        let t = self.n_user_tokens;
        let own = self.table.rows(user * t, t);
        if user == 0 || !self.add_generic {
            return own.to_vec();
        }
        let generic = self.table.rows(0, t);
        generic.iter().zip(own).map(|(e0, o)| e0 + o).collect()
    }
}

impl IndividualUserModel {
    /// Adds to `table`, the gradient of the table, what follows from `prompt`, the gradient of the
    /// prompt of user row `user`: e_i = e_0 + o_i passes it to both.
    pub(super) fn add_gradient(&self, user: usize, prompt: &[f32], table: &mut [f32]) {
        let size = self.n_user_tokens * self.width();
        let mut add = |row: usize| {
            let rows = table[row * size..][..size].iter_mut();
            rows.zip(prompt).for_each(|(t, g)| *t += g);
        };
        add(user);
        if user > 0 && self.add_generic {
            add(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// N = 2, T_u = 2, width 2, row r = (r, 10 r).
    fn counted() -> Table {
        let values = (0..6u8).flat_map(|r| [f32::from(r), 10.0 * f32::from(r)]);
        Table::new(USER_EMBEDDING, values.collect(), (6, 2)).unwrap()
    }

    #[test]
    fn offsets_are_added_to_the_generic_user() {
        let model = IndividualUserModel::new(counted(), 2, true).unwrap();
        assert_eq!((model.n_users(), model.n_user_tokens()), (2, 2));
        assert_eq!(model.prompt(0), [0.0, 0.0, 1.0, 10.0]);
        assert_eq!(model.prompt(1), [2.0, 20.0, 4.0, 40.0]);
        assert_eq!(model.prompt(2), [4.0, 40.0, 6.0, 60.0]);
    }

    #[test]
    fn without_the_generic_user_rows_stand_for_themselves() {
        let model = IndividualUserModel::new(counted(), 2, false).unwrap();
        assert_eq!(model.prompt(0), [0.0, 0.0, 1.0, 10.0]);
        assert_eq!(model.prompt(1), [2.0, 20.0, 3.0, 30.0]);
    }

    #[test]
    fn gradients_reach_the_offset_and_the_generic_user_and_nobody_else() {
        let prompt = [1.0, 2.0, 3.0, 4.0];
        let gradient = |add_generic, user| {
            let model = IndividualUserModel::new(counted(), 2, add_generic).unwrap();
            let mut table = vec![0.0; 12];
            model.add_gradient(user, &prompt, &mut table);
            table
        };
        let none = [0.0; 4];
        assert_eq!(gradient(true, 2), [prompt, none, prompt].concat());
        assert_eq!(gradient(true, 0), [prompt, none, none].concat());
        assert_eq!(gradient(false, 1), [none, prompt, none].concat());
    }

    #[test]
    fn rows_must_be_whole_users() {
        for t in [0, 4, 5, 7] {
            let err = IndividualUserModel::new(counted(), t, true).unwrap_err();
            assert!(
                matches!(err, UserModelError::Shape { rows: 6, .. }),
                "{err}"
            );
        }
    }
}
