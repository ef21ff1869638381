//! Who is next, by tokens served: the virtual token counter of "Fairness in Serving Large Language Models"
//! (Sheng et al., OSDI 2024), on two levels. Groups share the engine evenly, and the members of a group share
//! what the group gets.
//!
//! Each payer has a counter of the tokens that were computed for it, weighted. Whoever waits with the least
//! counter is next. A payer that begins to wait is lifted to the least counter of those that wait already, so
//! that nobody saves up time in which they asked for nothing.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use super::admission::Caps;
use super::request::Payer;

/// What a prompt row counts that was computed.
pub const PREFILL_WEIGHT: u64 = 1;

/// What a token of an answer counts: a step gives one, and reads all weights for it.
pub const DECODE_WEIGHT: u64 = 2;

/// So far ahead of whoever waits may a payer get before one of its sequences gives its place up. Below it, what
/// runs goes on: recomputing costs more than it rights.
pub const PATIENCE: u64 = 1024;

/// How the engine is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    /// What one payer may have in it.
    pub caps: Caps,
    /// How far a payer may get ahead of whoever waits, see [`PATIENCE`].
    pub patience: u64,
}

impl Default for Sharing {
    fn default() -> Self {
        Self {
            caps: Caps::default(),
            patience: PATIENCE,
        }
    }
}

/// Counters below this many are not worth a search for those that can go.
const FEW: usize = 1024;

/// Tokens served to each payer, weighted.
#[derive(Debug, Default)]
pub struct Fairness {
    groups: Counters<u64>,
    members: Counters<(u64, Option<u64>)>,
    /// Counters that there were after the last search for those that can go.
    kept: usize,
}

/// The least that was served, of some payers: to a group, and in each group to a member.
#[derive(Debug, Default)]
pub struct Least {
    group: Option<u64>,
    members: HashMap<u64, u64>,
}

/// The counters of one level.
#[derive(Debug)]
struct Counters<K> {
    served: HashMap<K, u64>,
    /// Where a payer begins that finds nobody waiting, by `scope`: the counter of the one that left the queue
    /// last. Groups have one scope; members have their group.
    last: HashMap<u64, (K, u64)>,
}

impl<K> Default for Counters<K> {
    fn default() -> Self {
        Self {
            served: HashMap::new(),
            last: HashMap::new(),
        }
    }
}

impl Fairness {
    /// `payer` begins to wait, with none of its sequences waiting before; `waiting` are the payers that wait.
    pub fn lift(&mut self, payer: &Payer, waiting: impl Iterator<Item = Payer>) {
        let (mut groups, mut members) = (None, None);
        let (mut group_waits, mut member_waits) = (false, false);
        for other in waiting {
            group_waits |= other.group == payer.group;
            member_waits |= other.seat() == payer.seat();
            lower(&mut groups, self.groups.of(&other.group));
            if other.group == payer.group {
                lower(&mut members, self.members.of(&other.seat()));
            }
        }
        if !group_waits {
            self.groups.lift(payer.group, 0, groups);
        }
        if !member_waits {
            self.members.lift(payer.seat(), payer.group, members);
        }
    }

    /// `payer` left the queue, and nobody of its group (`group_empty`), or nobody at all (`empty`), waits now.
    pub fn leave(&mut self, payer: &Payer, group_empty: bool, empty: bool) {
        if empty {
            self.groups.leave(payer.group, 0);
        }
        if group_empty {
            self.members.leave(payer.seat(), payer.group);
        }
    }

    /// Counts `tokens` that were computed for `payer`, weighted.
    pub fn charge(&mut self, payer: &Payer, tokens: u64) {
        self.groups.charge(payer.group, 0, tokens);
        self.members.charge(payer.seat(), payer.group, tokens);
    }

    /// Whose turn is first: that of the group that was served less, then of the member.
    pub fn order(&self, a: &Payer, b: &Payer) -> Ordering {
        let rank = |p: &Payer| {
            (
                self.groups.of(&p.group),
                p.group,
                self.members.of(&p.seat()),
            )
        };
        // Groups that were served alike are told apart by arrival, so that neither is always first.
        match a.group == b.group {
            true => rank(a).cmp(&rank(b)),
            false => rank(a).0.cmp(&rank(b).0),
        }
    }

    /// What those of `payers` were served that were served least.
    pub fn least(&self, payers: impl Iterator<Item = Payer>) -> Least {
        let mut least = Least::default();
        for payer in payers {
            lower(&mut least.group, self.groups.of(&payer.group));
            let member = self.members.of(&payer.seat());
            let of_group = least.members.entry(payer.group).or_insert(member);
            *of_group = member.min(*of_group);
        }
        least
    }

    /// Whether `payer` was served no more than `by` beyond the least served group, and beyond the least served of
    /// its own.
    pub fn is_level(&self, payer: &Payer, least: &Least, by: u64) -> bool {
        let of_group = least.members.get(&payer.group).copied().unwrap_or(0);
        let group = self
            .groups
            .of(&payer.group)
            .saturating_sub(least.group.unwrap_or(0));
        let member = self.members.of(&payer.seat()).saturating_sub(of_group);
        group <= by && member <= by
    }

    /// How much more `a` was served than `b`, in the level at which they part. 0 within one payer.
    pub fn ahead(&self, a: &Payer, b: &Payer) -> u64 {
        match a.group == b.group {
            true => {
                let of = |p: &Payer| self.members.of(&p.seat());
                of(a).saturating_sub(of(b))
            }
            false => {
                let of = |p: &Payer| self.groups.of(&p.group);
                of(a).saturating_sub(of(b))
            }
        }
    }

    /// Whether there are so many counters that [`Self::forget`] is worth its time.
    pub fn is_large(&self) -> bool {
        self.members.served.len() > FEW.max(2 * self.kept)
    }

    /// Drops the counters of payers that are not `present` and would begin where they are, or further. Beyond
    /// `FEW`, those of all that are not present: somebody makes up names.
    pub fn forget(&mut self, present: &HashSet<Payer>) {
        let groups: HashSet<u64> = present.iter().map(|p| p.group).collect();
        let keys: HashSet<_> = present.iter().map(Payer::seat).collect();
        self.members.forget(|k| keys.contains(k), |k| k.0);
        self.groups.forget(|k| groups.contains(k), |_| 0);
        let alive = &self.groups.served;
        self.members
            .last
            .retain(|group, _| alive.contains_key(group));
        self.kept = self.members.served.len();
    }
}

impl<K: Copy + Eq + std::hash::Hash> Counters<K> {
    fn of(&self, key: &K) -> u64 {
        self.served.get(key).copied().unwrap_or(0)
    }

    fn lift(&mut self, key: K, scope: u64, least: Option<u64>) {
        let level = least.or_else(|| self.last.get(&scope).map(|(_, served)| *served));
        let served = self.served.entry(key).or_default();
        *served = (*served).max(level.unwrap_or(0));
    }

    fn leave(&mut self, key: K, scope: u64) {
        self.last.insert(scope, (key, self.of(&key)));
    }

    fn charge(&mut self, key: K, scope: u64, tokens: u64) {
        let served = self.served.entry(key).or_default();
        *served = served.saturating_add(tokens);
        if let Some((last, level)) = self.last.get_mut(&scope) {
            if *last == key {
                *level = *served;
            }
        }
    }

    fn forget(&mut self, present: impl Fn(&K) -> bool, scope: impl Fn(&K) -> u64) {
        let last = &self.last;
        let level = |key: &K| last.get(&scope(key)).map_or(0, |(_, served)| *served);
        self.served
            .retain(|key, served| present(key) || *served > level(key));
        if self.served.len() > FEW {
            self.served.retain(|key, _| present(key));
        }
    }
}

fn lower(least: &mut Option<u64>, value: u64) {
    *least = Some(least.map_or(value, |least| least.min(value)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payer(group: u64, member: u64) -> Payer {
        Payer {
            group,
            member: Some(member),
            ..Payer::default()
        }
    }

    #[test]
    fn whoever_was_served_less_is_first_by_group_then_by_member() {
        let mut fairness = Fairness::default();
        let (a, b, c) = (payer(1, 1), payer(1, 2), payer(2, 1));
        fairness.charge(&a, 10);
        assert_eq!(fairness.order(&b, &a), Ordering::Less);
        assert_eq!(
            fairness.order(&c, &b),
            Ordering::Less,
            "its group has nothing"
        );
        fairness.charge(&c, 10);
        assert_eq!(fairness.order(&c, &b), Ordering::Equal, "arrival decides");
        fairness.charge(&c, 1);
        assert_eq!(fairness.order(&b, &c), Ordering::Less);
        assert_eq!((fairness.ahead(&a, &b), fairness.ahead(&b, &a)), (10, 0));
        assert_eq!((fairness.ahead(&c, &b), fairness.ahead(&a, &a)), (1, 0));
    }

    #[test]
    fn level_is_whoever_is_near_the_least_served_group_and_member() {
        let mut fairness = Fairness::default();
        let (a, b, c) = (payer(1, 1), payer(1, 2), payer(2, 1));
        fairness.charge(&a, 10);
        fairness.charge(&c, 4);
        let least = fairness.least([a, b, c].into_iter());
        let level = |payer, by| fairness.is_level(payer, &least, by);
        // Groups have 10 and 4; the first one's members 10 and 0.
        assert!(level(&c, 0));
        assert!(!level(&b, 5) && level(&b, 6), "least of its group");
        assert!(!level(&a, 9) && level(&a, 10));
    }

    #[test]
    fn a_newcomer_begins_at_the_least_of_those_who_wait() {
        let mut fairness = Fairness::default();
        let (a, b, new) = (payer(1, 1), payer(1, 2), payer(1, 3));
        fairness.charge(&a, 100);
        fairness.charge(&b, 70);
        fairness.lift(&new, [a, b].into_iter());
        assert_eq!(fairness.ahead(&a, &new), 30);
        assert_eq!(fairness.ahead(&b, &new), 0);
        // Lifting never lowers, and does nothing to whoever waits already.
        fairness.charge(&new, 500);
        fairness.lift(&new, [a, b].into_iter());
        assert_eq!(fairness.ahead(&new, &b), 500);
        fairness.lift(&b, [a, b].into_iter());
        assert_eq!(fairness.ahead(&new, &b), 500);
    }

    #[test]
    fn who_finds_nobody_waiting_begins_where_the_last_one_is_now() {
        let mut fairness = Fairness::default();
        let (heavy, new) = (payer(1, 1), payer(2, 2));
        fairness.lift(&heavy, std::iter::empty());
        fairness.leave(&heavy, true, true);
        fairness.charge(&heavy, 5000);
        fairness.lift(&new, std::iter::empty());
        assert_eq!(fairness.ahead(&heavy, &new), 0, "no credit for time away");
    }

    #[test]
    fn counters_are_bounded_and_debts_are_kept_while_there_is_room() {
        let mut fairness = Fairness::default();
        let indebted = payer(0, 0);
        fairness.charge(&indebted, 1_000_000);
        for i in 1..=FEW as u64 {
            let passing = payer(0, i);
            fairness.lift(&passing, std::iter::empty());
            fairness.charge(&passing, 1);
            fairness.leave(&passing, true, true);
        }
        assert!(fairness.is_large());
        fairness.forget(&HashSet::new());
        assert_eq!(fairness.members.served.len(), 1);
        assert_eq!(fairness.members.of(&indebted.seat()), 1_000_000);
        for i in 0..2 * FEW as u64 {
            fairness.charge(&payer(i, i), 2_000_000);
        }
        fairness.forget(&HashSet::from([payer(7, 7)]));
        assert_eq!(fairness.members.served.len(), 1, "present, and no other");
        assert!(fairness.groups.served.len() <= FEW);
    }
}
