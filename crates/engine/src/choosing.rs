//! A token for every sequence that a pass has given something.

use std::collections::HashMap;
use std::panic::{catch_unwind, AssertUnwindSafe};

use rayon::prelude::*;

use super::draw::Scratch;
use super::pass::Last;
use super::request::{SequenceError, TokenOutput};
use super::sampler::Sampler;
use super::scheduler::Scheduler;

/// What came of a sequence's last row, by arrival.
pub type Chosen = (u64, Result<TokenOutput, SequenceError>);

/// A token for each of `given`, in parallel: each depends on its own sequence alone. `scratch` grows to one for each
/// thread, and is used again by the next step.
pub fn choose(
    scheduler: &mut Scheduler,
    given: Vec<(u64, Last)>,
    scratch: &mut Vec<Scratch>,
) -> Vec<Chosen> {
    let mut given: HashMap<u64, Last> = given.into_iter().collect();
    let mut jobs = Vec::with_capacity(given.len());
    for sequence in scheduler.all_mut().filter(|s| s.in_flight() > 0) {
        if let Some(last) = given.remove(&sequence.arrival()) {
            jobs.push(Job {
                arrival: sequence.arrival(),
                sampler: sequence.sampler_mut(),
                last,
            });
        }
    }
    let threads = rayon::current_num_threads().min(jobs.len());
    if scratch.len() < threads.max(1) {
        scratch.resize_with(threads.max(1), Scratch::default);
    }
    if threads < 2 {
        // Not worth waking other threads for.
        let scratch = &mut scratch[0];
        return jobs.iter_mut().map(|job| job.run(scratch)).collect();
    }
    let share = jobs.len().div_ceil(threads);
    let shares = jobs.par_chunks_mut(share);
    let by_thread = shares.zip(scratch).map(|(jobs, scratch)| {
        let chosen = jobs.iter_mut().map(|job| job.run(scratch));
        chosen.collect::<Vec<Chosen>>()
    });
    by_thread.flatten_iter().collect()
}

struct Job<'a> {
    arrival: u64,
    sampler: &'a mut Sampler,
    last: Last,
}

impl Job<'_> {
    fn run(&mut self, scratch: &mut Scratch) -> Chosen {
        let choose = || match &self.last {
            Last::Logits(logits) => self.sampler.sample(&logits.values(), scratch),
            Last::Token(Some(id)) => Ok(self.sampler.take(*id)),
            Last::Token(None) => Err(SequenceError::NotFinite),
        };
        // A panic here is a bug that one sequence pays for.
        let token = catch_unwind(AssertUnwindSafe(choose))
            .unwrap_or_else(|_| Err(SequenceError::Step("choosing a token panicked".into())));
        (self.arrival, token)
    }
}
