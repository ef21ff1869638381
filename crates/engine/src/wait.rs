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
    use std::time::Duration;

    use super::*;
    use crate::clock::Hands;

    const SECOND: Duration = Duration::from_secs(1);

    /// Until a thread sleeps on the clock; one that is busy instead never does.
    fn until_it_sleeps(hands: &Hands) {
        let started = std::time::Instant::now();
        while hands.sleepers() == 0 {
            assert!(started.elapsed() < 60 * SECOND, "it does not sleep");
            std::thread::yield_now();
        }
    }

    #[test]
    fn time_ends_a_wait_that_sleeps_until_then() {
        let (clock, hands) = Clock::by_hand();
        let until = clock.now() + 3 * SECOND;
        std::thread::scope(|scope| {
            let never = std::future::pending::<()>();
            let waiter = scope.spawn(move || block_on(never, &clock, Some(until)));
            for _ in 0..3 {
                until_it_sleeps(&hands);
                hands.advance(SECOND);
            }
            assert_eq!(waiter.join().unwrap(), None, "nothing came but the time");
        });
        assert_eq!(hands.sleepers(), 0);
    }

    #[test]
    fn what_comes_ends_a_wait_that_sleeps() {
        let (clock, hands) = Clock::by_hand();
        let until = clock.now() + 3 * SECOND;
        let (send, receive) = tokio::sync::oneshot::channel();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(move || block_on(receive, &clock, Some(until)));
            until_it_sleeps(&hands);
            send.send(7).unwrap();
            assert_eq!(waiter.join().unwrap(), Some(Ok(7)));
        });
    }

    #[test]
    fn the_systems_time_ends_a_wait_too() {
        let clock = Clock::system();
        let until = clock.now() + Duration::from_millis(5);
        let never = std::future::pending::<()>();
        assert_eq!(block_on(never, &clock, Some(until)), None);
        assert!(clock.now() >= until);
        let ready = block_on(std::future::ready(7), &clock, Some(until));
        assert_eq!(ready, Some(7), "what is there counts, however late");
    }
}
