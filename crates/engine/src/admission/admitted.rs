//! What [`super::door`] knows, under one lock.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use super::forecast::Waiting;
use super::lengths::Lengths;
use super::rates::Rates;
use crate::request::{EngineRequest, Payer};

/// The longest time after which a refused client is told to come again: OpenAI's clients take no longer one
/// seriously.
pub const MAX_RETRY: Duration = Duration::from_secs(60);

/// Who waits, what runs, and what was measured.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// The sequences that wait, in the order in which they came.
    pub(super) waiting: BTreeMap<u64, Reservation>,
    pub(super) next: u64,
    pub(super) running: usize,
    /// Sequences of each key and of each named member.
    pub(super) by_key: HashMap<u64, usize>,
    pub(super) by_member: HashMap<(u64, u64), usize>,
    pub(super) rates: Rates,
    pub(super) lengths: Lengths,
    /// Rows and tokens that the running sequences still want, as of the last step.
    pub(super) left: Work,
    /// How many sequences fit side by side, where blocks ran out before slots did.
    pub(super) fits: Option<usize>,
    /// Refusals so far: what spreads the times of retries.
    pub(super) refused: u32,
}

/// That of a sequence that waits.
#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) payer: Payer,
    /// `None` until the prompt is known.
    pub(super) work: Option<Work>,
}

/// What a sequence wants of the engine.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work {
    /// Rows to compute before the next token.
    pub(super) rows: usize,
    /// Tokens that are expected from then on.
    pub(super) tokens: usize,
}

impl Work {
    /// That of several sequences.
    pub(super) fn sum(work: &[Self]) -> Self {
        let add = |sum: Self, one: &Self| Self {
            rows: sum.rows.saturating_add(one.rows),
            tokens: sum.tokens.saturating_add(one.tokens),
        };
        work.iter().fold(Self::default(), add)
    }
}

impl Admitted {
    /// Keeps a reservation; returns its number.
    pub(super) fn add(&mut self, payer: &Payer) -> u64 {
        self.next += 1;
        let reservation = Reservation {
            payer: *payer,
            work: None,
        };
        self.waiting.insert(self.next, reservation);
        if let Some(key) = payer.key {
            *self.by_key.entry(key).or_default() += 1;
        }
        if let Some(member) = payer.named() {
            *self.by_member.entry(member).or_default() += 1;
        }
        self.next
    }

    /// A sequence of `payer` has given its reservation back.
    pub(super) fn give_back(&mut self, payer: &Payer) {
        if let Some(key) = payer.key {
            take_one(&mut self.by_key, key);
        }
        if let Some(member) = payer.named() {
            take_one(&mut self.by_member, member);
        }
    }

    /// What `request` wants.
    pub(super) fn work_of(&self, request: &EngineRequest) -> Work {
        Work {
            rows: request.prompt_rows(),
            tokens: self.lengths.expected(request),
        }
    }

    /// Seconds that the prompt and the answer of `work` take.
    pub(super) fn seconds(&self, work: &Work, together: usize) -> (f64, f64) {
        let decode = self.rates.decode(work.tokens, together);
        (self.rates.prefill(work.rows), decode)
    }

    /// What each sequence that waits takes, if `together` run side by side.
    pub(super) fn waiting_seconds(&self, together: usize) -> Vec<Waiting> {
        let known = self.waiting.values();
        let known = known.filter_map(|reservation| Some((reservation.payer, reservation.work?)));
        let seconds = known.map(|(payer, work)| {
            let (prefill, decode) = self.seconds(&work, together);
            Waiting {
                payer,
                prefill,
                decode,
            }
        });
        seconds.collect()
    }

    /// How long an answer takes, as things are now.
    pub(super) fn seconds_of_an_answer(&self) -> f64 {
        let together = self.running.max(1);
        self.lengths.usual() as f64 * self.rates.step(together)
    }

    /// `seconds` from now, a quarter sooner or later so that not all come back together: whole seconds, from 1 to
    /// [`MAX_RETRY`].
    pub(super) fn retry(&mut self, seconds: f64) -> Duration {
        self.refused = self.refused.wrapping_add(1);
        // Multiples of the golden ratio are spread evenly, however many there are.
        let spread = (f64::from(self.refused) * 0.618_033_988_749_895).fract();
        let most = MAX_RETRY.as_secs_f64();
        // Before the spread, or whoever would wait longer would come back with all the others.
        let middle = seconds.clamp(0.0, most / 1.25);
        let seconds = (middle * (0.75 + 0.5 * spread)).ceil();
        // A number that is none is not between the two.
        let seconds = if seconds > 1.0 {
            seconds.min(most)
        } else {
            1.0
        };
        Duration::from_secs(seconds as u64)
    }
}

fn take_one<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}
