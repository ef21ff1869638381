//! A checked (rows, width) table of f32.

/// Values must be at most this large in magnitude, so that the sum of two is a number too.
const MAX_VALUE: f32 = f32::MAX / 2.0;

/// Why numbers do not make a user model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserModelError {
    /// A table whose shape does not follow from N, T_u, K and the model's width.
    #[error("{table} has shape ({rows}, {width}), but {expected}")]
    Shape {
        /// The table.
        table: &'static str,
        /// Its rows.
        rows: usize,
        /// Its width.
        width: usize,
        /// The rule that it breaks.
        expected: String,
    },
    /// A number of values that is not rows * width.
    #[error("{table} has {values} values, which do not fill ({rows}, {width})")]
    Values {
        /// The table.
        table: &'static str,
        /// Its values.
        values: usize,
        /// Its rows.
        rows: usize,
        /// Its width.
        width: usize,
    },
    /// A value that is NaN, infinite or too large to add to another.
    #[error("{table} has an unusable value (NaN, infinite or huge) in row {row}, column {column}")]
    NotFinite {
        /// The table.
        table: &'static str,
        /// The row of the value.
        row: usize,
        /// The column of the value.
        column: usize,
    },
}

/// A (rows, width) table, row-major: neither side is 0 and every value is a usable number.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    values: Vec<f32>,
    width: usize,
}

impl Table {
    /// Checks `values`, (rows, width) row-major; `name` is what errors call the table.
    ///
    /// # Errors
    /// An empty side, a count of values that is not rows * width, or an unusable value.
    pub fn new(
        name: &'static str,
        values: Vec<f32>,
        (rows, width): (usize, usize),
    ) -> Result<Self, UserModelError> {
        if rows == 0 || width == 0 || rows.checked_mul(width) != Some(values.len()) {
            return Err(UserModelError::Values {
                table: name,
                values: values.len(),
                rows,
                width,
            });
        }
        let unusable = |v: &f32| !v.is_finite() || v.abs() > MAX_VALUE;
        match values.iter().position(unusable) {
            Some(at) => Err(UserModelError::NotFinite {
                table: name,
                row: at / width,
                column: at % width,
            }),
            None => Ok(Self { values, width }),
        }
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.values.len() / self.width
    }

    /// Values per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// `n` rows from row `first`, row-major. Both are the caller's to keep in range.
    pub(super) fn rows(&self, first: usize, n: usize) -> &[f32] {
        &self.values[first * self.width..(first + n) * self.width]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_filled_exactly() {
        let table = Table::new("t", vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], (3, 2)).unwrap();
        assert_eq!((table.n_rows(), table.width()), (3, 2));
        assert_eq!(table.rows(1, 2), [3.0, 4.0, 5.0, 6.0]);
        for shape in [(3, 3), (0, 2), (2, 0), (usize::MAX, 2)] {
            let err = Table::new("t", vec![0.0; 6], shape).unwrap_err();
            assert!(
                matches!(err, UserModelError::Values { values: 6, .. }),
                "{err}"
            );
        }
    }

    #[test]
    fn an_unusable_value_is_named_by_its_place() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            let err = Table::new("offsets", vec![0.0, 0.0, 0.0, bad], (2, 2)).unwrap_err();
            let expected = UserModelError::NotFinite {
                table: "offsets",
                row: 1,
                column: 1,
            };
            assert_eq!(err, expected);
        }
    }
}
