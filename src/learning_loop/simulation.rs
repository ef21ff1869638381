//! The gate against candidates whose worth is known: how often chance passes it, and how many people must be
//! bought to turn it. Nothing is trained: pairs are drawn.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::gate::Rule;
use attune_train::evaluate::PersonGain;

/// What `attune loop` has where nothing says more.
pub(super) const RULE: Rule = Rule {
    margin: 0.02,
    chance: 0.05,
    coalition: 0.1,
    max_losers: 0.2,
    min_people: 10,
    min_test_pairs: 20,
};

const TURNS: usize = 50;

/// What the loop had before: the mean over pairs, on 20 or more.
fn old_rule(gains: &[PersonGain]) -> bool {
    let pairs: usize = gains.iter().map(|person| person.pairs).sum();
    let gained: f64 = gains.iter().map(|person| person.sum).sum();
    pairs >= 20 && gained / pairs as f64 >= 0.02
}

/// People with pairs set aside, and two versions on them.
#[derive(Debug, Clone, Copy)]
struct World {
    /// People, those who are bought among them.
    people: usize,
    /// Pairs of each.
    pairs: usize,
    /// The share of pairs that the versions see differently.
    differ: f64,
    /// The mean over honest people of what they truly gain.
    better: f64,
    /// Its standard deviation over honest people.
    spread: f64,
    /// How many are bought.
    bought: usize,
    /// What they say of each of their pairs: 1 or -1.
    say: f64,
}

impl World {
    fn honest(people: usize, pairs: usize) -> Self {
        Self {
            people,
            pairs,
            differ: 0.2,
            better: 0.0,
            spread: 0.05,
            bought: 0,
            say: 1.0,
        }
    }

    fn gains(&self, rng: &mut ChaCha8Rng) -> Vec<PersonGain> {
        let truly = Normal::new(self.better, self.spread).unwrap();
        let person = |number: usize| {
            if number < self.bought {
                return PersonGain::of(&vec![self.say; self.pairs]);
            }
            let better = truly.sample(rng).clamp(-self.differ, self.differ);
            let up = (self.differ + better) / 2.0;
            let pair = |_| match rng.random::<f64>() {
                drawn if drawn < up => 1.0,
                drawn if drawn < self.differ => -1.0,
                _ => 0.0,
            };
            PersonGain::of(&(0..self.pairs).map(pair).collect::<Vec<f64>>())
        };
        (0..self.people).map(person).collect()
    }

    /// The share of worlds in which one test, the first, promotes.
    fn promoted(&self, worlds: usize) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(14);
        let promoted = (0..worlds).filter(|_| RULE.find(&self.gains(&mut rng), 1).promote);
        promoted.count() as f64 / worlds as f64
    }

    /// The share of worlds in which one of [`TURNS`] tests promotes.
    fn ever_promoted(&self, worlds: usize) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(22);
        let ever = (0..worlds)
            .filter(|_| (1..=TURNS).any(|turn| RULE.find(&self.gains(&mut rng), turn).promote));
        ever.count() as f64 / worlds as f64
    }
}

/// Candidates that are coins, judged turn after turn on the same pairs. Returns how often `promotes` lets one
/// through in the first turn, and ever. What was promoted is what the next ones are compared with.
fn coins(
    [people, pairs]: [usize; 2],
    worlds: usize,
    promotes: impl Fn(&[PersonGain], usize) -> bool,
) -> [f64; 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(41);
    let mut counts = [0; 2];
    for _ in 0..worlds {
        // Right about one half, as near as can be.
        let current: Vec<f64> = (0..people * pairs).map(|i| (i % 2) as f64).collect();
        for turn in 1..=TURNS {
            let gain = |current: &f64| f64::from(u8::from(rng.random::<bool>())) - current;
            let gains: Vec<f64> = current.iter().map(gain).collect();
            let gains: Vec<PersonGain> = gains.chunks(pairs).map(PersonGain::of).collect();
            if promotes(&gains, turn) {
                counts[0] += usize::from(turn == 1);
                counts[1] += 1;
                break;
            }
        }
    }
    counts.map(|count| f64::from(u32::try_from(count).unwrap()) / worlds as f64)
}

/// 11 or more of 20 coins are heads with probability .412: what the old rule let through in each turn.
#[test]
fn coins_are_promoted_no_more() {
    let [first, ever] = coins([10, 2], 2000, |gains, _| old_rule(gains));
    assert!((0.38..0.45).contains(&first), "{first}");
    assert!(ever > 0.99, "{ever}");
    for size in [[10, 2], [10, 5], [20, 5], [40, 3]] {
        let [_, ever] = coins(size, 300, |gains, turn| RULE.find(gains, turn).promote);
        assert!(ever <= 0.05, "{size:?}: {ever}");
    }
}

/// Candidates that differ from what answers in some pairs, for the better as often as for the worse.
#[test]
fn fifty_turns_of_nothing_promote_at_most_one_in_twenty_times() {
    for (people, pairs) in [(10, 5), (20, 1), (20, 5), (50, 5)] {
        let ever = World::honest(people, pairs).ever_promoted(200);
        assert!(ever <= 0.05, "{people} people, {pairs} pairs: {ever}");
    }
}

/// The interval is no wall: what is better gets through.
#[test]
fn what_is_better_is_promoted() {
    let better = |people, pairs, better| World {
        better,
        ..World::honest(people, pairs)
    };
    assert!(better(20, 5, 0.15).promoted(200) > 0.5);
    assert!(better(20, 20, 0.1).promoted(200) > 0.6);
    assert!(better(200, 20, 0.05).promoted(50) > 0.9);
}

/// A tenth of the people says that everything got better, in each of fifty turns.
#[test]
fn a_tenth_of_the_people_promotes_nothing() {
    for (people, pairs) in [(10, 5), (20, 5), (50, 5)] {
        let world = World {
            bought: people / 10,
            ..World::honest(people, pairs)
        };
        let ever = world.ever_promoted(300);
        assert!(ever <= 0.05, "{people} people, {pairs} pairs: {ever}");
    }
    // Without the rule's guard they need one turn.
    let world = World {
        bought: 20,
        ..World::honest(200, 20)
    };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let open = Rule {
        coalition: 0.0,
        ..RULE
    };
    let fooled = (0..50).filter(|_| open.find(&world.gains(&mut rng), 1).promote);
    assert!(fooled.count() > 15);
}

/// A tenth of the people says that everything got worse.
#[test]
fn a_tenth_of_the_people_vetoes_nothing_where_there_are_enough() {
    let world = World {
        better: 0.05,
        spread: 0.0,
        bought: 40,
        say: -1.0,
        ..World::honest(400, 20)
    };
    let promoted = world.promoted(40);
    assert!(promoted > 0.5, "{promoted}");
}

/// The least number of bought people with whom `turned` is true, as it is with any more; `None`: not even with
/// two fifths.
fn smallest(people: usize, turned: impl Fn(usize) -> bool) -> Option<usize> {
    let all: Vec<usize> = (0..=people * 2 / 5).collect();
    let least = all.partition_point(|bought| !turned(*bought));
    all.get(least).copied()
}

#[test]
#[ignore = "minutes; prints docs/experiments.md's table: cargo test --lib learning_loop::simulation::table -- --ignored --nocapture"]
fn table() {
    let percent = |bought: Option<usize>, people: usize| match bought {
        Some(bought) => format!("{:.0} %", 100.0 * bought as f64 / people as f64),
        None => "over 40 %".into(),
    };
    println!("| people | pairs each | nothing, ever | .05 better | .10 better | promote nothing | ever | hold back .05 | hold back .10 |");
    for people in [10, 20, 50, 200, 1000] {
        for pairs in [5, 20] {
            let world = World::honest(people, pairs);
            let better = |better, bought| {
                World {
                    better,
                    bought,
                    say: -1.0,
                    ..world
                }
                .promoted(200)
            };
            let nothing = |bought| World { bought, ..world };
            let promote = smallest(people, |n| nothing(n).promoted(200) > 0.5);
            let ever = smallest(people, |n| nothing(n).ever_promoted(40) > 0.5);
            let hold = |gain| match better(gain, 0) > 0.5 {
                true => percent(smallest(people, |n| better(gain, n) <= 0.5), people),
                false => "nobody: too few people".into(),
            };
            println!(
                "| {people} | {pairs} | {:.3} | {:.2} | {:.2} | {} | {} | {} | {} |",
                world.ever_promoted(200),
                better(0.05, 0),
                better(0.1, 0),
                percent(promote, people),
                percent(ever, people),
                hold(0.05),
                hold(0.1),
            );
        }
    }
}
