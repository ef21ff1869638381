//! Tokens that a runner chose where it computes, on their way to the host.

use candle_core::{Result, Tensor};

use super::host_copy::HostCopy;

/// A token for each row that was asked for. The next pass may take them from where they are, before the
/// host knows them.
#[derive(Debug)]
pub struct ChosenTokens {
    /// (rows), u32, where the model is; any possible token at a row that has none.
    ids: Tensor,
    /// (rows, 2): the token as a float, exact below 2^24, and a number that is NaN where there is none.
    report: HostCopy,
}

impl ChosenTokens {
    /// Of `ids`, (rows), u32, and of a copy of (rows, 2), f32: token and check.
    pub fn new(ids: Tensor, report: HostCopy) -> Self {
        Self { ids, report }
    }

    /// (rows), u32, where the model is.
    pub fn ids(&self) -> &Tensor {
        &self.ids
    }

    /// Waits for the tokens, and for nothing that was started after them. `None`: the row's logits are not
    /// numbers, or no token is possible.
    ///
    /// # Errors
    /// A device that failed.
    pub fn wait(self) -> Result<Vec<Option<u32>>> {
        let values = self.report.wait()?;
        let token = |row: &[f32]| (!row[1].is_nan()).then_some(row[0] as u32);
        Ok(values.chunks_exact(2).map(token).collect())
    }
}
