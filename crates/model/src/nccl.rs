//! Sums over GPUs by NCCL, through mistralrs-quant's communicator.

use std::sync::Arc;

use candle_core::{bail, Device, Error, Result, Tensor};
use mistralrs_quant::{Comm, Id, SumAllReduce};

use super::shard::{Shard, SumOverRanks};

/// Keeps NCCL from reading another GPU's memory by its address, which works only for memory that was
/// allocated outside of pools; set to 1 by whoever starts the server, for it is read by NCCL itself.
const DIRECT: &str = "NCCL_P2P_DIRECT_DISABLE";

/// What makes the ranks of one model find each other; made once and given to all.
#[derive(Debug, Clone, Copy)]
pub struct Meeting(Id);

#[derive(Debug)]
struct Nccl(SumAllReduce);

impl Meeting {
    /// A new one.
    pub fn new() -> Self {
        if std::env::var_os(DIRECT).is_none() {
            tracing::warn!(
                "{DIRECT} is not set: NCCL may take GPUs of one process to see each other's memory pools, which they do not"
            );
        }
        Self(Id::new())
    }

    /// Rank `rank` of `n_ranks` on `device`, whose number is the rank: mistralrs-quant asks for that, and
    /// for a power of two. Waits until every rank has called.
    ///
    /// # Errors
    /// NCCL does not find the others, or is switched off.
    pub fn join(self, device: &Device, rank: usize, n_ranks: usize) -> Result<Shard> {
        // NCCL joins on whatever device the thread used last.
        let stream = device.as_cuda_device()?.cuda_stream();
        stream.context().bind_to_thread().map_err(Error::wrap)?;
        let comm = Arc::new(Comm::from_device(self.0, device, rank, n_ranks)?);
        if comm.world_size() != n_ranks {
            // Its sums would be those of one rank.
            bail!("NCCL is switched off: unset MISTRALRS_NO_NCCL");
        }
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
