//! Prompts: whose rows are computed next, and who is let in from the queue.

use super::{Scheduler, Sequence};
use crate::block_manager::BlockId;
use crate::fairness::PREFILL_WEIGHT;
use crate::metrics;
use crate::sequence::Turn;

impl Scheduler {
    /// Keeps the step to its target, as far as rows of prompts go.
    pub(super) fn limit_prefills(&mut self) {
        let decodes = self.step_budget.rows - self.budget;
        let rows = |target| self.rates.prefill_rows(target, decodes);
        if let Some(rows) = self.step_budget.target.and_then(rows) {
            self.budget = self.budget.min(rows);
        }
    }

    /// Gives the rows that are left to prompts.
    pub(super) fn schedule_prefills(&mut self) {
        // Prompts of the queue with fewer rows than this may find room.
        let mut below = usize::MAX;
        while self.budget > 0 {
            let running = self.next_running();
            let waiting = self.next_waiting(below);
            match (running, waiting) {
                (Some((turn, at)), waiting) if waiting.is_none_or(|w| turn < w) => {
                    self.give_rows(at);
                }
                (_, Some(turn)) => match self.admit(turn) {
                    Ok(at) => self.give_rows(at),
                    Err(rows) => below = rows,
                },
                _ => break,
            }
        }
        if below < usize::MAX {
            self.full_at = Some(self.running.len());
        }
    }

    /// The running sequence whose prompt is next.
    fn next_running(&self) -> Option<(Turn, usize)> {
        let running = self.running.iter().enumerate();
        let unscheduled = running.filter(|(_, s)| s.scheduled().is_empty() && s.pending() > 1);
        let ready = unscheduled.filter(|(_, s)| !s.is_stalled());
        ready.map(|(at, s)| (s.turn(), at)).min()
    }

    /// The sequence of the queue that is next, of those with fewer than `below` rows.
    fn next_waiting(&self, below: usize) -> Option<Turn> {
        let block_size = self.blocks.block_size();
        let running = self.running.iter().filter(|s| !s.is_stalled());
        let under_way = running.filter_map(|s| s.block_under_way(block_size));
        let under_way: Vec<_> = under_way.collect();
        let could_share = |s: &Sequence| {
            let mut blocks = under_way.iter();
            blocks.any(|(index, hash)| s.known_hash(*index) == Some(hash))
        };
        self.queue.next(|s| s.n_rows() < below && !could_share(s))
    }

    fn give_rows(&mut self, at: usize) {
        let sequence = &mut self.running[at];
        let rows = sequence.pending().min(self.budget);
        sequence.schedule(rows);
        self.budget -= rows;
    }

    /// Lets a sequence of the queue run. If there is no room for it, says how many rows those have less than that may
    /// go past it in this step.
    fn admit(&mut self, turn: Turn) -> Result<usize, usize> {
        let Some(mut sequence) = self.queue.take(turn) else {
            return Err(0);
        };
        if !self.make_room(&mut sequence) {
            let has_slot = self.running.len() < self.max_running;
            let may_be_passed = turn.rows > 0 && !sequence.was_started();
            let rows = sequence.n_rows();
            self.queue.put_back(sequence);
            return Err(if has_slot && may_be_passed { rows } else { 0 });
        }
        self.queue.has_left(&sequence.request().payer);
        let place = self.running.partition_point(|s| s.arrival() < turn.arrival);
        self.running.insert(place, sequence);
        Ok(place)
    }

    /// Finds a slot and blocks for a sequence that waits, if need be those of stalled ones, or of one whose
    /// payer had more than its share.
    fn make_room(&mut self, sequence: &mut Sequence) -> bool {
        loop {
            if self.running.len() < self.max_running && self.allocate(sequence) {
                return true;
            }
            let stalled = self.youngest_stalled();
            match stalled.or_else(|| self.gives_way_to(sequence)) {
                Some(victim) => self.preempt(victim),
                None => return false,
            }
        }
    }

    /// Gives a sequence blocks for all its rows, the longest cached prefix first.
    fn allocate(&mut self, sequence: &mut Sequence) -> bool {
        let block_size = self.blocks.block_size();
        let n_rows = sequence.n_rows();
        let matched = self.cached_prefix(sequence);
        // One block of growth for each that runs, else the next decode would preempt this one.
        let spare = self.running.iter().filter(|s| !s.is_stalled()).count();
        let n_blocks = n_rows.div_ceil(block_size);
        let Some(table) = self.blocks.take(&matched, n_blocks, spare) else {
            return false;
        };
        let hit = sequence.start(table, matched.len() * block_size);
        if hit.is_some() {
            self.pass_by(sequence.arrival(), n_rows);
        }
        if let Some(cached) = hit.filter(|_| self.blocks.prefix_cache()) {
            self.totals.prefix_queries += n_rows as u64;
            self.totals.prefix_hits += cached.rows as u64;
            metrics::prefix_lookup(n_rows, cached.rows);
        }
        if let Some(cached) = hit {
            let computed = (n_rows - cached.rows) as u64;
            self.queue
                .charge(&sequence.request().payer, computed * PREFILL_WEIGHT);
        }
        true
    }

    /// The blocks that hold the longest cached prefix of a sequence's rows.
    pub(super) fn cached_prefix(&self, sequence: &mut Sequence) -> Vec<BlockId> {
        if !self.blocks.prefix_cache() {
            return Vec::new();
        }
        let block_size = self.blocks.block_size();
        // The last row is computed in any case: its logits are needed.
        let full = sequence.n_rows().saturating_sub(1) / block_size;
        self.blocks
            .match_prefix(sequence.block_hashes(full, block_size))
    }

    /// A prompt of `rows` rows begins: what came before it and has not is passed by.
    fn pass_by(&mut self, arrival: u64, rows: usize) {
        self.queue.pass_by(arrival, rows);
        let earlier = self.running.iter_mut();
        for sequence in earlier.take_while(|s| s.arrival() < arrival) {
            sequence.was_passed_by(rows);
        }
    }

    /// Who gives its place to `waiting` for what its payer had, if that makes enough blocks free.
    fn gives_way_to(&self, waiting: &mut Sequence) -> Option<usize> {
        let leading = self.queue.leading(&self.running, waiting);
        let first = leading.first()?;
        let matched = self.cached_prefix(waiting);
        let n_blocks = waiting.n_rows().div_ceil(self.blocks.block_size());
        let stays = |(i, s): &(usize, &Sequence)| !s.is_stalled() && !leading.contains(i);
        let spare = self.running.iter().enumerate().filter(stays).count();
        let tables = leading.iter().map(|i| &self.running[*i].block_table()[..]);
        let enough = self.blocks.could_take(&matched, n_blocks, spare, tables);
        enough.then_some(*first)
    }
}
