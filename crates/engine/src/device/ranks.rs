//! A model over several devices in one process: a thread for each rank but the first, which the engine's
//! own thread runs.
//!
//! Every rank sees every pass. The first one has the head, the logits and the sampler; the others compute
//! their heads' share of each block and meet it twice a block (`model::shard`).

use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::thread::JoinHandle;

use candle_core::Tensor;

use super::chosen::ChosenTokens;
use crate::model_runner::ModelRunner;
use crate::runner::Runner;
use crate::sampler::SamplingPlan;
use attune_model::error::ModelError;
use attune_model::input::ForwardInput;

/// A [`Runner`] over all ranks.
#[derive(Debug)]
pub struct RankedRunner {
    first: ModelRunner,
    others: Vec<Rank>,
    /// Why no pass can be run any more: after a failure on some ranks the others have met sums that these
    /// have not, and every later sum would be of parts that do not belong together.
    broken: Option<String>,
}

/// What a rank is to do.
enum Order {
    /// Run this pass, and say how it went.
    Pass(Arc<ForwardInput>),
    /// As [`Runner::forget`].
    Forget,
}

/// A rank that is not the first.
#[derive(Debug)]
pub struct Rank {
    /// `None` while it is being dropped.
    orders: Option<Sender<Order>>,
    results: Receiver<Result<(), String>>,
    thread: Option<JoinHandle<()>>,
}

impl Rank {
    /// Starts a thread that owns what `make` makes there: joining the ranks waits for all of them, so each
    /// needs its own thread from the beginning.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn spawn(
        rank: usize,
        make: impl FnOnce() -> Result<ModelRunner, ModelError> + Send + 'static,
    ) -> Result<Self, ModelError> {
        let (orders, received) = channel();
        let (done, results) = channel();
        let run = move || {
            let mut runner = match make() {
                Ok(runner) => runner,
                Err(error) => {
                    tracing::error!(rank, %error, "a rank could not start");
                    // Whoever waits for its result gets this one.
                    drop(done.send(Err(error.to_string())));
                    return;
                }
            };
            while let Ok(order) = received.recv() {
                let input = match order {
                    Order::Pass(input) => input,
                    Order::Forget => {
                        runner.forget();
                        continue;
                    }
                };
                let result = runner.follow(&input).map_err(|e| e.to_string());
                if done.send(result).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name(format!("attune-rank-{rank}"))
            .spawn(run)
            .map_err(candle_core::Error::wrap)?;
        Ok(Self {
            orders: Some(orders),
            results,
            thread: Some(thread),
        })
    }

    fn follow(&self, input: &Arc<ForwardInput>) -> Result<(), ModelError> {
        let sent = self
            .orders
            .as_ref()
            .map(|o| o.send(Order::Pass(input.clone())));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(gone("it has ended")),
        }
    }

    fn wait(&self) -> Result<(), ModelError> {
        match self.results.recv() {
            Ok(result) => result.map_err(|e| gone(&e)),
            Err(_) => Err(gone("it has ended")),
        }
    }
}

impl Drop for Rank {
    fn drop(&mut self) {
        // The thread's loop ends with its channel.
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was logged when it happened.
            drop(thread.join());
        }
    }
}

fn gone(why: &str) -> ModelError {
    ModelError::Tensor(candle_core::Error::msg(format!(
        "another device of this model failed ({why}): restart the server"
    )))
}

impl RankedRunner {
    /// `first` has rank 0, `others` have the ranks from 1 on.
    pub fn new(first: ModelRunner, others: Vec<Rank>) -> Self {
        Self {
            first,
            others,
            broken: None,
        }
    }

    fn run(&mut self, input: &ForwardInput) -> Result<Tensor, ModelError> {
        let shared = Arc::new(input.clone());
        for rank in &self.others {
            rank.follow(&shared)?;
        }
        let logits = self.first.forward(input)?;
        for rank in &self.others {
            rank.wait()?;
        }
        Ok(logits)
    }
}

impl Runner for RankedRunner {
    fn forward(&mut self, input: &ForwardInput) -> Result<Tensor, ModelError> {
        if let Some(why) = &self.broken {
            return Err(gone(why));
        }
        let result = self.run(input);
        self.broken = result.as_ref().err().map(ToString::to_string);
        result
    }

    fn chooses(&self) -> bool {
        self.first.chooses()
    }

    fn choose(
        &mut self,
        logits: &Tensor,
        plans: &[SamplingPlan],
    ) -> Result<ChosenTokens, ModelError> {
        self.first.choose(logits, plans)
    }

    fn forget(&mut self) {
        self.first.forget();
        for rank in &self.others {
            // One that has ended keeps nothing; the next pass says that it has.
            drop(rank.orders.as_ref().map(|o| o.send(Order::Forget)));
        }
    }

    fn vocab_size(&self) -> usize {
        self.first.vocab_size()
    }

    fn block_size(&self) -> usize {
        self.first.block_size()
    }

    fn n_blocks(&self) -> usize {
        self.first.n_blocks()
    }
}
