//! How much may wait: the bound that keeps a busy server answering 503 instead of growing.

use std::collections::BTreeMap;
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

/// Counts what waits and what runs. Checked and reserved in one short critical section, so a request
/// is refused before anything of it is built.
#[derive(Debug)]
pub struct Admission {
    bounds: Bounds,
    books: Mutex<Books>,
}

/// What is taken in now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Sequences that wait, those among them that were put back.
    pub waiting: usize,
    /// The rows that they have to compute.
    pub waiting_rows: usize,
    /// Sequences that run.
    pub running: usize,
}

#[derive(Debug, Default)]
struct Books {
    /// Rows of the sequences that wait, in the order in which they came.
    waiting: BTreeMap<u64, usize>,
    next: u64,
    running: usize,
    /// Rows that the engine computes a second, lately.
    rows_per_second: Option<f64>,
}

/// A place of one sequence; dropping it gives the place back.
#[derive(Debug)]
pub struct Ticket {
    admission: Arc<Admission>,
    number: u64,
    runs: bool,
}

impl Admission {
    /// Nothing taken in.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            books: Mutex::default(),
        }
    }

    /// Reserves places for sequences of `rows` prompt rows each: for all, or for none.
    ///
    /// Whoever has a slot open does not wait, even if the engine has not looked yet: the bounds hold
    /// for those behind. A queue that is empty takes any rows, else a prompt longer than
    /// `max_queued_tokens` could never be answered.
    ///
    /// # Errors
    /// `Full`, or `Invalid` for more sequences than there can ever be places.
    pub fn reserve(self: &Arc<Self>, rows: &[usize]) -> Result<Vec<Ticket>, SubmitError> {
        let places = self
            .bounds
            .max_running
            .saturating_add(self.bounds.max_queued);
        if rows.len() > places {
            return Err(SubmitError::Invalid(format!(
                "{} answers at once, and the engine holds {places}: ask for fewer",
                rows.len()
            )));
        }
        let mut books = self.lock();
        let sequences = books.running + books.waiting.len() + rows.len();
        if sequences > places || self.too_many_rows(&books, rows) {
            let retry_after = books.retry_after();
            return Err(SubmitError::Full { retry_after });
        }
        let ticket = |rows: &usize| Ticket {
            admission: Arc::clone(self),
            number: books.add(*rows),
            runs: false,
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
        let mut books = self.lock();
        let before = books.rows_per_second.unwrap_or(speed);
        books.rows_per_second = Some(0.9 * before + 0.1 * speed);
    }

    /// What is taken in now.
    pub fn counts(&self) -> Counts {
        let books = self.lock();
        Counts {
            waiting: books.waiting.len(),
            waiting_rows: books.waiting.values().sum(),
            running: books.running,
        }
    }

    fn too_many_rows(&self, books: &Books, new: &[usize]) -> bool {
        let open = self.bounds.max_running.saturating_sub(books.running);
        let behind = books.waiting.values().chain(new).skip(open);
        let someone_waits = books.waiting.len() > open;
        someone_waits && behind.sum::<usize>() > self.bounds.max_queued_tokens
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // No code panics under this lock; a poisoned count is as good as any.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn add(&mut self, rows: usize) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, rows);
        self.next
    }

    /// When the rows that wait now will have run, in whole seconds from 1 to 60.
    fn retry_after(&self) -> Duration {
        let rows: usize = self.waiting.values().sum();
        let seconds = self
            .rows_per_second
            .map_or(1.0, |speed| rows as f64 / speed);
        Duration::from_secs(seconds.ceil().clamp(1.0, 60.0) as u64)
    }
}

impl Ticket {
    /// The sequence runs: it no longer waits.
    pub fn run(&mut self) {
        if !self.runs {
            self.runs = true;
            let mut books = self.admission.lock();
            books.waiting.remove(&self.number);
            books.running += 1;
        }
    }

    /// The sequence was put back to its place in the queue, with so many rows to compute.
    pub fn wait_again(&mut self, rows: usize) {
        if self.runs {
            self.runs = false;
            let mut books = self.admission.lock();
            books.waiting.insert(self.number, rows);
            books.running -= 1;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut books = self.admission.lock();
        if self.runs {
            books.running -= 1;
        } else {
            books.waiting.remove(&self.number);
        }
    }
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
        first[0].run();
        first[0].run();
        assert_eq!(
            (admission.counts().waiting, admission.counts().running),
            (1, 1)
        );
        let third = admission.reserve(&[5]).unwrap();
        assert!(admission.reserve(&[5]).is_err());
        drop((first, second, third));
        let counts = admission.counts();
        assert_eq!(
            (counts.waiting, counts.waiting_rows, counts.running),
            (0, 0, 0)
        );
        let never = admission.reserve(&[1; 4]).unwrap_err();
        assert!(matches!(never, SubmitError::Invalid(_)));
    }

    #[test]
    fn rows_are_bounded_once_something_waits() {
        for runs in [false, true] {
            let admission = admission(1, 10, 100);
            let mut running = admission.reserve(&[500]).unwrap();
            if runs {
                running[0].run();
            }
            let first = admission.reserve(&[60]).unwrap();
            assert!(admission.reserve(&[41]).is_err());
            let second = admission.reserve(&[40]).unwrap();
            drop((first, second));
            let _long = admission.reserve(&[500]).expect("the queue is empty");
            assert!(admission.reserve(&[1]).is_err());
        }
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
