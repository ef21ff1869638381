//! Places, caps and deadlines.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::admitted::{Admitted, Reservation, Work};
use super::forecast::{self, Load, Waiting};
use super::rates::{Pass, Rates};
use super::{Bounds, Counts, Progress};
use crate::metrics;
use crate::request::{EngineRequest, Payer, SubmitError, Whose};

/// Counts what waits and what runs. Checked and reserved in short critical sections, so a request is refused
/// before anything of it is built.
#[derive(Debug)]
pub struct Admission {
    bounds: Bounds,
    admitted: Mutex<Admitted>,
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
            admitted: Mutex::default(),
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
        let mut admitted = self.lock();
        if let Some((whose, cap, count)) = self.cap_in_the_way(&admitted, payer, answers) {
            let seconds = admitted.seconds_of_an_answer() / count.max(1) as f64;
            let retry_after = admitted.retry(seconds);
            metrics::refused(whose.as_str());
            return Err(SubmitError::Capped {
                whose,
                cap,
                retry_after,
            });
        }
        if admitted.running + admitted.waiting.len() + answers > self.places() {
            return Err(self.full(&mut admitted, "places"));
        }
        let ticket = |_| Ticket {
            admission: Arc::clone(self),
            number: admitted.add(payer),
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
        let mut admitted = self.lock();
        let work: Vec<Work> = requests.iter().map(|r| admitted.work_of(r)).collect();
        if self.too_many_rows(&admitted, &work) {
            return Err(self.full(&mut admitted, "tokens"));
        }
        let limit = requests.iter().filter_map(|r| r.limits.answer).min();
        if let (Some(limit), Some(first)) = (limit, tickets.first()) {
            let late_by = self.late_by(&admitted, &first.payer, &work, limit.as_secs_f64());
            if let Some(seconds) = late_by {
                metrics::refused("deadline");
                let retry_after = admitted.retry(seconds);
                return Err(SubmitError::Late { retry_after });
            }
        }
        for (ticket, work) in tickets.iter().zip(work) {
            if let Some(place) = admitted.waiting.get_mut(&ticket.number) {
                place.work = Some(work);
            }
        }
        Ok(())
    }

    /// Remembers how long a step took, and how much the running sequences still want. `fits` is how many they are,
    /// where there was no room for another one. Returns what was measured up to now.
    pub fn record<'a>(
        &self,
        pass: &Pass,
        under_way: impl Iterator<Item = Progress<'a>>,
        fits: Option<usize>,
    ) -> Rates {
        let mut admitted = self.lock();
        admitted.rates.record(pass);
        admitted.fits = fits.filter(|_| pass.prefill_rows + pass.decodes > 0);
        let mut left = Work::default();
        for each in under_way {
            // The last of these rows gives a token.
            left.rows += each.pending.saturating_sub(1);
            left.tokens += admitted.lengths.left(each.request, each.made);
        }
        admitted.left = left;
        admitted.rates.clone()
    }

    /// What is taken in now.
    pub fn counts(&self) -> Counts {
        let admitted = self.lock();
        let known = admitted.waiting.values().filter_map(|place| place.work);
        let rows: Vec<usize> = known.map(|work| work.rows).collect();
        Counts {
            waiting: admitted.waiting.len(),
            held: admitted.waiting.len() - rows.len(),
            waiting_rows: rows.iter().sum(),
            running: admitted.running,
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
                "{answers} answers are more than the engine takes at a time ({most} {whom}): ask for fewer"
            )));
        }
        Ok(())
    }

    /// The cap that `answers` more would break, and how many its payer has.
    fn cap_in_the_way(
        &self,
        admitted: &Admitted,
        payer: &Payer,
        answers: usize,
    ) -> Option<(Whose, usize, usize)> {
        let caps = self.bounds.caps;
        let has = |count: Option<&usize>| count.copied().unwrap_or(0);
        let of_key = payer.key.map(|key| has(admitted.by_key.get(&key)));
        let of_member = payer.named().map(|m| has(admitted.by_member.get(&m)));
        let broken = |whose, cap: Option<usize>, count: Option<usize>| {
            let (cap, count) = (cap?, count?);
            (count + answers > cap).then_some((whose, cap, count))
        };
        broken(Whose::Member, caps.per_member, of_member)
            .or_else(|| broken(Whose::Key, caps.per_key, of_key))
    }

    fn full(&self, admitted: &mut Admitted, reason: &'static str) -> SubmitError {
        metrics::refused(reason);
        let together = self.together(admitted);
        let empty =
            forecast::until_empty(&self.load(admitted, 0), &admitted.waiting_seconds(together));
        // Half of them: whoever comes when the queue is empty has let the engine idle.
        let retry_after = admitted.retry(empty / 2.0);
        SubmitError::Full { retry_after }
    }

    fn too_many_rows(&self, admitted: &Admitted, new: &[Work]) -> bool {
        let open = self.bounds.max_running.saturating_sub(admitted.running);
        let known = || admitted.waiting.values().filter_map(|place| place.work);
        let behind = known().chain(new.iter().copied()).skip(open);
        let someone_waits = known().count() > open;
        let rows = behind.fold(0usize, |sum, work| sum.saturating_add(work.rows));
        someone_waits && rows > self.bounds.max_queued_tokens
    }

    /// By how many seconds answers of `work` would miss a deadline in `limit` seconds. `None` if they
    /// would not, or if nothing is in front of them.
    fn late_by(
        &self,
        admitted: &Admitted,
        payer: &Payer,
        work: &[Work],
        limit: f64,
    ) -> Option<f64> {
        let together = self.together(admitted).max(work.len());
        let waiting = admitted.waiting_seconds(together);
        let all = admitted.seconds(&Work::sum(work), together);
        let own = Waiting {
            payer: *payer,
            prefill: all.0,
            decode: all.1,
        };
        let start = forecast::until_start(&self.load(admitted, work.len()), &waiting, &own);
        let longest = work.iter().map(|w| w.tokens).max().unwrap_or(0);
        let end = start + own.prefill + longest as f64 * admitted.rates.step(together);
        (start > 0.0 && end > limit).then_some(end - limit)
    }

    /// The engine's state when `more` sequences have joined those that wait.
    fn load(&self, admitted: &Admitted, more: usize) -> Load {
        let slots = self.slots(admitted);
        let (prefill, decode) = admitted.seconds(&admitted.left, self.together(admitted));
        let known = admitted
            .waiting
            .values()
            .filter(|p| p.work.is_some())
            .count();
        Load {
            running: prefill + decode,
            slots,
            has_open_slot: admitted.running + known + more <= slots,
        }
    }

    /// How many sequences can run side by side.
    fn slots(&self, admitted: &Admitted) -> usize {
        let most = self.bounds.max_running.max(1);
        admitted.fits.map_or(most, |fits| fits.clamp(1, most))
    }

    /// How many run side by side while what is there is worked off.
    fn together(&self, admitted: &Admitted) -> usize {
        let there = admitted.running + admitted.waiting.len();
        there.clamp(1, self.slots(admitted))
    }

    fn lock(&self) -> MutexGuard<'_, Admitted> {
        // No code panics under this lock; a poisoned count is as good as any.
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The sequence runs: it no longer waits. Of its `rows` rows the prefix cache had `cached`.
    pub fn run(&mut self, rows: usize, cached: usize) {
        if !self.runs {
            self.runs = true;
            let mut admitted = self.admission.lock();
            admitted.waiting.remove(&self.number);
            admitted.running += 1;
            admitted.rates.record_prompt(rows, cached);
        }
    }

    /// The sequence was put back to its place in the queue, with so many `rows` to compute and `made` tokens.
    pub fn wait_again(&mut self, request: &EngineRequest, rows: usize, made: usize) {
        if self.runs {
            self.runs = false;
            let mut admitted = self.admission.lock();
            let tokens = admitted.lengths.left(request, made);
            let place = Reservation {
                payer: self.payer,
                work: Some(Work { rows, tokens }),
            };
            admitted.waiting.insert(self.number, place);
            admitted.running -= 1;
        }
    }

    /// The answer to `request` has ended with `made` tokens.
    pub fn ended(&self, request: &EngineRequest, made: usize) {
        self.admission.lock().lengths.record(request, made);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut admitted = self.admission.lock();
        if self.runs {
            admitted.running -= 1;
        } else {
            admitted.waiting.remove(&self.number);
        }
        admitted.give_back(&self.payer);
    }
}

#[cfg(test)]
pub(super) mod tests;
