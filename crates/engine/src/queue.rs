//! The sequences that wait, and which of them is next.
//!
//! They are kept by arrival. Next is whoever's payer was served least ([`super::fairness`]), and among the
//! sequences of one payer the first that came. A sequence that ran before was put back to be recomputed; it
//! keeps its place in front of those that never ran, until its payer is too far ahead of theirs ([`super::fairness::PATIENCE`]).

use std::collections::vec_deque::{self, VecDeque};
use std::collections::HashSet;

use super::fairness::{Fairness, PREFILL_WEIGHT};
use super::request::Payer;
use super::sequence::Sequence;

/// Waiting sequences and what was served to whom.
#[derive(Debug)]
pub struct Queue {
    /// By arrival; none holds blocks.
    waiting: VecDeque<Sequence>,
    /// Arrivals of those that cannot run now: their readers are slow. They do not count as waiting.
    parked: HashSet<u64>,
    fairness: Fairness,
    patience: u64,
}

impl Queue {
    /// Nobody waits.
    pub fn new(patience: u64) -> Self {
        Self {
            waiting: VecDeque::new(),
            parked: HashSet::new(),
            fairness: Fairness::default(),
            patience,
        }
    }

    /// Takes a sequence in: a new one, or one that has to be recomputed.
    pub fn join(&mut self, sequence: Sequence) {
        if is_ready(&sequence) {
            self.lift(&sequence.request().payer, sequence.arrival());
        } else {
            self.parked.insert(sequence.arrival());
        }
        self.put_back(sequence);
    }

    /// Puts one back that [`Self::take`] gave and that found no room. Nothing has changed.
    pub fn put_back(&mut self, sequence: Sequence) {
        let arrival = sequence.arrival();
        let place = self.waiting.partition_point(|s| s.arrival() < arrival);
        self.waiting.insert(place, sequence);
    }

    /// Looks again at who can run. A payer that comes back after a time in which none of its sequences could
    /// run begins like a new one.
    pub fn look_again(&mut self) {
        let ran = self.waiting.iter().filter(|s| s.was_started());
        let looked: Vec<(u64, Payer, bool)> = ran
            .map(|s| (s.arrival(), s.request().payer, is_ready(s)))
            .collect();
        let mut parked = HashSet::new();
        for (arrival, payer, ready) in looked {
            if !ready {
                parked.insert(arrival);
            } else if self.parked.remove(&arrival) {
                self.lift(&payer, arrival);
            }
        }
        self.parked = parked;
    }

    /// Takes the next one out, if any can run. Follow it with [`Self::has_left`] or [`Self::put_back`].
    pub fn take(&mut self) -> Option<Sequence> {
        let ready = || self.waiting.iter().enumerate().filter(|(_, s)| is_ready(s));
        let first = |ran: bool| {
            let of_kind = ready().filter(|(_, s)| s.was_started() == ran);
            // The first of equals: that which came first.
            of_kind.min_by(|(_, a), (_, b)| {
                let (a, b) = (&a.request().payer, &b.request().payer);
                self.fairness.order(a, b)
            })
        };
        let next = match (first(true), first(false)) {
            (Some(ran), Some(new)) => match self.is_far_ahead(ran.1, new.1) {
                true => new,
                false => ran,
            },
            (ran, new) => ran.or(new)?,
        };
        self.waiting.remove(next.0)
    }

    /// A sequence of `payer` that was taken out runs now.
    pub fn has_left(&mut self, payer: &Payer) {
        let ready = || self.waiting.iter().filter(|s| is_ready(s));
        let empty = ready().next().is_none();
        let group_empty = !ready().any(|s| s.request().payer.group == payer.group);
        self.fairness.leave(payer, group_empty, empty);
    }

    /// Counts `tokens` that are computed for `payer`, weighted.
    pub fn charge(&mut self, payer: &Payer, tokens: u64) {
        self.fairness.charge(payer, tokens);
    }

    /// Who of `running`, by arrival, is preempted when blocks run out: the youngest, unless another payer is too far
    /// ahead of that one's.
    pub fn least_entitled(&self, running: &[Sequence]) -> usize {
        let last = running.len().saturating_sub(1);
        let lead = |s: &Sequence| match self.is_far_ahead(s, &running[last]) {
            true => self.ahead(s, &running[last]),
            false => 0,
        };
        let by_lead = running.iter().enumerate();
        // The last of equals, which is the youngest.
        by_lead
            .max_by_key(|(_, s)| lead(s))
            .map_or(last, |(i, _)| i)
    }

    /// Which of `running`, by arrival, give way to `waiting`: their payers are so far ahead that it is worth
    /// recomputing them. Those of whoever is furthest ahead come first, and of them the youngest.
    pub fn leading(&self, running: &[Sequence], waiting: &Sequence) -> Vec<usize> {
        let leads = |s: &Sequence| {
            let cost = self.patience + s.n_rows() as u64 * PREFILL_WEIGHT;
            self.ahead(s, waiting) > cost
        };
        let mut leading: Vec<usize> = (0..running.len()).filter(|i| leads(&running[*i])).collect();
        leading.sort_by_key(|i| (self.ahead(&running[*i], waiting), *i));
        leading.reverse();
        leading
    }

    fn ahead(&self, one: &Sequence, other: &Sequence) -> u64 {
        let payer = |s: &Sequence| s.request().payer;
        self.fairness.ahead(&payer(one), &payer(other))
    }

    fn is_far_ahead(&self, one: &Sequence, other: &Sequence) -> bool {
        self.ahead(one, other) > self.patience
    }

    /// Takes out those for which `ended` holds. `running` are the others that there are.
    pub fn reap(
        &mut self,
        mut ended: impl FnMut(&Sequence) -> bool,
        running: &[Sequence],
    ) -> Vec<Sequence> {
        let mut gone = Vec::new();
        let mut index = 0;
        while let Some(sequence) = self.waiting.get(index) {
            match ended(sequence) {
                true => gone.extend(self.waiting.remove(index)),
                false => index += 1,
            }
        }
        if self.fairness.is_large() {
            let all = self.waiting.iter().chain(running);
            let present: HashSet<Payer> = all.map(|s| s.request().payer).collect();
            self.fairness.forget(&present);
        }
        gone
    }

    /// By arrival.
    pub fn iter(&self) -> vec_deque::Iter<'_, Sequence> {
        self.waiting.iter()
    }

    /// The same, to be changed.
    pub(super) fn iter_mut(&mut self) -> vec_deque::IterMut<'_, Sequence> {
        self.waiting.iter_mut()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A sequence of `payer`, the `arrival`th, waits from now on.
    fn lift(&mut self, payer: &Payer, arrival: u64) {
        let others = self.waiting.iter();
        let others = others.filter(|s| is_ready(s) && s.arrival() != arrival);
        let others = others.filter(|s| !self.parked.contains(&s.arrival()));
        let payers = others.map(|s| s.request().payer);
        self.fairness.lift(payer, payers);
    }
}

/// Whether it could run if there were room.
fn is_ready(sequence: &Sequence) -> bool {
    !sequence.is_stalled() && !sequence.is_complete()
}
