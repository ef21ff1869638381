//! Blocks: the manager against a naive one, and who may share what.

use std::collections::{BTreeSet, HashMap};

use attune_engine::block_hash::{BlockHash, CacheSalt, Row};
use attune_engine::block_manager::{BlockId, BlockManager};
use attune_engine::request::EngineRequest;
use attune_engine::subject::Subject;
use proptest::prelude::*;

use crate::driver::{config, request, soft, Driver};
use crate::mock::{adapter, MockRunner};

/// Block `i` of chain `chain`.
fn hash(chain: u32, i: usize) -> BlockHash {
    let root = BlockHash::root(&salt(0), None, &soft(&[chain as f32]), 0);
    (0..=i).fold(root, |hash, i| {
        hash.next([Row::Token(i as u32)].into_iter())
    })
}

fn person(n: u8) -> Subject {
    Subject::of(&[&[n]])
}

fn salt(n: u8) -> CacheSalt {
    CacheSalt::of(&[&[n]])
}

/// Holders counted by looking at every table, the cache kept as a plain list.
#[derive(Default)]
struct Naive {
    tables: Vec<(u32, Vec<BlockId>)>,
    known: HashMap<BlockHash, BlockId>,
    /// Blocks without holders, by when they were released.
    released: Vec<BlockId>,
    /// Who published what.
    subject: HashMap<BlockId, u8>,
}

impl Naive {
    fn held(&self) -> BTreeSet<BlockId> {
        self.tables.iter().flat_map(|(_, t)| t).copied().collect()
    }

    fn is_known(&self, block: BlockId) -> bool {
        self.known.values().any(|b| *b == block)
    }

    /// Checks a block that was handed out as new.
    fn given(&mut self, block: BlockId, n_blocks: usize) {
        assert!(!self.held().contains(&block), "block {block} is somebody's");
        let held = self.held().len();
        let cached: Vec<BlockId> = self.released.clone();
        let free = n_blocks - held - cached.len();
        if free > 0 {
            assert!(
                !self.is_known(block),
                "a cached block went before a free one"
            );
        } else {
            assert_eq!(block, cached[0], "the one released first goes first");
            self.known.retain(|_, b| *b != block);
            self.subject.remove(&block);
            self.released.remove(0);
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    /// A sequence of a chain, with so many blocks.
    Take {
        chain: u32,
        blocks: usize,
        spare: usize,
    },
    Grow {
        table: usize,
    },
    Publish {
        table: usize,
        block: usize,
        subject: u8,
    },
    Forget {
        subject: u8,
    },
    Release {
        table: usize,
    },
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..3u32, 1..6usize, 0..3usize).prop_map(|(chain, blocks, spare)| Op::Take {
            chain,
            blocks,
            spare
        }),
        (0..8usize).prop_map(|table| Op::Grow { table }),
        (0..8usize, 0..6usize, 0..3u8).prop_map(|(table, block, subject)| Op::Publish {
            table,
            block,
            subject
        }),
        (1..3u8).prop_map(|subject| Op::Forget { subject }),
        (0..8usize).prop_map(|table| Op::Release { table }),
    ]
}

fn apply(op: &Op, manager: &mut BlockManager, naive: &mut Naive) {
    let n_blocks = manager.total();
    match *op {
        Op::Take {
            chain,
            blocks,
            spare,
        } => {
            let hashes: Vec<BlockHash> = (0..blocks - 1).map(|i| hash(chain, i)).collect();
            let matched = manager.match_prefix(&hashes);
            let expected: Vec<BlockId> = hashes
                .iter()
                .map_while(|h| naive.known.get(h).copied())
                .collect();
            assert_eq!(matched, expected);
            let held = naive.held();
            let revived = matched.iter().filter(|b| !held.contains(b)).count();
            let needed = blocks - matched.len() + revived + spare;
            let enough = n_blocks - held.len() >= needed;
            let before = manager.available();
            let Some(table) = manager.take(&matched, blocks, spare) else {
                assert!(!enough, "refused with enough blocks");
                assert_eq!(manager.available(), before, "a refusal changes nothing");
                return;
            };
            assert!(enough, "taken without enough blocks");
            assert_eq!(table.len(), blocks);
            naive.released.retain(|b| !matched.contains(b));
            naive.tables.push((chain, matched.clone()));
            for block in &table[matched.len()..] {
                naive.given(*block, n_blocks);
                naive.tables.last_mut().unwrap().1.push(*block);
            }
        }
        Op::Grow { table } if table < naive.tables.len() => match manager.grow() {
            Some(block) => {
                naive.given(block, n_blocks);
                naive.tables[table].1.push(block);
            }
            None => assert_eq!(naive.held().len(), n_blocks),
        },
        Op::Publish {
            table,
            block,
            subject,
        } if table < naive.tables.len() => {
            let (chain, blocks) = &naive.tables[table];
            let Some(id) = blocks.get(block).copied() else {
                return;
            };
            let hash = hash(*chain, block);
            // 0 is nobody's.
            manager.publish(id, hash, (subject > 0).then(|| person(subject)));
            if !naive.known.contains_key(&hash) && !naive.is_known(id) {
                naive.known.insert(hash, id);
                naive.subject.insert(id, subject);
            }
        }
        Op::Forget { subject } => forget(subject, manager, naive),
        Op::Release { table } if table < naive.tables.len() => {
            let (_, blocks) = naive.tables.remove(table);
            manager.release(&blocks);
            let held = naive.held();
            for block in blocks.iter().rev() {
                if !held.contains(block) && naive.is_known(*block) {
                    naive.released.push(*block);
                }
            }
        }
        _ => {}
    }
}

/// Nothing that this person has published is found, and everything else is.
fn forget(subject: u8, manager: &mut BlockManager, naive: &mut Naive) {
    manager.forget(&person(subject));
    let theirs = naive.subject.iter().filter(|(_, of)| **of == subject);
    let theirs: BTreeSet<BlockId> = theirs.map(|(id, _)| *id).collect();
    naive.known.retain(|_, id| !theirs.contains(id));
    naive.released.retain(|id| !theirs.contains(id));
    naive.subject.retain(|id, _| !theirs.contains(id));
    let known: BTreeSet<BlockHash> = naive.known.keys().copied().collect();
    for hash in (0..3).flat_map(|chain| (0..6).map(move |i| hash(chain, i))) {
        assert_eq!(
            !manager.match_prefix(&[hash]).is_empty(),
            known.contains(&hash)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_manager_agrees_with_a_naive_one(
        ops in prop::collection::vec(any_op(), 1..80),
        n_blocks in 1..16usize,
    ) {
        let mut manager = BlockManager::new(n_blocks, 4, true);
        let mut naive = Naive::default();
        for op in &ops {
            apply(op, &mut manager, &mut naive);
            let tables = naive.tables.iter().map(|(_, t)| &t[..]);
            manager.check_integrity(tables).unwrap();
            prop_assert_eq!(manager.used(), naive.held().len());
        }
    }

    #[test]
    fn hashes_agree_only_if_everything_in_front_does(
        a in any_identity(),
        b in any_identity(),
    ) {
        prop_assert_eq!(a.hash() == b.hash(), a == b);
    }
}

/// All that a block's content depends on; few values each, so that equal ones come up.
#[derive(Debug, Clone, PartialEq)]
struct Identity {
    salt: u8,
    version: Option<u8>,
    soft: Vec<u8>,
    soft_at: usize,
    blocks: Vec<Vec<u32>>,
}

impl Identity {
    fn hash(&self) -> BlockHash {
        let version = self.version.map(|v| adapter(v).version);
        let values: Vec<f32> = self.soft.iter().map(|v| f32::from(*v)).collect();
        let root = BlockHash::root(
            &salt(self.salt),
            version.as_ref(),
            &soft(&values),
            self.soft_at,
        );
        let next =
            |hash: BlockHash, block: &Vec<u32>| hash.next(block.iter().map(|t| Row::Token(*t)));
        self.blocks.iter().fold(root, next)
    }
}

fn any_identity() -> impl Strategy<Value = Identity> {
    let blocks = prop::collection::vec(prop::collection::vec(0..2u32, 2), 1..3);
    let soft = prop::collection::vec(0..2u8, 1..3);
    (0..2u8, prop::option::of(0..2u8), soft, 0..2usize, blocks).prop_map(
        |(salt, version, soft, soft_at, blocks)| Identity {
            salt,
            version,
            soft,
            soft_at,
            blocks,
        },
    )
}

/// Runs one request to its end, then a second; says how many prompt ids of the second were cached.
fn cached_of_second(first: EngineRequest, second: EngineRequest) -> usize {
    let mut driver = Driver::new(MockRunner::new(64, 4), &config());
    for (i, request) in [first, second].into_iter().enumerate() {
        let mut reader = driver.submit_one(request);
        driver.run_to_idle(100);
        reader.read();
        if i == 1 {
            return reader.cached_tokens.unwrap();
        }
    }
    unreachable!()
}

#[test]
fn only_the_same_person_version_and_salt_finds_cached_blocks() {
    let prompt: Vec<u32> = (0..17).collect();
    let ask = |rows: &[f32], version: Option<u8>| EngineRequest {
        soft_prompt: soft(rows),
        soft_at: 1,
        adapter: version.map(adapter),
        ..request(&prompt, 2)
    };
    let alice = || ask(&[1.0, 2.0], Some(0));
    // 19 rows, 4 full blocks before the last row: 16 rows, 2 of them soft.
    assert_eq!(cached_of_second(alice(), alice()), 14);
    assert_eq!(cached_of_second(alice(), ask(&[1.0, 3.0], Some(0))), 0);
    assert_eq!(cached_of_second(alice(), ask(&[1.0, 2.0], Some(1))), 0);
    assert_eq!(cached_of_second(alice(), ask(&[1.0, 2.0], None)), 0);
    assert_eq!(cached_of_second(alice(), ask(&[], Some(0))), 0);
    let salted = EngineRequest {
        cache_salt: salt(1),
        ..alice()
    };
    assert_eq!(cached_of_second(alice(), salted.clone()), 0);
    assert_eq!(cached_of_second(salted.clone(), salted), 14);
    let moved = EngineRequest {
        soft_at: 0,
        ..alice()
    };
    assert_eq!(cached_of_second(alice(), moved), 0);
}

#[test]
fn a_prompt_that_is_cached_whole_still_computes_its_last_row() {
    let prompt: Vec<u32> = (0..16).collect();
    assert_eq!(
        cached_of_second(request(&prompt, 1), request(&prompt, 1)),
        12
    );
    let one = request(&[5], 1);
    assert_eq!(cached_of_second(one.clone(), one), 0);
}

#[test]
fn the_next_turn_finds_the_answer_of_the_last() {
    let prompt: Vec<u32> = (0..6).collect();
    let first = request(&prompt, 10);
    let mut next: Vec<u32> = prompt.clone();
    next.extend(crate::driver::naive(&first).ids);
    next.extend([1, 2, 3]);
    // 16 rows of the first turn, of which the last one was never computed: 3 full blocks.
    assert_eq!(cached_of_second(first, request(&next, 1)), 12);
}
