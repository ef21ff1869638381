//! How much may wait: the bound that keeps a busy server answering 503 instead of growing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::request::SubmitError;

/// Bounds of what the engine has taken in and not finished.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Sequences that run at once.
    pub max_running: usize,
    /// Sequences that wait beyond those.
    pub max_queued: usize,
    /// Prompt rows that wait.
    pub max_queued_tokens: usize,
}

/// Counts what waits and what runs. Checked and reserved in one critical section of a few
/// instructions, so a request is refused before anything of it is built.
#[derive(Debug)]
pub struct Admission {
    bounds: Bounds,
    counts: Mutex<Counts>,
}

/// What is taken in now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Sequences that have not started.
    pub waiting: usize,
    /// Their prompt rows.
    pub waiting_rows: usize,
    /// Sequences that started and have not ended; a preempted one stays among them.
    pub started: usize,
    /// Rows that the engine computes a second, lately; 0 while unknown.
    pub rows_per_second: f64,
}

/// A place of one sequence; dropping it gives the place back.
#[derive(Debug)]
pub struct Ticket {
    admission: Arc<Admission>,
    rows: usize,
    started: bool,
}

impl Admission {
    /// Nothing taken in.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            counts: Mutex::default(),
        }
    }

    /// Reserves places for sequences of `rows` prompt rows each: for all, or for none.
    ///
    /// A sequence for which a running slot is open does not wait, so it is counted against
    /// `max_running + max_queued`; rows are bounded as soon as anything has to wait. A queue that is
    /// empty takes any request, else one longer than `max_queued_tokens` could never be answered.
    ///
    /// # Errors
    /// `Full`, or `Invalid` for more sequences than there can ever be places.
    pub fn reserve(self: &Arc<Self>, rows: &[usize]) -> Result<Vec<Ticket>, SubmitError> {
        let places = self.bounds.max_running + self.bounds.max_queued;
        if rows.len() > places {
            return Err(SubmitError::Invalid(format!(
                "{} answers at once, and the engine holds {places}: ask for fewer",
                rows.len()
            )));
        }
        let new_rows: usize = rows.iter().sum();
        let mut counts = self.lock();
        let sequences = counts.started + counts.waiting + rows.len();
        let must_wait = sequences > self.bounds.max_running;
        let too_many_rows = counts.waiting > 0
            && counts.waiting_rows.saturating_add(new_rows) > self.bounds.max_queued_tokens;
        if sequences > places || (must_wait && too_many_rows) {
            let retry_after = retry_after(&counts);
            return Err(SubmitError::Full { retry_after });
        }
        counts.waiting += rows.len();
        counts.waiting_rows += new_rows;
        drop(counts);
        let ticket = |&rows: &usize| Ticket {
            admission: Arc::clone(self),
            rows,
            started: false,
        };
        Ok(rows.iter().map(ticket).collect())
    }

    /// Remembers how fast the engine went in one step.
    pub fn record_step(&self, rows: usize, took: Duration) {
        let seconds = took.as_secs_f64();
        if rows == 0 || seconds <= 0.0 {
            return;
        }
        let speed = rows as f64 / seconds;
        let mut counts = self.lock();
        counts.rows_per_second = if counts.rows_per_second > 0.0 {
            0.9 * counts.rows_per_second + 0.1 * speed
        } else {
            speed
        };
    }

    /// What is taken in now.
    pub fn counts(&self) -> Counts {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // No code panics under this lock; a poisoned count is as good as any.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The sequence runs: it no longer waits.
    pub fn start(&mut self) {
        if !self.started {
            self.started = true;
            let mut counts = self.admission.lock();
            counts.waiting -= 1;
            counts.waiting_rows -= self.rows;
            counts.started += 1;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        if self.started {
            counts.started -= 1;
        } else {
            counts.waiting -= 1;
            counts.waiting_rows -= self.rows;
        }
    }
}

/// When the rows that wait now will have run, in whole seconds from 1 to 60.
fn retry_after(counts: &Counts) -> Duration {
    let seconds = if counts.rows_per_second > 0.0 {
        counts.waiting_rows as f64 / counts.rows_per_second
    } else {
        1.0
    };
    Duration::from_secs(seconds.ceil().clamp(1.0, 60.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(max_running: usize, max_queued: usize, rows: usize) -> Arc<Admission> {
        Arc::new(Admission::new(Bounds {
            max_running,
            max_queued,
            max_queued_tokens: rows,
        }))
    }

    #[test]
    fn sequences_are_bounded_and_all_or_none() {
        let admission = admission(1, 2, 1000);
        let mut first = admission.reserve(&[5]).unwrap();
        let second = admission.reserve(&[5]).unwrap();
        let refused = admission.reserve(&[5, 5]).unwrap_err();
        assert!(matches!(refused, SubmitError::Full { retry_after } if retry_after.as_secs() >= 1));
        assert_eq!(admission.counts().waiting, 2, "nothing of it was taken");
        first[0].start();
        first[0].start();
        assert_eq!(
            (admission.counts().waiting, admission.counts().started),
            (1, 1)
        );
        let third = admission.reserve(&[5]).unwrap();
        assert!(admission.reserve(&[5]).is_err());
        drop((first, second, third));
        let counts = admission.counts();
        assert_eq!(
            (counts.waiting, counts.waiting_rows, counts.started),
            (0, 0, 0)
        );
        let never = admission.reserve(&[1; 4]).unwrap_err();
        assert!(matches!(never, SubmitError::Invalid(_)));
    }

    #[test]
    fn rows_are_bounded_once_something_waits() {
        let admission = admission(1, 10, 100);
        let mut running = admission.reserve(&[500]).unwrap();
        running[0].start();
        let _long = admission.reserve(&[500]).expect("the queue is empty");
        assert!(matches!(
            admission.reserve(&[1]),
            Err(SubmitError::Full { .. })
        ));
    }

    #[test]
    fn retry_after_follows_the_speed() {
        let admission = admission(0, 2, 1000);
        let _waiting = admission.reserve(&[300, 300]).unwrap();
        admission.record_step(100, Duration::from_secs(1));
        let Err(SubmitError::Full { retry_after }) = admission.reserve(&[1]) else {
            panic!("the queue is full");
        };
        assert_eq!(retry_after.as_secs(), 6);
    }
}
