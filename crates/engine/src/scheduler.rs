//! Who runs in the next step, and with how many rows.
//!
//! Rules, in order:
//!
//! 1. Decodes first, then prefill chunks of those that run, then admission from the queue, while
//!    rows are left in the token budget.
//! 2. Admission is in the order of `queue`: whoever's payer was served least. It does not go past one
//!    that finds no room, or long prompts would wait for ever.
//! 3. A sequence runs only with blocks for all its rows; only decoding asks for more.
//! 4. When a decode finds no block, a sequence is preempted: a stalled one if there is one, else the
//!    youngest of a payer that is far ahead of the youngest's, else the youngest. It goes back to its place in
//!    the queue and is recomputed later.
//! 5. A stalled sequence (its reader is slow) is passed over, and gives its place up to whoever
//!    waits for it. So does a sequence whose payer is far ahead of whoever waits: by the patience and by what
//!    recomputing it costs. Who is stalled is looked at once, when a step begins: a reader may make room at any
//!    time, and a step that saw both would find that nobody could run who could.
//! 6. Passes may be planned while the one before is in flight (`Sequence::in_flight`). A sequence whose
//!    last token is on its way is passed over.
//!
//! Progress: whoever is preempted leaves its blocks to those that run on, and each sequence fits alone, so a
//! step with one that is not stalled is never empty unless a pass is in flight. Among payers that were
//! served alike the oldest is never preempted.

use std::time::Instant;

use super::admission::Progress;
use super::batch::{ScheduledBatch, ScheduledSpan};
use super::block_manager::{BlockId, BlockManager};
use super::fairness::{DECODE_WEIGHT, PREFILL_WEIGHT};
use super::metrics;
use super::queue::Queue;
use super::request::SequenceError;
use super::sequence::{Sequence, SequenceState};
use super::subject::Subject;

/// The queues and the blocks.
#[derive(Debug)]
pub struct Scheduler {
    blocks: BlockManager,
    queue: Queue,
    /// By arrival; each holds blocks for all its rows.
    running: Vec<Sequence>,
    /// Ended, without blocks; their readers learn of it when these are let go.
    ended: Vec<Sequence>,
    max_running: usize,
    token_budget: usize,
    /// Rows that the step which is being built may still take.
    budget: usize,
    /// How many ran when the last step left somebody waiting for want of a slot or of blocks.
    full_at: Option<usize>,
    totals: Totals,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// Sequences put back to be recomputed.
    pub preemptions: u64,
    /// Prompt rows looked up in the prefix cache.
    pub prefix_queries: u64,
    /// Prompt rows found there.
    pub prefix_hits: u64,
}

impl Scheduler {
    /// Empty queues over `blocks`. At least one sequence runs, and at least one row per step. `patience` is how far a
    /// payer may get ahead ([`super::fairness::PATIENCE`]).
    pub fn new(
        blocks: BlockManager,
        max_running: usize,
        token_budget: usize,
        patience: u64,
    ) -> Self {
        Self {
            blocks,
            queue: Queue::new(patience),
            running: Vec::new(),
            ended: Vec::new(),
            max_running: max_running.max(1),
            token_budget: token_budget.max(1),
            budget: 0,
            full_at: None,
            totals: Totals::default(),
        }
    }

    /// Takes a sequence in.
    pub fn enqueue(&mut self, sequence: Sequence) {
        self.queue.join(sequence);
    }

    /// Chooses the rows of the step that begins `now`. Empty if every sequence is stalled, or there is none.
    pub fn schedule(&mut self, now: Instant) -> ScheduledBatch {
        for sequence in self.all_mut() {
            sequence.look(now);
        }
        self.reap();
        self.queue.look_again();
        self.budget = self.token_budget;
        self.full_at = None;
        self.schedule_decodes();
        self.schedule_prefills();
        self.admit();
        ScheduledBatch::of(&self.running)
    }

    /// Takes the sequences out that have ended or whose reader is gone, and their blocks back. Rows of theirs
    /// may be in a pass that was started: what is started later may write to these blocks all the same,
    /// for passes run in order.
    pub fn reap(&mut self) {
        let mut one_has_ended = false;
        for sequence in self.all_mut() {
            if sequence.state() != SequenceState::Finished && sequence.is_abandoned() {
                sequence.leave();
            }
            one_has_ended |= sequence.state() == SequenceState::Finished;
        }
        if !one_has_ended {
            return;
        }
        let finished = |s: &Sequence| s.state() == SequenceState::Finished;
        let ended = self.queue.reap(finished, &self.running);
        self.ended.extend(ended);
        for mut sequence in self.running.extract_if(.., |s| finished(s)) {
            self.blocks.release(&sequence.take_blocks());
            self.ended.push(sequence);
        }
    }

    /// Sends the last events of what was reaped, and drops it.
    pub fn release(&mut self) {
        self.ended.clear();
    }

    /// A pass over `spans` was started.
    pub fn advance(&mut self, spans: &[ScheduledSpan]) {
        for span in spans {
            let Some(sequence) = self.find_mut(span.arrival) else {
                continue;
            };
            sequence.advance();
            let payer = sequence.request().payer;
            if span.wants_logits {
                self.queue.charge(&payer, DECODE_WEIGHT);
            }
        }
    }

    /// A pass over `span` is through: the full blocks of its sequence can be shared.
    pub fn publish(&mut self, span: &ScheduledSpan) {
        let block_size = self.blocks.block_size();
        let Some(at) = self.place_of(span.arrival) else {
            return;
        };
        if !self.blocks.prefix_cache() {
            return;
        }
        let sequence = &mut self.running[at];
        let before = span.positions.start / block_size;
        let after = sequence.num_computed().min(sequence.n_known()) / block_size;
        let table = sequence.block_table().clone();
        let subject = sequence.request().subject;
        let hashes = sequence.block_hashes(after, block_size);
        for (block, hash) in table.iter().zip(hashes).skip(before) {
            self.blocks.publish(*block, *hash, subject);
        }
    }

    /// The sequence that came as the `arrival`th, if it has not ended.
    pub fn find(&self, arrival: u64) -> Option<&Sequence> {
        match self.place_of(arrival) {
            Some(at) => Some(&self.running[at]),
            None => self.queue.iter().find(|s| s.arrival() == arrival),
        }
    }

    /// The same, to be changed.
    pub(super) fn find_mut(&mut self, arrival: u64) -> Option<&mut Sequence> {
        match self.place_of(arrival) {
            Some(at) => Some(&mut self.running[at]),
            None => self.queue.iter_mut().find(|s| s.arrival() == arrival),
        }
    }

    /// All sequences, to be changed.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Sequence> {
        self.running.iter_mut().chain(self.queue.iter_mut())
    }

    /// Ends the sequences of `subject` that arrived before the `before`th, and takes out of the prefix cache what
    /// it has left there.
    pub fn forget(&mut self, subject: &Subject, before: u64) {
        let theirs = |s: &&mut Sequence| {
            s.arrival() < before && s.request().subject.as_ref() == Some(subject)
        };
        for sequence in self.all_mut().filter(theirs) {
            sequence.fail(SequenceError::Forgotten);
        }
        self.reap();
        self.blocks.forget(subject);
    }

    /// Ends everything.
    pub fn fail_all(&mut self, error: &SequenceError) {
        for sequence in self.all_mut() {
            sequence.fail(error.clone());
        }
        self.reap();
    }

    /// Ends the oldest sequence that could run. For a step that found nothing to do where there was
    /// something: ending one is better than spinning.
    pub fn fail_oldest_ready(&mut self, error: SequenceError) -> bool {
        let oldest = self
            .all_mut()
            .filter(|s| !s.is_stalled())
            .min_by_key(|s| s.arrival());
        let found = oldest.map(|s| s.fail(error)).is_some();
        self.reap();
        found
    }

    /// Sequences that run, by arrival.
    pub fn running(&self) -> &[Sequence] {
        &self.running
    }

    /// Sequences that wait, by arrival.
    pub fn waiting(&self) -> impl Iterator<Item = &Sequence> {
        self.queue.iter()
    }

    /// How many ran in the last step, if it left somebody waiting for want of a slot or of blocks. Some of them, or
    /// all, may have ended in it.
    pub fn full_at(&self) -> Option<usize> {
        self.full_at
    }

    /// The blocks.
    pub fn blocks(&self) -> &BlockManager {
        &self.blocks
    }

    /// Whether there are no sequences.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty() && self.queue.is_empty()
    }

    /// How far the running sequences are.
    pub fn under_way(&self) -> impl Iterator<Item = Progress<'_>> {
        self.running.iter().map(Progress::of)
    }

    /// When [`Self::schedule`] will end a sequence if nothing happens before.
    pub fn next_end(&self) -> Option<Instant> {
        let sequences = self.running.iter().chain(self.queue.iter());
        sequences.filter_map(Sequence::ends_at).min()
    }

    /// Waits until a stalled sequence has room again or is abandoned; for ever if there is none.
    pub async fn any_unstalled(&self) {
        let stalled = self.running.iter().chain(self.queue.iter());
        let rooms: Vec<_> = stalled.map(|s| Box::pin(s.room_or_closed())).collect();
        if rooms.is_empty() {
            std::future::pending::<()>().await;
        }
        futures_util::future::select_all(rooms).await;
    }

    /// Counts since the start.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Checks who holds which blocks.
    ///
    /// # Errors
    /// A bug, in words.
    pub fn check_integrity(&self) -> Result<(), String> {
        if self.queue.iter().any(|s| !s.block_table().is_empty()) {
            return Err("a waiting sequence holds blocks".into());
        }
        let tables = self.running.iter().map(|s| &s.block_table()[..]);
        self.blocks.check_integrity(tables)
    }

    fn schedule_decodes(&mut self) {
        let mut i = 0;
        while i < self.running.len() && self.budget > 0 {
            let sequence = &self.running[i];
            if sequence.pending() != 1 || sequence.is_stalled() || sequence.is_complete() {
                i += 1;
                continue;
            }
            let arrival = sequence.arrival();
            let grown = self.grow(arrival);
            // Older ones may have left: it may have moved to the front.
            i = self.running.partition_point(|s| s.arrival() < arrival);
            if !grown {
                // It was its own turn to give way, and it is back in the queue.
                continue;
            }
            self.running[i].schedule(1);
            self.budget -= 1;
            i += 1;
        }
    }

    /// Makes sure that a running sequence has a block for its next row, preempting others for it.
    /// `false` if it was preempted itself.
    fn grow(&mut self, arrival: u64) -> bool {
        loop {
            let Some(at) = self.place_of(arrival) else {
                return false;
            };
            let sequence = &mut self.running[at];
            let covered = sequence.block_table().len() * self.blocks.block_size();
            if sequence.n_rows() <= covered {
                return true;
            }
            match self.blocks.grow() {
                Some(block) => sequence.push_block(block),
                None => {
                    let victim = self.youngest_stalled();
                    let victim = victim.unwrap_or_else(|| self.queue.least_entitled(&self.running));
                    self.preempt(victim);
                }
            }
        }
    }

    fn schedule_prefills(&mut self) {
        for sequence in &mut self.running {
            if self.budget == 0 {
                return;
            }
            let unscheduled = sequence.scheduled().is_empty();
            if unscheduled && sequence.pending() > 1 && !sequence.is_stalled() {
                let rows = sequence.pending().min(self.budget);
                sequence.schedule(rows);
                self.budget -= rows;
            }
        }
    }

    fn admit(&mut self) {
        while self.budget > 0 {
            let Some(mut sequence) = self.queue.take() else {
                return;
            };
            if !self.make_room(&mut sequence) {
                self.full_at = Some(self.running.len());
                return self.queue.put_back(sequence);
            }
            self.queue.has_left(&sequence.request().payer);
            let rows = sequence.pending().min(self.budget);
            sequence.schedule(rows);
            self.budget -= rows;
            self.insert_running(sequence);
        }
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
    fn cached_prefix(&self, sequence: &mut Sequence) -> Vec<BlockId> {
        if !self.blocks.prefix_cache() {
            return Vec::new();
        }
        let block_size = self.blocks.block_size();
        // The last row is computed in any case: its logits are needed.
        let full = sequence.n_rows().saturating_sub(1) / block_size;
        self.blocks
            .match_prefix(sequence.block_hashes(full, block_size))
    }

    fn preempt(&mut self, index: usize) {
        let mut sequence = self.running.remove(index);
        self.budget += sequence.scheduled().len();
        let table = sequence.preempt();
        self.blocks.release(&table);
        self.totals.preemptions += 1;
        metrics::preempted();
        self.enqueue(sequence);
    }

    fn insert_running(&mut self, sequence: Sequence) {
        let arrival = sequence.arrival();
        let place = self.running.partition_point(|s| s.arrival() < arrival);
        self.running.insert(place, sequence);
    }

    /// Which of the running sequences came as the `arrival`th.
    fn place_of(&self, arrival: u64) -> Option<usize> {
        let at = self.running.partition_point(|s| s.arrival() < arrival);
        let found = self.running.get(at).is_some_and(|s| s.arrival() == arrival);
        found.then_some(at)
    }

    fn youngest_stalled(&self) -> Option<usize> {
        self.running.iter().rposition(Sequence::is_stalled)
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

#[cfg(test)]
mod tests;
