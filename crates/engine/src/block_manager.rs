//! Who owns which KV block.
//!
//! Every block is in exactly one of three places:
//!
//! ```text
//!             take / grow                          release, no hash
//!   free    ---------------->  used (ref_count>0)  ---------------->  free
//!   cached  ---------------->  used                ---------------->  cached (hash, ref_count=0)
//!             match_prefix                         release, hash
//!
//!   cached  --- evicted by take / grow, least recently released first --->  used, hash forgotten
//!   cached  --- forget ----------------------------------------------------->  free
//! ```
//!
//! The rows of a running sequence with `c = num_computed`, block size `B` and `t` blocks:
//!
//! ```text
//!   [0, c - c%B)     full blocks: hashed by `publish`, may be shared, never written again
//!   [c - c%B, t*B)   this sequence alone: the next rows are written here
//! ```
//!
//! Only full, computed blocks are ever hashed, and a prefix match stops before a prompt's last row,
//! so a shared block is never written.

use std::collections::{BTreeMap, HashMap};

use super::block_hash::BlockHash;
use super::subject::Subject;

/// The index of a KV block.
pub type BlockId = u32;

/// Hands blocks out, counts their holders, and finds those that hold a known prefix.
#[derive(Debug)]
pub struct BlockManager {
    blocks: Vec<Block>,
    /// Blocks with no holder and no hash.
    free: Vec<BlockId>,
    /// Blocks with no holder and a hash, by when they were released.
    cached: BTreeMap<u64, BlockId>,
    by_hash: HashMap<BlockHash, BlockId>,
    block_size: usize,
    prefix_cache: bool,
    /// Counts releases: the order of `cached`.
    tick: u64,
}

#[derive(Debug, Clone, Default)]
struct Block {
    ref_count: usize,
    hash: Option<BlockHash>,
    /// Who published it.
    subject: Option<Subject>,
    /// The key in `cached` while there.
    released_at: u64,
}

impl BlockManager {
    /// `n_blocks` blocks of `block_size` positions; without `prefix_cache` no block is ever shared.
    pub fn new(n_blocks: usize, block_size: usize, prefix_cache: bool) -> Self {
        let n = u32::try_from(n_blocks).unwrap_or(u32::MAX);
        Self {
            blocks: vec![Block::default(); n as usize],
            // Reversed, so that block 0 is taken first.
            free: (0..n).rev().collect(),
            cached: BTreeMap::new(),
            by_hash: HashMap::new(),
            block_size: block_size.max(1),
            prefix_cache,
            tick: 0,
        }
    }

    /// Takes the blocks of a sequence of `n_blocks` blocks that starts with `matched` (from
    /// [`Self::match_prefix`]). `None`, and nothing changes, if fewer than the rest plus `spare`
    /// are available.
    pub fn take(
        &mut self,
        matched: &[BlockId],
        n_blocks: usize,
        spare: usize,
    ) -> Option<Vec<BlockId>> {
        let fresh = n_blocks.saturating_sub(matched.len());
        let revived = matched.iter().filter(|b| self.holders(**b) == 0).count();
        if self.available() < fresh + revived + spare {
            return None;
        }
        for &block in matched {
            self.hold(block);
        }
        let mut table = matched.to_vec();
        // The count above leaves at least `fresh` blocks.
        table.extend((0..fresh).map_while(|_| self.grow()));
        Some(table)
    }

    /// Whether [`Self::take`] finds what it wants once those who hold `tables` have let go. A block that several of
    /// them share is not counted as one that becomes free.
    pub fn could_take<'a>(
        &self,
        matched: &[BlockId],
        n_blocks: usize,
        spare: usize,
        tables: impl Iterator<Item = &'a [BlockId]>,
    ) -> bool {
        let held = matched.iter().filter(|b| self.holders(**b) > 0).count();
        // A matched one that becomes free would be taken again.
        let alone = |b: &&BlockId| self.holders(**b) == 1 && !matched.contains(b);
        let freed = tables.flatten().filter(alone).count();
        self.available() + freed >= n_blocks.saturating_sub(held) + spare
    }

    /// Takes one block; `None` if all are held.
    pub fn grow(&mut self) -> Option<BlockId> {
        let block = match self.free.pop() {
            Some(block) => block,
            None => self.evict()?,
        };
        self.blocks[block as usize].ref_count = 1;
        Some(block)
    }

    /// Gives back a sequence's blocks. Its last blocks are the first to be evicted: a prefix is
    /// worth more than what follows it.
    pub fn release(&mut self, table: &[BlockId]) {
        for &id in table.iter().rev() {
            self.tick += 1;
            let block = &mut self.blocks[id as usize];
            debug_assert!(block.ref_count > 0, "block {id} released twice");
            block.ref_count -= 1;
            if block.ref_count > 0 {
                continue;
            }
            if block.hash.is_some() {
                block.released_at = self.tick;
                self.cached.insert(self.tick, id);
            } else {
                self.free.push(id);
            }
        }
    }

    /// Makes a full, computed block findable. If another block holds the same rows already, that
    /// one stays the one that is found. `subject`: by whom it can be forgotten.
    pub fn publish(&mut self, block: BlockId, hash: BlockHash, subject: Option<Subject>) {
        if !self.prefix_cache || self.by_hash.contains_key(&hash) {
            return;
        }
        let entry = &mut self.blocks[block as usize];
        if entry.hash.is_none() {
            entry.hash = Some(hash);
            entry.subject = subject;
            self.by_hash.insert(hash, block);
        }
    }

    /// What `subject` has published is not found any more: blocks that nobody holds are free at once, the others
    /// with their last holder.
    pub fn forget(&mut self, subject: &Subject) {
        for (id, block) in (0..).zip(&mut self.blocks) {
            if block.subject.as_ref() != Some(subject) {
                continue;
            }
            block.subject = None;
            if let Some(hash) = block.hash.take() {
                self.by_hash.remove(&hash);
                if block.ref_count == 0 {
                    self.cached.remove(&block.released_at);
                    self.free.push(id);
                }
            }
        }
    }

    /// The blocks that hold the longest known beginning of a chain.
    pub fn match_prefix(&self, hashes: &[BlockHash]) -> Vec<BlockId> {
        hashes
            .iter()
            .map_while(|hash| self.by_hash.get(hash).copied())
            .collect()
    }

    /// Blocks that can be taken now.
    pub fn available(&self) -> usize {
        self.free.len() + self.cached.len()
    }

    /// Blocks that sequences hold.
    pub fn used(&self) -> usize {
        self.blocks.len() - self.available()
    }

    /// Blocks there are.
    pub fn total(&self) -> usize {
        self.blocks.len()
    }

    /// Positions a block holds.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// Whether blocks are shared.
    pub fn prefix_cache(&self) -> bool {
        self.prefix_cache
    }

    /// Checks the picture at the top of this file against the tables of all sequences.
    ///
    /// # Errors
    /// The first block that is not where it belongs: a bug.
    pub fn check_integrity<'a>(
        &self,
        tables: impl Iterator<Item = &'a [BlockId]>,
    ) -> Result<(), String> {
        let mut held = vec![0usize; self.blocks.len()];
        for &id in tables.flatten() {
            held[id as usize] += 1;
        }
        let mut places = vec![0usize; self.blocks.len()];
        for &id in self.free.iter().chain(self.cached.values()) {
            places[id as usize] += 1;
        }
        for (id, block) in self.blocks.iter().enumerate() {
            if block.ref_count != held[id] {
                return Err(format!(
                    "block {id} counts {} holders and has {}",
                    block.ref_count, held[id]
                ));
            }
            if places[id] != usize::from(held[id] == 0) {
                return Err(format!(
                    "block {id} with {} holders is {} times among the available",
                    held[id], places[id]
                ));
            }
            let found = block.hash.and_then(|hash| self.by_hash.get(&hash));
            if block.hash.is_some() && found != Some(&(id as BlockId)) {
                return Err(format!("block {id} has a hash that leads elsewhere"));
            }
        }
        let hashed = self.blocks.iter().filter(|b| b.hash.is_some()).count();
        if hashed != self.by_hash.len() {
            return Err(format!(
                "{hashed} blocks have a hash and {} hashes are known",
                self.by_hash.len()
            ));
        }
        Ok(())
    }

    fn hold(&mut self, id: BlockId) {
        let block = &mut self.blocks[id as usize];
        if block.ref_count == 0 {
            self.cached.remove(&block.released_at);
        }
        block.ref_count += 1;
    }

    /// Forgets the cached block that was released first.
    fn evict(&mut self) -> Option<BlockId> {
        let (_, block) = self.cached.pop_first()?;
        let entry = &mut self.blocks[block as usize];
        entry.subject = None;
        if let Some(hash) = entry.hash.take() {
            self.by_hash.remove(&hash);
        }
        Some(block)
    }

    fn holders(&self, id: BlockId) -> usize {
        self.blocks[id as usize].ref_count
    }
}
