//! Work that would hold a worker of the runtime up, and with it everybody who is served there: parsing, templates,
//! tokens, long answers as JSON.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::error::AppError;
use super::state::AppState;

/// Turns on the threads beside the workers, for one kind of work. Whoever waits for a turn holds no thread.
#[derive(Debug)]
pub struct Compute {
    turns: Arc<Semaphore>,
    inline_bytes: usize,
}

impl Compute {
    /// So many turns at once, for work on more than `inline_bytes`.
    pub fn new(at_once: usize, inline_bytes: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(at_once.max(1))),
            inline_bytes,
        }
    }

    /// The turns that are left.
    pub fn turns(&self) -> &Arc<Semaphore> {
        &self.turns
    }

    /// Runs `work`, which takes time in proportion to `bytes`: here if they are few, else on a thread of `tasks`
    /// when there is a turn. Work that has begun goes on to its end even if the caller goes away, and keeps its
    /// turn until then.
    ///
    /// # Errors
    /// A thread that fails: `work` panicked.
    pub async fn run<T, F>(&self, tasks: &TaskTracker, bytes: usize, work: F) -> Result<T, AppError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if bytes <= self.inline_bytes {
            return Ok(work());
        }
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        // Nobody closes it.
        let turn = turn.map_err(|_| AppError::ShuttingDown)?;
        let task = tasks.spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        task.await
            .map_err(|error| AppError::Internal(format!("a computing thread failed: {error}")))
    }
}

impl AppState {
    /// Runs `work` on a body or an answer of so many bytes where it holds nobody up.
    ///
    /// # Errors
    /// See [`Compute::run`].
    pub async fn compute<T, F>(&self, bytes: usize, work: F) -> Result<T, AppError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.bodies.run(&self.tasks, bytes, work).await
    }
}
