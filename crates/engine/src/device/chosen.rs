//! Tokens that a runner chose where it computes, on their way to the host.

use candle_core::{Result, Tensor};

use super::host_copy::HostCopy;

/// A token for each row that was asked for. The next pass may take them from where they are, before the
/// host knows them.
#[derive(Debug)]
pub struct ChosenTokens {
    /// (rows), u32, where the model is; any possible token at a row that has none.
    ids: Tensor,
    /// (2, rows): tokens as floats, exact below 2^24, and numbers that are NaN where there is none.
    report: HostCopy,
}

impl ChosenTokens {
    /// Of `ids`, (rows), u32, and of a copy of (2, rows), f32: tokens and checks.
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
        let (ids, checks) = values.split_at(values.len() / 2);
        let token = |(id, check): (&f32, &f32)| (!check.is_nan()).then_some(*id as u32);
        Ok(ids.iter().zip(checks).map(token).collect())
    }
}
