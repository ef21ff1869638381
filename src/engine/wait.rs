//! Waiting on futures from a plain thread.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use super::clock::Clock;

/// Runs a future on this thread, which sleeps while there is nothing to do; gives up with `None` when it
/// is `until` by `clock`. For futures that need no runtime: channels and notifications.
pub fn block_on<F: Future>(future: F, clock: &Clock, until: Option<Instant>) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        if until.is_some_and(|until| clock.now() >= until) {
            return None;
        }
        // A wake-up that came before this is remembered: `park` then returns at once.
        clock.park(until);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Sleeps on a clock by hand until `after` seconds; says how often the future was polled.
    fn polls_until(after: u32, advance: impl FnOnce(&dyn Fn(u32)) + Send) -> usize {
        let (clock, hands) = Clock::by_hand();
        let until = clock.now() + after * SECOND;
        let (polled, polls) = channel();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(move || {
                let never = poll_fn(|_| {
                    polled.send(()).unwrap();
                    Poll::<()>::Pending
                });
                block_on(never, &clock, Some(until))
            });
            polls.recv().unwrap();
            advance(&|seconds| hands.advance(seconds * SECOND));
            assert_eq!(waiter.join().unwrap(), None, "nothing came but the time");
        });
        1 + polls.iter().count()
    }

    #[test]
    fn time_ends_a_wait_and_nothing_is_polled_meanwhile() {
        // Each move of the hands may wake the thread once, and once more if it did so just before it slept.
        assert!(polls_until(3, |advance| advance(3)) <= 3);
        assert!(polls_until(3, |advance| (0..3).for_each(|_| advance(1))) <= 5);
    }

    #[test]
    fn the_systems_time_ends_a_wait_too() {
        let clock = Clock::system();
        let mut polls = 0;
        let never = poll_fn(|_| {
            polls += 1;
            Poll::<()>::Pending
        });
        let until = clock.now() + Duration::from_millis(20);
        assert_eq!(block_on(never, &clock, Some(until)), None);
        assert!(clock.now() >= until);
        assert!(polls < 20, "{polls} polls: it did not sleep");
        let ready = block_on(std::future::ready(7), &clock, Some(until));
        assert_eq!(ready, Some(7), "what is there counts, however late");
    }
}
