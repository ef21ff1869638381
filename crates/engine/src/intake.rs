//! Requests become sequences, or are refused before anything is built.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use super::admission::{Admission, Ticket};
use super::clock::Clock;
use super::outbox::{Answer, Outbox};
use super::request::{EngineRequest, Payer, SubmitError};
use super::sampler::Sampler;
use super::sequence::Sequence;

/// Checks requests, reserves their places, numbers them. Shared by all threads that submit.
#[derive(Debug)]
pub struct Intake {
    admission: Arc<Admission>,
    limits: Limits,
    arrivals: AtomicU64,
    /// Seed of sequences that bring none.
    seed: u64,
    clock: Clock,
}

/// Places for the answers of one request; dropping it gives them back.
#[derive(Debug)]
pub struct Hold {
    tickets: Vec<Ticket>,
    payer: Payer,
}

impl Hold {
    /// Who pays for them.
    pub fn payer(&self) -> &Payer {
        &self.payer
    }
}

/// What the runner can hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Width of the logits.
    pub vocab_size: usize,
    /// Rows that fit the KV cache.
    pub kv_rows: usize,
}

impl Intake {
    /// Numbers from 0.
    pub fn new(admission: Arc<Admission>, limits: Limits, seed: u64, clock: Clock) -> Self {
        Self {
            admission,
            limits,
            arrivals: AtomicU64::new(0),
            seed,
            clock,
        }
    }

    /// Keeps places for `answers` answers, whose prompts are not known yet.
    ///
    /// # Errors
    /// `Invalid` for more than there can ever be, `Capped` and `Full` for want of places.
    pub fn hold(&self, payer: &Payer, answers: usize) -> Result<Hold, SubmitError> {
        let tickets = self.admission.hold(payer, answers)?;
        Ok(Hold {
            tickets,
            payer: *payer,
        })
    }

    /// Takes all requests in, or none; as many as are held, and paid for by whoever holds.
    ///
    /// # Errors
    /// `Invalid` for a request that can never run, `Full` if too many rows wait, `Late` for one that would miss
    /// its deadline.
    pub fn take(
        &self,
        hold: Hold,
        requests: Vec<EngineRequest>,
    ) -> Result<(Vec<Sequence>, Vec<Answer>), SubmitError> {
        let Hold { tickets, payer } = hold;
        if tickets.len() != requests.len() || requests.iter().any(|r| r.payer != payer) {
            let why = "these are not the answers whose places were held";
            return Err(SubmitError::Invalid(why.into()));
        }
        for request in &requests {
            self.check(request)?;
        }
        self.admission.enter(&tickets, &requests)?;
        let number = |(request, ticket): (EngineRequest, _)| {
            let arrival = self.arrivals.fetch_add(1, Ordering::Relaxed);
            let sampler = Sampler::new(&request, self.seed, arrival);
            let (outbox, answer) = Outbox::channel();
            let clock = self.clock.clone();
            let sequence = Sequence::new(arrival, request, sampler, outbox, ticket, clock);
            (sequence, answer)
        };
        Ok(requests.into_iter().zip(tickets).map(number).unzip())
    }

    /// The number of whoever is taken in next: whoever was taken in before has a lesser one.
    pub fn next_arrival(&self) -> u64 {
        self.arrivals.load(Ordering::Relaxed)
    }

    /// What the runner can hold.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The counts of what was taken in.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    fn check(&self, request: &EngineRequest) -> Result<(), SubmitError> {
        let invalid = |why: String| Err(SubmitError::Invalid(why));
        if let Err(error) = request.sampling.validate(self.limits.vocab_size) {
            return invalid(error.to_string());
        }
        let rows = request.prompt_rows();
        if rows == 0 {
            return invalid("the prompt is empty".into());
        }
        if request.soft_at > request.prompt.len() {
            return invalid("soft_at is behind the prompt's end".into());
        }
        if request.max_tokens == 0 {
            return invalid("max_tokens must be at least 1".into());
        }
        let vocab_size = self.limits.vocab_size;
        if let Some(id) = request
            .prompt
            .greatest()
            .filter(|id| *id as usize >= vocab_size)
        {
            return invalid(format!("token id {id} is not in 0..{vocab_size}"));
        }
        // The last token is sent and never computed.
        let needed = rows.saturating_add(request.max_tokens - 1);
        if needed > self.limits.kv_rows {
            return invalid(format!(
                "prompt and max_tokens need {needed} rows and the KV cache holds {}: ask for \
                 fewer tokens, or give the server more KV memory",
                self.limits.kv_rows
            ));
        }
        Ok(())
    }
}
