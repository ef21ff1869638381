//! When a newcomer would be through, if what waits now is served fairly and nobody else came.
//!
//! ```text
//!   start = work in front of it + what the running ones keep a slot for
//!   end   = start + its own prompt + its own tokens, one per step
//! ```
//!
//! Work in front of it is not all that waits. Payers take turns, so that another one's work counts up to as much as
//! the newcomer's own payer has waiting, the newcomer included: a light user is not refused for what a heavy one
//! has queued. Within one payer it is first come, first served.

use std::collections::HashMap;

use crate::request::Payer;

/// The state of the engine, in seconds of its time.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// What the running sequences still take.
    pub running: f64,
    /// How many run side by side.
    pub slots: usize,
    /// Whether some of these are free, also after all that wait have theirs.
    pub has_open_slot: bool,
}

/// What one waiting sequence takes, in seconds of the engine's time.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// Who pays for it.
    pub payer: Payer,
    /// Its prompt.
    pub prefill: f64,
    /// Its answer.
    pub decode: f64,
}

/// Seconds until a request of `own` (its sequences together) runs.
pub fn until_start(load: &Load, waiting: &[Waiting], own: &Waiting) -> f64 {
    if load.has_open_slot {
        // It is decoded beside the others from the start; only prompts stand in front of it.
        return in_front(waiting, own, |w| w.prefill);
    }
    let next_slot = load.running / load.slots.max(1) as f64;
    next_slot + in_front(waiting, own, |w| w.prefill + w.decode)
}

/// Seconds until all that wait now have run.
pub fn until_empty(load: &Load, waiting: &[Waiting]) -> f64 {
    let all: f64 = waiting.iter().map(|w| w.prefill + w.decode).sum();
    all + load.running / load.slots.max(1) as f64
}

fn in_front(waiting: &[Waiting], own: &Waiting, work: impl Fn(&Waiting) -> f64) -> f64 {
    let mut members: HashMap<_, f64> = HashMap::new();
    for each in waiting.iter().chain([own]) {
        *members.entry(each.payer.seat()).or_default() += work(each);
    }
    let of_member = members[&own.payer.seat()];
    let mut groups: HashMap<u64, f64> = HashMap::new();
    for ((group, _), seconds) in members {
        // Within the own group, members take turns until the own one is through.
        let counted = match group == own.payer.group {
            true => seconds.min(of_member),
            false => seconds,
        };
        *groups.entry(group).or_default() += counted;
    }
    let of_group = groups[&own.payer.group];
    let until_end: f64 = groups.values().map(|seconds| seconds.min(of_group)).sum();
    (until_end - work(own)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(group: u64, member: u64, seconds: f64) -> Waiting {
        let payer = Payer {
            group,
            member: Some(member),
            ..Payer::default()
        };
        Waiting {
            payer,
            prefill: seconds / 4.0,
            decode: seconds * 3.0 / 4.0,
        }
    }

    const FULL: Load = Load {
        running: 8.0,
        slots: 4,
        has_open_slot: false,
    };

    #[test]
    fn within_one_payer_all_that_waits_is_in_front() {
        let queue = [waiting(0, 0, 10.0), waiting(0, 0, 20.0)];
        let own = waiting(0, 0, 1.0);
        assert_eq!(until_start(&FULL, &queue, &own), 8.0 / 4.0 + 30.0);
        assert_eq!(until_start(&FULL, &[], &own), 2.0);
        let open = Load {
            has_open_slot: true,
            ..FULL
        };
        assert_eq!(until_start(&open, &queue, &own), 30.0 / 4.0, "prompts only");
        assert_eq!(until_start(&open, &[], &own), 0.0);
        assert_eq!(until_empty(&FULL, &queue), 32.0);
    }

    #[test]
    fn a_light_payer_waits_for_its_share_of_a_heavy_one() {
        let heavy: Vec<Waiting> = (0..100).map(|_| waiting(0, 7, 10.0)).collect();
        let idle = Load {
            running: 0.0,
            ..FULL
        };
        let light = waiting(0, 8, 3.0);
        assert_eq!(until_start(&idle, &heavy, &light), 3.0, "turn by turn");
        let stranger = waiting(1, 8, 3.0);
        assert_eq!(until_start(&idle, &heavy, &stranger), 3.0);
        let one_more = waiting(0, 7, 3.0);
        assert_eq!(until_start(&idle, &heavy, &one_more), 1000.0);
        // A crowd of members counts as their group does for somebody of another group.
        let crowd: Vec<Waiting> = (0..100).map(|i| waiting(0, i, 10.0)).collect();
        assert_eq!(until_start(&idle, &crowd, &stranger), 3.0);
        assert_eq!(until_start(&idle, &crowd, &waiting(0, 200, 3.0)), 300.0);
    }
}
