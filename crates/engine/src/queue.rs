//! The sequences that wait, and which of them is next.
//!
//! They are kept by arrival. Two orders decide who is next, and fairness is the upper one:
//!
//! 1. *Whose turn it is.* First is whoever's payer was served least ([`super::fairness`]).
//! 2. *Which prompt.* A shorter one ([`Turn`]) goes before it if its payer is level: not further ahead than
//!    the patience ([`super::fairness::PATIENCE`]) of whoever was served least. All sequences of one payer are
//!    level, so among them this order alone decides.
//!
//! So a payer gains no more by short prompts than the patience, and a prompt is passed by no more rows of later ones
//! than it has itself: with each of them its turn comes nearer.
//!
//! A sequence that ran before was put back to be recomputed; it keeps its place in front of those that never ran,
//! until its payer is too far ahead of theirs.

use std::collections::vec_deque::{self, VecDeque};
use std::collections::HashSet;

use super::fairness::{Fairness, PREFILL_WEIGHT};
use super::request::Payer;
use super::sequence::{Sequence, Turn};

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

    /// `rows` rows of a prompt begin that came as the `arrival`th: those that came before it were passed by.
    pub fn pass_by(&mut self, arrival: u64, rows: usize) {
        let before = self.waiting.partition_point(|s| s.arrival() < arrival);
        for sequence in self.waiting.iter_mut().take(before) {
            sequence.was_passed_by(rows);
        }
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

    /// The next one of those that can run and `may`.
    pub fn next(&self, may: impl Fn(&Sequence) -> bool) -> Option<Turn> {
        let ready = self.waiting.iter().filter(|s| is_ready(s) && may(s));
        let (ran, new): (Vec<&Sequence>, Vec<&Sequence>) = ready.partition(|s| s.was_started());
        let next = match (self.least_served(&ran), self.shortest(&new)) {
            (Some(ran), Some(new)) => match self.is_far_ahead(ran, new) {
                true => new,
                false => ran,
            },
            (ran, new) => ran.or(new)?,
        };
        Some(next.turn())
    }

    /// Takes one out. Follow it with [`Self::has_left`] or [`Self::put_back`].
    pub fn take(&mut self, turn: Turn) -> Option<Sequence> {
        let place = self.waiting.partition_point(|s| s.arrival() < turn.arrival);
        self.waiting.remove(place)
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

    /// The first by what payers were served; among equals the one that came first.
    fn least_served<'a>(&self, sequences: &[&'a Sequence]) -> Option<&'a Sequence> {
        let order = |a: &&&Sequence, b: &&&Sequence| {
            let payers = self.fairness.order(&a.request().payer, &b.request().payer);
            payers.then(a.arrival().cmp(&b.arrival()))
        };
        sequences.iter().min_by(order).copied()
    }

    /// The shortest of those whose payers are level; among equals the least served.
    fn shortest<'a>(&self, sequences: &[&'a Sequence]) -> Option<&'a Sequence> {
        let payers = sequences.iter().map(|s| s.request().payer);
        let least = self.fairness.least(payers);
        let level = |s: &&&Sequence| {
            let payer = &s.request().payer;
            self.fairness.is_level(payer, &least, self.patience)
        };
        let level: Vec<&Sequence> = sequences.iter().filter(level).copied().collect();
        let rows = level.iter().map(|s| s.turn().rows).min()?;
        let shortest: Vec<&Sequence> = level
            .into_iter()
            .filter(|s| s.turn().rows == rows)
            .collect();
        self.least_served(&shortest)
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
