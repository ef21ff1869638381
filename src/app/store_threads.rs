//! Threads that work on the store, and nothing else does.
//!
//! All work on the store may wait for the disk or for a writer. It runs on threads of its own, each kind
//! with its own queue, both bounded: a disk that hangs keeps these threads and fills these queues, and
//! whoever comes then is told that the store is busy. Nothing else of the server waits for them.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::error::{AppError, STORE_BUSY_RETRY_AFTER};
use attune_store::Store;

/// What work is for: each kind waits for its own kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreWork {
    /// A request's: some records.
    Request,
    /// An operator's: versions are installed, promoted, listed.
    Change,
    /// Reads or writes much: snapshots, what housekeeping does.
    Long,
    /// Looks whether the store works.
    Probe,
}

impl StoreWork {
    /// How many threads there are for it.
    pub fn threads(self) -> usize {
        match self {
            // Writers that wait at the same time share one flush of the disk, so more of them cost little.
            Self::Request => 16,
            Self::Change => 4,
            Self::Long => 2,
            Self::Probe => 1,
        }
    }

    /// How much of it waits for a thread at most.
    pub fn waiting(self) -> usize {
        match self {
            Self::Request => 256,
            Self::Change => 32,
            Self::Long => 8,
            Self::Probe => 1,
        }
    }
}

/// The threads. Dropping this waits for the work that was taken in.
pub struct StoreThreads {
    store: Store,
    requests: Lane,
    changes: Lane,
    long: Lane,
    probe: Lane,
}

/// A queue, and the threads that empty it.
struct Lane {
    /// `None` once no more is taken in.
    queue: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl StoreThreads {
    /// Threads for `store`.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(store: Store) -> std::io::Result<Self> {
        Ok(Self {
            store,
            requests: Lane::start("store", StoreWork::Request)?,
            changes: Lane::start("store-change", StoreWork::Change)?,
            long: Lane::start("store-long", StoreWork::Long)?,
            probe: Lane::start("store-probe", StoreWork::Probe)?,
        })
    }

    /// Runs `work`, to its end even if the caller goes away.
    ///
    /// # Errors
    /// [`AppError::StoreBusy`] if the queue is full, and what `work` says.
    pub async fn run<T, E, F>(&self, kind: StoreWork, work: F) -> Result<T, AppError>
    where
        T: Send + 'static,
        E: Into<AppError> + Send + 'static,
        F: FnOnce(&Store) -> Result<T, E> + Send + 'static,
    {
        let lane = match kind {
            StoreWork::Request => &self.requests,
            StoreWork::Change => &self.changes,
            StoreWork::Long => &self.long,
            StoreWork::Probe => &self.probe,
        };
        let (send, receive) = oneshot::channel();
        let store = self.store.clone();
        let job = Box::new(move || {
            let done = catch_unwind(AssertUnwindSafe(|| work(&store)));
            // The store is closed by its last handle: here it goes before anybody hears of the result.
            drop(store);
            if let Ok(done) = done {
                // Who asked may be gone.
                let _ = send.send(done);
            }
        });
        lane.take_in(job)?;
        let done = receive.await;
        done.map_err(|_| AppError::Internal("work on the store panicked".to_owned()))?
            .map_err(Into::into)
    }
}

impl std::fmt::Debug for StoreThreads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreThreads").finish_non_exhaustive()
    }
}

impl Lane {
    fn start(name: &str, kind: StoreWork) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel::<Job>(kind.waiting());
        let jobs = Arc::new(Mutex::new(jobs));
        let start = |_| {
            let jobs = jobs.clone();
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn(move || work_off(&jobs))
        };
        Ok(Self {
            queue: Some(queue),
            threads: (0..kind.threads()).map(start).collect::<Result<_, _>>()?,
        })
    }

    fn take_in(&self, job: Job) -> Result<(), AppError> {
        let taken = self.queue.as_ref().map(|queue| queue.try_send(job));
        match taken {
            Some(Ok(())) => Ok(()),
            _ => Err(AppError::StoreBusy {
                retry_after: STORE_BUSY_RETRY_AFTER,
            }),
        }
    }
}

fn work_off(jobs: &Mutex<Receiver<Job>>) {
    loop {
        // One thread waits for the next job, the others wait for the lock; a job catches its own panic.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A job may hold the last handle of what holds this: a thread cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt;

    use super::*;
    use attune_store::StoreError;

    fn threads() -> (tempfile::TempDir, Arc<StoreThreads>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), 1).unwrap();
        let threads = Arc::new(StoreThreads::start(store).unwrap());
        (dir, threads)
    }

    /// Work that hangs until its sender is dropped.
    fn hang(
        threads: &Arc<StoreThreads>,
        kind: StoreWork,
        until: mpsc::Receiver<()>,
    ) -> impl std::future::Future<Output = Result<(), AppError>> {
        let threads = threads.clone();
        async move {
            let work = move |_: &Store| -> Result<(), StoreError> {
                // An error is what it waits for.
                let _ = until.recv();
                Ok(())
            };
            threads.run(kind, work).await
        }
    }

    #[tokio::test]
    async fn who_comes_to_a_full_queue_is_told_at_once_and_other_kinds_go_on() {
        let (_dir, threads) = threads();
        let (mut gates, mut hanging) = (Vec::new(), Vec::new());
        // Until the queue is full: threads may or may not have taken the first of them already.
        let refused = loop {
            let (gate, until) = mpsc::channel();
            let mut work = Box::pin(hang(&threads, StoreWork::Request, until));
            match work.as_mut().now_or_never() {
                Some(done) => break done,
                None => hanging.push(work),
            }
            gates.push(gate);
            let most = StoreWork::Request.threads() + StoreWork::Request.waiting();
            assert!(gates.len() <= most, "nothing is bounded");
        };
        assert!(
            matches!(refused, Err(AppError::StoreBusy { .. })),
            "{refused:?}"
        );
        assert!(gates.len() >= StoreWork::Request.waiting());
        // Nobody of another kind waits for them.
        for kind in [StoreWork::Long, StoreWork::Probe] {
            let info = threads.run(kind, |store| store.info()).await;
            assert!(info.is_ok(), "{kind:?} {info:?}");
        }
        drop(gates);
        for work in hanging {
            work.await.unwrap();
        }
        let info = threads.run(StoreWork::Request, |store| store.info()).await;
        assert!(info.is_ok());
    }

    #[tokio::test]
    async fn work_that_panics_takes_no_thread_with_it() {
        let (_dir, threads) = threads();
        for _ in 0..40 {
            let panics = |_: &Store| -> Result<(), StoreError> { panic!("on purpose") };
            let done = threads.run(StoreWork::Request, panics).await;
            assert!(matches!(done, Err(AppError::Internal(_))));
        }
        let info = threads.run(StoreWork::Request, |store| store.info()).await;
        assert!(info.is_ok());
    }

    #[tokio::test]
    async fn dropping_the_threads_closes_the_store() {
        let (dir, threads) = threads();
        let (gate, until) = mpsc::channel();
        let mut work = Box::pin(hang(&threads, StoreWork::Long, until));
        assert!(work.as_mut().now_or_never().is_none());
        // Who asked goes away; the work is done all the same, and waited for.
        drop(work);
        drop(gate);
        drop(threads);
        Store::open(&dir.path().join("store"), 1).unwrap();
    }
}
