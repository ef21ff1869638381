//! Who gets how much, when several ask for more than there is.
//!
//! A ledger of its own counts what each payer got, from what is seen of the engine: rows of prompts when they
//! first run, tokens when they come out.

use std::collections::{BTreeMap, HashMap};

use attune_engine::fairness::{Sharing, DECODE_WEIGHT, PREFILL_WEIGHT};
use attune_engine::request::{EngineRequest, Payer};
use attune_engine::step::StepOutcome;
use attune_engine::thread::EngineConfig;
use proptest::prelude::*;

use crate::driver::{config, naive, request, Driver, End, Reader};
use crate::mock::MockRunner;

/// Enough to find what is wrong on most runs; 1500 were tried once.
const CASES: u32 = 60;
const LONGEST_PROMPT: usize = 12;
const LONGEST_ANSWER: usize = 60;

fn payer(group: u64, member: u64) -> Payer {
    Payer {
        group,
        member: Some(member),
        key: None,
    }
}

fn of(payer: Payer, prompt: usize, max_tokens: usize) -> EngineRequest {
    EngineRequest {
        payer,
        ..request(&vec![3; prompt], max_tokens)
    }
}

fn engine(max_running: usize, token_budget: usize, patience: u64) -> EngineConfig {
    EngineConfig {
        max_running,
        max_queued: 1 << 16,
        token_budget,
        // Every prompt costs what it has rows.
        prefix_cache: false,
        sharing: Sharing {
            patience,
            ..Sharing::default()
        },
        ..config()
    }
}

/// Somebody who always has requests waiting, all of one shape.
#[derive(Debug, Clone)]
struct Heavy {
    group: u64,
    prompt: usize,
    max_tokens: usize,
    waiting: usize,
}

fn any_heavy() -> impl Strategy<Value = Heavy> {
    let parts = (0..2u64, 1..=LONGEST_PROMPT, 1..=LONGEST_ANSWER, 1..8usize);
    parts.prop_map(|(group, prompt, max_tokens, waiting)| Heavy {
        group,
        prompt,
        max_tokens,
        waiting,
    })
}

/// A driver with a ledger.
struct Market {
    driver: Driver,
    config: EngineConfig,
    readers: Vec<(Payer, usize, Reader)>,
    got: BTreeMap<(u64, u64), u64>,
    /// The last sequence of each payer that began to run.
    last_started: HashMap<Payer, u64>,
}

impl Market {
    fn new(config: EngineConfig, n_blocks: usize) -> Self {
        Self {
            driver: Driver::new(MockRunner::new(n_blocks, 4), &config),
            config,
            readers: Vec::new(),
            got: BTreeMap::new(),
            last_started: HashMap::new(),
        }
    }

    fn submit(&mut self, request: EngineRequest) {
        let payer = request.payer;
        let reader = self.driver.submit_one(request);
        self.readers.push((payer, 0, reader));
    }

    fn waiting_of(&self, payer: Payer) -> usize {
        let waiting = self.driver.engine.scheduler().waiting();
        waiting.filter(|s| s.request().payer == payer).count()
    }

    fn got(&self, payer: Payer) -> u64 {
        let seat = (payer.group, payer.member.unwrap());
        self.got.get(&seat).copied().unwrap_or(0)
    }

    fn got_by_group(&self, group: u64) -> u64 {
        let of_group = self.got.iter().filter(|((g, _), _)| *g == group);
        of_group.map(|(_, got)| got).sum()
    }

    fn count(&mut self, payer: Payer, tokens: u64) {
        let seat = (payer.group, payer.member.unwrap());
        *self.got.entry(seat).or_default() += tokens;
    }

    /// One step; checks order and diligence, and enters into the ledger what it gave.
    fn step(&mut self) {
        let before = self.fresh();
        let outcome = self.driver.step();
        let after = self.fresh();
        for (arrival, (payer, rows)) in &before {
            if after.contains_key(arrival) {
                continue;
            }
            let last = self.last_started.insert(*payer, *arrival);
            assert!(
                last.is_none_or(|last| last < *arrival),
                "first come, first served"
            );
            self.count(*payer, *rows as u64 * PREFILL_WEIGHT);
        }
        let mut tokens = Vec::new();
        for (payer, read, reader) in &mut self.readers {
            let made = reader.read().ids.len();
            tokens.push((*payer, (made - *read) as u64 * DECODE_WEIGHT));
            *read = made;
        }
        for (payer, tokens) in tokens {
            self.count(payer, tokens);
        }
        let all = self.readers.len();
        self.readers
            .retain(|(_, _, reader)| reader.outcome.end == End::Open);
        let ended = all - self.readers.len();
        self.check_diligence(outcome, !before.is_empty(), ended);
    }

    /// Sequences that have not run, by arrival.
    fn fresh(&self) -> BTreeMap<u64, (Payer, usize)> {
        let waiting = self.driver.engine.scheduler().waiting();
        let fresh = waiting.filter(|s| !s.was_started());
        fresh
            .map(|s| (s.arrival(), (s.request().payer, s.n_rows())))
            .collect()
    }

    /// Nobody waits while there is a slot, and blocks, and rows are left in the step. `ended` sequences had a slot
    /// in it and have left.
    fn check_diligence(&self, outcome: StepOutcome, somebody_waited: bool, ended: usize) {
        let scheduler = self.driver.engine.scheduler();
        let StepOutcome::Ran { rows, .. } = outcome else {
            assert!(!somebody_waited, "idle while somebody waits");
            return;
        };
        if scheduler.waiting().next().is_some() {
            let slots = scheduler.running().len() + ended;
            let busy = slots == self.config.max_running || rows == self.config.token_budget;
            assert!(
                busy || scheduler.full_at().is_some(),
                "{slots} run, {rows} rows"
            );
        }
    }
}

/// What a group may get beyond another one that waits: the patience, the cost of a recomputation, and what is
/// charged before anybody looks again (the tokens of a step, and a prompt for each slot).
fn bound_of_groups(config: &EngineConfig) -> u64 {
    let cost = (LONGEST_PROMPT + LONGEST_ANSWER) as u64 * PREFILL_WEIGHT;
    let slots = config.max_running as u64;
    let step = slots * (DECODE_WEIGHT + LONGEST_PROMPT as u64 * PREFILL_WEIGHT);
    config.sharing.patience + cost + step
}

/// The same for members of one group. Their turn comes with that of their group: so much can pass before it.
fn bound_of_members(config: &EngineConfig) -> u64 {
    3 * bound_of_groups(config)
}

fn flood(market: &mut Market, heavies: &[Heavy]) {
    for (member, heavy) in heavies.iter().enumerate() {
        let payer = payer(heavy.group, member as u64);
        for _ in market.waiting_of(payer)..heavy.waiting {
            market.submit(of(payer, heavy.prompt, heavy.max_tokens));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever heavy users do, somebody who comes with one request waits until each of the others got a bounded
    /// amount, which does not depend on how much they have queued or how long their answers are. With all of them:
    /// the engine never idles, and each payer's requests run as they came.
    #[test]
    fn a_light_user_waits_for_a_bounded_amount(
        heavies in prop::collection::vec(any_heavy(), 1..5),
        max_running in 1..5usize,
        token_budget in 8..40usize,
        patience in 0..60u64,
        comes_at in 0..150usize,
        group in 0..3u64,
        spare_blocks in prop_oneof![Just(1000usize), 0..40usize],
    ) {
        let config = engine(max_running, token_budget, patience);
        let (by_group, by_member) = (bound_of_groups(&config), bound_of_members(&config));
        let n_blocks = (LONGEST_PROMPT + LONGEST_ANSWER).div_ceil(4) + spare_blocks;
        let mut market = Market::new(config, n_blocks);
        for _ in 0..comes_at {
            flood(&mut market, &heavies);
            market.step();
        }
        flood(&mut market, &heavies);
        let before = market.got.clone();
        let light = payer(group, 99);
        market.submit(of(light, 5, 3));
        let mut steps = 0;
        while market.got(light) < 5 * PREFILL_WEIGHT + DECODE_WEIGHT {
            market.step();
            flood(&mut market, &heavies);
            steps += 1;
            // A step gives a token, a row of a prompt, or one of a recomputation that had its reason.
            prop_assert!(steps < 100 * by_member, "no progress");
        }
        // Groups share first: those of another group got together what one of the own group may get.
        let got = |seat: &(u64, u64)| {
            market.got[seat] - before.get(seat).copied().unwrap_or(0)
        };
        let others: Vec<(u64, u64)> = market.got.keys().copied().filter(|s| s.1 != 99).collect();
        for seat in others.iter().filter(|seat| seat.0 == group) {
            prop_assert!(got(seat) <= by_member, "{seat:?} got {} > {by_member}", got(seat));
        }
        for other in [0, 1].into_iter().filter(|g| *g != group) {
            let of_group: u64 = others.iter().filter(|s| s.0 == other).map(got).sum();
            let own: u64 = others.iter().filter(|s| s.0 == group).map(got).sum();
            prop_assert!(of_group <= own + 2 * by_group, "{of_group} beside {own}");
        }
    }

    /// Who always asks for more gets the same, whatever the shapes of their requests: groups first, and then the
    /// members of a group.
    #[test]
    fn those_who_always_wait_get_the_same(
        heavies in prop::collection::vec(any_heavy(), 2..5),
        max_running in 1..5usize,
        token_budget in 8..40usize,
        patience in 0..60u64,
    ) {
        let config = engine(max_running, token_budget, patience);
        let (by_group, by_member) = (bound_of_groups(&config), bound_of_members(&config));
        let mut market = Market::new(config, 1000);
        // More than one step can take: they never stop waiting.
        let longer = |h: Heavy| Heavy { waiting: h.waiting + max_running, ..h };
        let heavies: Vec<Heavy> = heavies.into_iter().map(longer).collect();
        for _ in 0..400 {
            flood(&mut market, &heavies);
            market.step();
            let groups: Vec<u64> = [0, 1].into_iter()
                .filter(|group| heavies.iter().any(|h| h.group == *group))
                .map(|group| market.got_by_group(group))
                .collect();
            let members = |group| heavies.iter().enumerate()
                .filter(move |(_, h)| h.group == group)
                .map(|(member, h)| market.got(payer(h.group, member as u64)));
            let spread = |values: &[u64]| {
                values.iter().max().copied().unwrap_or(0) - values.iter().min().copied().unwrap_or(0)
            };
            prop_assert!(spread(&groups) <= by_group, "{groups:?}");
            for group in [0, 1] {
                let got: Vec<u64> = members(group).collect();
                prop_assert!(spread(&got) <= by_member, "{got:?}");
            }
        }
    }
}

fn read_all(readers: &mut [Reader]) {
    for reader in readers {
        reader.read();
    }
}

/// One slot, and an answer of 700 tokens in it: who comes with a short question does not wait for its end.
#[test]
fn a_long_answer_gives_its_place_up_and_loses_nothing() {
    for ahead in [false, true] {
        let config = engine(1, 64, 30);
        let mut runner = MockRunner::new(1000, 4);
        runner.ahead = ahead;
        let mut driver = Driver::new(runner, &config);
        let long = of(payer(0, 1), 4, 700);
        let mut heavy = driver.submit_one(long.clone());
        for _ in 0..50 {
            driver.step();
            heavy.read();
        }
        let short = of(payer(0, 2), 4, 3);
        let mut light = driver.submit_one(short.clone());
        let mut waited = 0;
        while light.read().ids.is_empty() {
            driver.step();
            heavy.read();
            waited += 1;
        }
        // 2 a step against 30 and the rows to recompute, which grow by one a step: 30 + 54 steps.
        assert!((80..90).contains(&waited), "{waited}");
        assert_eq!(driver.engine.stats().preemptions, 1);
        while driver.step() != StepOutcome::Idle {
            heavy.read();
        }
        assert_eq!(light.read(), &naive(&short));
        assert_eq!(heavy.read(), &naive(&long));
        driver.assert_empty();
    }
}

/// What two of one account do to each other is their own affair: nothing is recomputed for it.
#[test]
fn within_one_account_nobody_is_displaced() {
    let mut driver = Driver::new(MockRunner::new(1000, 4), &engine(1, 64, 0));
    let mut readers: Vec<Reader> = (0..5)
        .map(|_| driver.submit_one(of(payer(0, 1), 4, 40)))
        .collect();
    while driver.step() != StepOutcome::Idle {
        read_all(&mut readers);
    }
    assert_eq!(driver.engine.stats().preemptions, 0);
}

/// A counter that stands still because its reader is slow is no credit for later.
#[test]
fn whoever_comes_back_from_a_stall_begins_where_the_others_are() {
    let mut driver = Driver::new(MockRunner::new(1000, 4), &engine(1, 64, 20));
    let (slow, busy) = (payer(0, 1), payer(0, 2));
    let mut stalled = driver.submit_one(of(slow, 4, 200));
    driver.run_to_idle(200);
    // The busy one gets the slot, and counts 1000 and more.
    let mut readers: Vec<Reader> = (0..30)
        .map(|_| driver.submit_one(of(busy, 4, 50)))
        .collect();
    for _ in 0..500 {
        driver.step();
        read_all(&mut readers);
    }
    let made = |readers: &[Reader]| readers.iter().map(|r| r.outcome.ids.len()).sum::<usize>();
    let before = made(&readers);
    // Now the slow one reads, and asks for more.
    stalled.read();
    let mut more: Vec<Reader> = (0..30)
        .map(|_| driver.submit_one(of(slow, 4, 50)))
        .collect();
    for _ in 0..400 {
        driver.step();
        stalled.read();
        read_all(&mut more);
        read_all(&mut readers);
    }
    let more = made(&readers) - before;
    // Half of 400 steps, and what a turn is to this side or that.
    assert!((120..280).contains(&more), "{more} more tokens");
}
