//! The engine's only clock: the system's, or one that a test moves by hand.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Tells the time, and when to wake. Clones tell the same time.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// `None`: the system's.
    by_hand: Option<Arc<ByHand>>,
}

/// Moves a clock that stands still otherwise.
#[derive(Debug, Clone)]
pub struct Hands(Arc<ByHand>);

#[derive(Debug)]
struct ByHand {
    born: Instant,
    face: Mutex<Face>,
}

#[derive(Debug, Default)]
struct Face {
    passed: Duration,
    sleepers: Vec<Thread>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands still, and what moves it.
    pub fn by_hand() -> (Self, Hands) {
        let by_hand = Arc::new(ByHand {
            born: system_now(),
            face: Mutex::default(),
        });
        let clock = Self {
            by_hand: Some(Arc::clone(&by_hand)),
        };
        (clock, Hands(by_hand))
    }

    /// The present.
    pub fn now(&self) -> Instant {
        match &self.by_hand {
            None => system_now(),
            Some(by_hand) => by_hand.born + by_hand.face().passed,
        }
    }

    /// Puts this thread to sleep until it is unparked or `until` has come. It may wake early for no
    /// reason, as `std::thread::park` may.
    pub(super) fn park(&self, until: Option<Instant>) {
        match (&self.by_hand, until) {
            (_, None) => std::thread::park(),
            (None, Some(until)) => {
                std::thread::park_timeout(until.saturating_duration_since(self.now()));
            }
            (Some(by_hand), Some(until)) => {
                let mut face = by_hand.face();
                if by_hand.born + face.passed >= until {
                    return;
                }
                face.sleepers.push(std::thread::current());
                drop(face);
                // Hands that move now unpark this thread, which `park` remembers.
                std::thread::park();
            }
        }
    }
}

impl Hands {
    /// Threads that sleep until a moment that has not come.
    pub fn sleepers(&self) -> usize {
        self.0.face().sleepers.len()
    }

    /// Lets time pass, and wakes who sleeps on the clock.
    pub fn advance(&self, by: Duration) {
        let mut face = self.0.face();
        face.passed += by;
        for sleeper in face.sleepers.drain(..) {
            sleeper.unpark();
        }
    }
}

impl ByHand {
    fn face(&self) -> MutexGuard<'_, Face> {
        // No code panics under this lock but for an overflow of time, which a test would see.
        self.face.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the system's clock"
)]
fn system_now() -> Instant {
    Instant::now()
}
