//! Places, caps and deadlines.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::forecast::{self, Load, Waiting};
use super::lengths::Lengths;
use super::rates::{Pass, Rates};
use super::{Bounds, Counts, Progress};
use crate::engine::metrics;
use crate::engine::request::{EngineRequest, Payer, SubmitError, Whose};

/// The longest time after which a refused client is told to come again: OpenAI's clients take no longer one
/// seriously.
pub const MAX_RETRY: Duration = Duration::from_secs(60);

/// Counts what waits and what runs. Checked and reserved in short critical sections, so a request is refused
/// before anything of it is built.
#[derive(Debug)]
pub struct Admission {
    bounds: Bounds,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// The sequences that wait, in the order in which they came.
    waiting: BTreeMap<u64, Place>,
    next: u64,
    running: usize,
    /// Sequences of each key and of each named member.
    by_key: HashMap<u64, usize>,
    by_member: HashMap<(u64, u64), usize>,
    rates: Rates,
    lengths: Lengths,
    /// Rows and tokens that the running sequences still want, as of the last step.
    left: Work,
    /// How many sequences fit side by side, where blocks ran out before slots did.
    fits: Option<usize>,
    /// Refusals so far: what spreads the times of retries.
    refused: u32,
}

#[derive(Debug)]
struct Place {
    payer: Payer,
    /// `None` until the prompt is known.
    work: Option<Work>,
}

/// What a sequence wants of the engine.
#[derive(Debug, Clone, Copy, Default)]
struct Work {
    /// Rows to compute before the next token.
    rows: usize,
    /// Tokens that are expected from then on.
    tokens: usize,
}

/// A place of one sequence; dropping it gives the place back.
#[derive(Debug)]
pub struct Ticket {
    admission: Arc<Admission>,
    number: u64,
    payer: Payer,
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

    /// Reserves places for `answers` sequences of one request: for all, or for none.
    ///
    /// # Errors
    /// `Capped`, `Full`, or `Invalid` for more sequences than there can ever be places.
    pub fn hold(
        self: &Arc<Self>,
        payer: &Payer,
        answers: usize,
    ) -> Result<Vec<Ticket>, SubmitError> {
        self.could_ever_hold(payer, answers)?;
        let mut books = self.lock();
        if let Some((whose, cap, count)) = self.cap_in_the_way(&books, payer, answers) {
            let seconds = books.seconds_of_an_answer() / count.max(1) as f64;
            let retry_after = books.retry(seconds);
            metrics::refused(whose.as_str());
            return Err(SubmitError::Capped {
                whose,
                cap,
                retry_after,
            });
        }
        if books.running + books.waiting.len() + answers > self.places() {
            return Err(self.full(&mut books, "places"));
        }
        let ticket = |_| Ticket {
            admission: Arc::clone(self),
            number: books.add(payer),
            payer: *payer,
            runs: false,
        };
        Ok((0..answers).map(ticket).collect())
    }

    /// Takes in what was held, now that it is known: `requests` belong to `tickets`, one each.
    ///
    /// Whoever has a slot open does not wait, even if the engine has not looked yet: the bound of rows holds for
    /// those behind. A queue that is empty takes any rows, else a prompt longer than `max_queued_tokens` could
    /// never be answered; and it takes answers that are expected to be late, for nobody could be earlier.
    ///
    /// # Errors
    /// `Full`, or `Late`. The places go back with the tickets.
    pub fn enter(&self, tickets: &[Ticket], requests: &[EngineRequest]) -> Result<(), SubmitError> {
        let mut books = self.lock();
        let work: Vec<Work> = requests.iter().map(|r| books.work_of(r)).collect();
        if self.too_many_rows(&books, &work) {
            return Err(self.full(&mut books, "tokens"));
        }
        let limit = requests.iter().filter_map(|r| r.limits.answer).min();
        if let (Some(limit), Some(first)) = (limit, tickets.first()) {
            let late_by = self.late_by(&books, &first.payer, &work, limit.as_secs_f64());
            if let Some(seconds) = late_by {
                metrics::refused("deadline");
                let retry_after = books.retry(seconds);
                return Err(SubmitError::Late { retry_after });
            }
        }
        for (ticket, work) in tickets.iter().zip(work) {
            if let Some(place) = books.waiting.get_mut(&ticket.number) {
                place.work = Some(work);
            }
        }
        Ok(())
    }

    /// Remembers how long a step took, and how much the running sequences still want. `fits` is how many they are,
    /// where there was no room for another one.
    pub fn record<'a>(
        &self,
        pass: &Pass,
        under_way: impl Iterator<Item = Progress<'a>>,
        fits: Option<usize>,
    ) {
        let mut books = self.lock();
        books.rates.record(pass);
        books.fits = fits.filter(|_| pass.prefill_rows + pass.decodes > 0);
        let mut left = Work::default();
        for each in under_way {
            // The last of these rows gives a token.
            left.rows += each.pending.saturating_sub(1);
            left.tokens += books.lengths.left(each.request, each.made);
        }
        books.left = left;
    }

    /// What is taken in now.
    pub fn counts(&self) -> Counts {
        let books = self.lock();
        let known = books.waiting.values().filter_map(|place| place.work);
        let rows: Vec<usize> = known.map(|work| work.rows).collect();
        Counts {
            waiting: books.waiting.len(),
            held: books.waiting.len() - rows.len(),
            waiting_rows: rows.iter().sum(),
            running: books.running,
        }
    }

    fn places(&self) -> usize {
        let Bounds {
            max_running,
            max_queued,
            ..
        } = self.bounds;
        max_running.saturating_add(max_queued)
    }

    fn could_ever_hold(&self, payer: &Payer, answers: usize) -> Result<(), SubmitError> {
        let caps = self.bounds.caps;
        let of_key = caps.per_key.filter(|_| payer.key.is_some());
        let of_member = caps.per_member.filter(|_| payer.member.is_some());
        let (most, whom) = [(of_key, "of one API key"), (of_member, "of one user")]
            .into_iter()
            .filter_map(|(cap, whom)| Some((cap?, whom)))
            .chain([(self.places(), "at most")])
            .min()
            // The places are always among them.
            .unwrap_or((self.places(), "at most"));
        if answers > most {
            return Err(SubmitError::Invalid(format!(
                "{answers} answers at once, and the engine holds {most} {whom}: ask for fewer"
            )));
        }
        Ok(())
    }

    /// The cap that `answers` more would break, and how many its payer has.
    fn cap_in_the_way(
        &self,
        books: &Books,
        payer: &Payer,
        answers: usize,
    ) -> Option<(Whose, usize, usize)> {
        let caps = self.bounds.caps;
        let has = |count: Option<&usize>| count.copied().unwrap_or(0);
        let of_key = payer.key.map(|key| has(books.by_key.get(&key)));
        let of_member = payer.named().map(|m| has(books.by_member.get(&m)));
        let broken = |whose, cap: Option<usize>, count: Option<usize>| {
            let (cap, count) = (cap?, count?);
            (count + answers > cap).then_some((whose, cap, count))
        };
        broken(Whose::Member, caps.per_member, of_member)
            .or_else(|| broken(Whose::Key, caps.per_key, of_key))
    }

    fn full(&self, books: &mut Books, reason: &'static str) -> SubmitError {
        metrics::refused(reason);
        let together = self.together(books);
        let empty = forecast::until_empty(&self.load(books, 0), &books.waiting_seconds(together));
        // Half of them: whoever comes when the queue is empty has let the engine idle.
        let retry_after = books.retry(empty / 2.0);
        SubmitError::Full { retry_after }
    }

    fn too_many_rows(&self, books: &Books, new: &[Work]) -> bool {
        let open = self.bounds.max_running.saturating_sub(books.running);
        let known = || books.waiting.values().filter_map(|place| place.work);
        let behind = known().chain(new.iter().copied()).skip(open);
        let someone_waits = known().count() > open;
        let rows = behind.fold(0usize, |sum, work| sum.saturating_add(work.rows));
        someone_waits && rows > self.bounds.max_queued_tokens
    }

    /// By how many seconds answers of `work` would miss a deadline in `limit` seconds. `None` if they
    /// would not, or if nothing is in front of them.
    fn late_by(&self, books: &Books, payer: &Payer, work: &[Work], limit: f64) -> Option<f64> {
        let together = self.together(books).max(work.len());
        let waiting = books.waiting_seconds(together);
        let all = books.seconds(&sum(work), together);
        let own = Waiting {
            payer: *payer,
            prefill: all.0,
            decode: all.1,
        };
        let start = forecast::until_start(&self.load(books, work.len()), &waiting, &own);
        let longest = work.iter().map(|w| w.tokens).max().unwrap_or(0);
        let end = start + own.prefill + longest as f64 * books.rates.step(together);
        (start > 0.0 && end > limit).then_some(end - limit)
    }

    /// The engine's state when `more` sequences have joined those that wait.
    fn load(&self, books: &Books, more: usize) -> Load {
        let slots = self.slots(books);
        let (prefill, decode) = books.seconds(&books.left, self.together(books));
        let known = books.waiting.values().filter(|p| p.work.is_some()).count();
        Load {
            running: prefill + decode,
            slots,
            has_open_slot: books.running + known + more <= slots,
        }
    }

    /// How many sequences can run side by side.
    fn slots(&self, books: &Books) -> usize {
        let most = self.bounds.max_running.max(1);
        books.fits.map_or(most, |fits| fits.clamp(1, most))
    }

    /// How many run side by side while what is there is worked off.
    fn together(&self, books: &Books) -> usize {
        let there = books.running + books.waiting.len();
        there.clamp(1, self.slots(books))
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // No code panics under this lock; a poisoned count is as good as any.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn add(&mut self, payer: &Payer) -> u64 {
        self.next += 1;
        let place = Place {
            payer: *payer,
            work: None,
        };
        self.waiting.insert(self.next, place);
        if let Some(key) = payer.key {
            *self.by_key.entry(key).or_default() += 1;
        }
        if let Some(member) = payer.named() {
            *self.by_member.entry(member).or_default() += 1;
        }
        self.next
    }

    fn work_of(&self, request: &EngineRequest) -> Work {
        Work {
            rows: request.prompt_rows(),
            tokens: self.lengths.expected(request),
        }
    }

    /// Seconds that the prompt and the answer of `work` take.
    fn seconds(&self, work: &Work, together: usize) -> (f64, f64) {
        let decode = self.rates.decode(work.tokens, together);
        (self.rates.prefill(work.rows), decode)
    }

    fn waiting_seconds(&self, together: usize) -> Vec<Waiting> {
        let known = self.waiting.values();
        let known = known.filter_map(|place| Some((place.payer, place.work?)));
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

    fn seconds_of_an_answer(&self) -> f64 {
        let together = self.running.max(1);
        self.lengths.usual() as f64 * self.rates.step(together)
    }

    /// `seconds` from now, a quarter sooner or later so that not all come back together: whole seconds, from 1 to
    /// [`MAX_RETRY`].
    fn retry(&mut self, seconds: f64) -> Duration {
        self.refused = self.refused.wrapping_add(1);
        // Multiples of the golden ratio are spread evenly, however many there are.
        let spread = (f64::from(self.refused) * 0.618_033_988_749_895).fract();
        let seconds = (seconds * (0.75 + 0.5 * spread)).ceil();
        let most = MAX_RETRY.as_secs_f64();
        // A number that is none is not between the two.
        let seconds = if seconds > 1.0 {
            seconds.min(most)
        } else {
            1.0
        };
        Duration::from_secs(seconds as u64)
    }
}

impl Ticket {
    /// The sequence runs: it no longer waits. Of its `rows` rows the prefix cache had `cached`.
    pub fn run(&mut self, rows: usize, cached: usize) {
        if !self.runs {
            self.runs = true;
            let mut books = self.admission.lock();
            books.waiting.remove(&self.number);
            books.running += 1;
            books.rates.record_prompt(rows, cached);
        }
    }

    /// The sequence was put back to its place in the queue, with so many `rows` to compute and `made` tokens.
    pub fn wait_again(&mut self, request: &EngineRequest, rows: usize, made: usize) {
        if self.runs {
            self.runs = false;
            let mut books = self.admission.lock();
            let tokens = books.lengths.left(request, made);
            let place = Place {
                payer: self.payer,
                work: Some(Work { rows, tokens }),
            };
            books.waiting.insert(self.number, place);
            books.running -= 1;
        }
    }

    /// The answer to `request` has ended with `made` tokens.
    pub fn ended(&self, request: &EngineRequest, made: usize) {
        self.admission.lock().lengths.record(request, made);
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
        if let Some(key) = self.payer.key {
            take_one(&mut books.by_key, key);
        }
        if let Some(member) = self.payer.named() {
            take_one(&mut books.by_member, member);
        }
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

fn sum(work: &[Work]) -> Work {
    let add = |sum: Work, one: &Work| Work {
        rows: sum.rows.saturating_add(one.rows),
        tokens: sum.tokens.saturating_add(one.tokens),
    };
    work.iter().fold(Work::default(), add)
}

#[cfg(test)]
pub(super) mod tests;
