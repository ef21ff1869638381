//! Sums over GPUs by NCCL, through mistralrs-quant's communicator.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use mistralrs_quant::{Comm, Id, SumAllReduce};

use super::shard::{Shard, SumOverRanks};

/// What makes the ranks of one model find each other; made once and given to all.
#[derive(Debug, Clone, Copy)]
pub struct Meeting(Id);

#[derive(Debug)]
struct Nccl(SumAllReduce);

impl Meeting {
    /// A new one.
    pub fn new() -> Self {
        Self(Id::new())
    }

    /// Rank `rank` of `n_ranks` on `device`, whose number is the rank: mistralrs-quant asks for that, and
    /// for a power of two. Waits until every rank has called.
    ///
    /// # Errors
    /// NCCL does not find the others.
    pub fn join(self, device: &Device, rank: usize, n_ranks: usize) -> Result<Shard> {
        let comm = Arc::new(Comm::from_device(self.0, device, rank, n_ranks)?);
        Ok(Shard {
            rank,
            n_ranks,
            others: Arc::new(Nccl(SumAllReduce::new(&comm))),
        })
    }
}

impl Default for Meeting {
    fn default() -> Self {
        Self::new()
    }
}

impl SumOverRanks for Nccl {
    fn sum(&self, x: &Tensor) -> Result<Tensor> {
        self.0.sum_all_reduce(&x.contiguous()?)
    }
}
