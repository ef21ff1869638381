//! What attention kernels of other devices want to know of a pass, as plain integers.
//!
//! Spans of one row (decodes) go to a kernel that reads keys and values through block tables; longer
//! ones, and those that a sliding window cuts, have their context gathered first.

use crate::model::input::SequenceSpan;

/// A pass as layers with one sliding window see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttentionMetadata {
    /// KV slot of each packed row.
    pub slot_mapping: Vec<i64>,
    /// Rows whose whole context is read in place: a group is one call of the kernel.
    pub decodes: Vec<Decodes>,
    /// The others.
    pub prefills: Prefills,
    /// Where each packed row's result is: the decodes' results come first, then the prefills', padding
    /// included. `None`: they are in the rows' own order.
    pub results: Option<Vec<u32>>,
}

/// Which contexts are too long for a call with many sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongContexts {
    /// Positions above which a context is long.
    pub above: usize,
    /// Sequences with long contexts in one call, at most.
    pub group: usize,
}

/// Rows that are alone in their span.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decodes {
    /// Their packed rows.
    pub rows: Vec<u32>,
    /// (rows, widest table), 0 behind a table's end.
    pub block_tables: Vec<u32>,
    /// Blocks of the longest context.
    pub max_blocks: usize,
    /// Positions that each row sees.
    pub context_lens: Vec<u32>,
    /// The longest of them.
    pub max_context_len: usize,
}

/// Spans whose context is gathered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefills {
    /// Packed rows, (spans, longest span); the span's first row stands for padding.
    pub rows: Vec<u32>,
    /// Rows of the longest span.
    pub max_rows: usize,
    /// Sums of the spans' rows: 0 first, one more than there are spans.
    pub cumulative_rows: Vec<u32>,
    /// Blocks that hold the contexts, span after span.
    pub blocks: Vec<u32>,
    /// The contexts' positions among the slots of [`Self::blocks`], span after span.
    pub context: Vec<u32>,
    /// Sums of the contexts' lengths: 0 first, one more than there are spans.
    pub cumulative_context: Vec<u32>,
}

impl AttentionMetadata {
    /// For layers with `window`: position i sees i - window + 1 ..= i.
    pub fn new(
        spans: &[SequenceSpan],
        block_size: usize,
        window: Option<usize>,
        long: LongContexts,
    ) -> Self {
        let mut prefills = Prefills {
            cumulative_rows: vec![0],
            cumulative_context: vec![0],
            ..Prefills::default()
        };
        let cut = |span: &SequenceSpan| window.is_some_and(|w| span.context_len() > w);
        let (single, gathered): (Vec<_>, Vec<_>) = spans
            .iter()
            .partition(|span| span.rows.len() == 1 && !cut(span));
        let (far, near): (Vec<&SequenceSpan>, Vec<_>) = single
            .into_iter()
            .partition(|span| span.context_len() > long.above);
        let groups = (!near.is_empty()).then_some(near.as_slice()).into_iter();
        let groups = groups.chain(far.chunks(long.group.max(1)));
        let decodes: Vec<Decodes> = groups.map(|g| Decodes::of(g, block_size)).collect();
        prefills.max_rows = gathered.iter().map(|s| s.rows.len()).max().unwrap_or(0);
        for span in &gathered {
            prefills.push(span, block_size, window);
        }
        let slots = spans.iter().flat_map(|s| s.slot_mapping(block_size));
        Self {
            slot_mapping: slots.map(|slot| slot as i64).collect(),
            results: results(&decodes, &prefills),
            decodes,
            prefills,
        }
    }
}

impl Decodes {
    fn of(spans: &[&SequenceSpan], block_size: usize) -> Self {
        let blocks_of = |span: &SequenceSpan| span.context_len().div_ceil(block_size);
        let mut decodes = Self {
            max_blocks: spans.iter().map(|s| blocks_of(s)).max().unwrap_or(0),
            ..Self::default()
        };
        for span in spans {
            decodes.push(span, blocks_of(span));
        }
        decodes
    }

    fn push(&mut self, span: &SequenceSpan, n_blocks: usize) {
        self.rows.push(span.rows.start as u32);
        let table = span.block_table.iter().copied().take(n_blocks);
        let padding = std::iter::repeat_n(0, self.max_blocks - n_blocks);
        self.block_tables.extend(table.chain(padding));
        self.context_lens.push(span.context_len() as u32);
        self.max_context_len = self.max_context_len.max(span.context_len());
    }
}

impl Prefills {
    /// Spans there are.
    pub fn n_spans(&self) -> usize {
        self.cumulative_rows.len() - 1
    }

    fn push(&mut self, span: &SequenceSpan, block_size: usize, window: Option<usize>) {
        let own = span.rows.clone().map(|r| r as u32);
        let padding = std::iter::repeat_n(span.rows.start as u32, self.max_rows - span.rows.len());
        self.rows.extend(own.chain(padding));
        // Positions before the first row's window are seen by no row of the span.
        let start = window.map_or(0, |w| (span.past + 1).saturating_sub(w));
        let first_block = start / block_size;
        let gathered = self.blocks.len() * block_size;
        let n_blocks = span.context_len().div_ceil(block_size);
        self.blocks.extend(&span.block_table[first_block..n_blocks]);
        let positions = start..span.context_len();
        self.context
            .extend(positions.map(|p| (gathered + p - first_block * block_size) as u32));
        let more = |sums: &mut Vec<u32>, n: usize| {
            let sum = sums.last().copied().unwrap_or(0);
            sums.push(sum + n as u32);
        };
        more(&mut self.cumulative_rows, span.rows.len());
        more(&mut self.cumulative_context, span.context_len() - start);
    }
}

fn results(decodes: &[Decodes], prefills: &Prefills) -> Option<Vec<u32>> {
    let decoded: Vec<u32> = decodes.iter().flat_map(|d| d.rows.clone()).collect();
    let n_rows = prefills.cumulative_rows.last().copied().unwrap_or(0) as usize;
    let mut places = vec![0; decoded.len() + n_rows];
    for (place, row) in decoded.iter().enumerate() {
        places[*row as usize] = place as u32;
    }
    for span in 0..prefills.n_spans() {
        let sums = &prefills.cumulative_rows;
        let n = (sums[span + 1] - sums[span]) as usize;
        let first = span * prefills.max_rows;
        for (i, row) in prefills.rows[first..first + n].iter().enumerate() {
            places[*row as usize] = (decoded.len() + first + i) as u32;
        }
    }
    let in_order = places.iter().enumerate().all(|(i, p)| i == *p as usize);
    let all = places.len() == decoded.len() + prefills.rows.len();
    (!(in_order && all)).then_some(places)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    const BLOCK: usize = 4;

    /// Spans of (past, rows), each with blocks of its own.
    fn spans(lengths: &[(usize, usize)]) -> Vec<SequenceSpan> {
        let (mut row, mut block) = (0, 0);
        let span = |&(past, rows): &(usize, usize)| {
            let n_blocks = (past + rows).div_ceil(BLOCK);
            // Descending, so that order matters.
            let table: Vec<u32> = (block..block + n_blocks as u32).rev().collect();
            let span = SequenceSpan {
                rows: row..row + rows,
                past,
                block_table: Arc::from(table),
                lora: None,
            };
            row += rows;
            block += n_blocks as u32;
            span
        };
        lengths.iter().map(span).collect()
    }

    fn slot(span: &SequenceSpan, position: usize) -> u32 {
        span.block_table[position / BLOCK] * BLOCK as u32 + (position % BLOCK) as u32
    }

    /// What a kernel would read: for each packed row, its result's place and the slots that it sees.
    fn read(metadata: &AttentionMetadata, window: Option<usize>) -> Vec<(u32, Vec<u32>)> {
        let mut by_place = Vec::new();
        for decodes in &metadata.decodes {
            for (i, len) in decodes.context_lens.iter().enumerate() {
                let table = &decodes.block_tables[i * decodes.max_blocks..][..decodes.max_blocks];
                let at = |p: usize| table[p / BLOCK] * BLOCK as u32 + (p % BLOCK) as u32;
                by_place.push((0..*len as usize).map(at).collect());
            }
        }
        let prefills = &metadata.prefills;
        for span in 0..prefills.n_spans() {
            let range = |sums: &[u32]| sums[span] as usize..sums[span + 1] as usize;
            let n_rows = range(&prefills.cumulative_rows).len();
            let context = &prefills.context[range(&prefills.cumulative_context)];
            let slots: Vec<u32> = context
                .iter()
                .map(|c| {
                    let block = prefills.blocks[*c as usize / BLOCK];
                    block * BLOCK as u32 + *c % BLOCK as u32
                })
                .collect();
            for i in 0..prefills.max_rows {
                // The rows are the last of the context.
                let end = (slots.len() + i + 1)
                    .saturating_sub(n_rows)
                    .min(slots.len());
                let start = window.map_or(0, |w| end.saturating_sub(w));
                by_place.push(slots[start..end].to_vec());
            }
        }
        let n_rows = metadata.slot_mapping.len();
        let places = match &metadata.results {
            Some(places) => places.clone(),
            None => (0..n_rows as u32).collect(),
        };
        let of_place = |p: u32| (p, by_place[p as usize].clone());
        places.into_iter().map(of_place).collect()
    }

    proptest! {
        #[test]
        fn every_row_sees_its_own_positions(
            lengths in proptest::collection::vec((0usize..20, 1usize..9), 1..7),
            decodes in proptest::collection::vec(0usize..20, 0..5),
            window in proptest::option::of(1usize..12), above in 1usize..20,
        ) {
            let mut lengths = lengths;
            // Decodes between the others.
            for (i, past) in decodes.into_iter().enumerate() {
                lengths.insert((2 * i).min(lengths.len()), (past, 1));
            }
            let spans = spans(&lengths);
            let long = LongContexts { above, group: 2 };
            let metadata = AttentionMetadata::new(&spans, BLOCK, window, long);
            for group in &metadata.decodes {
                prop_assert!(group.max_context_len <= above || group.rows.len() <= 2);
            }
            let seen = read(&metadata, window);
            for span in &spans {
                for (i, row) in span.rows.clone().enumerate() {
                    let position = span.past + i;
                    let start = window.map_or(0, |w| (position + 1).saturating_sub(w));
                    let want: Vec<u32> = (start..=position).map(|p| slot(span, p)).collect();
                    prop_assert_eq!(&seen[row].1, &want, "row {} of {:?}", row, lengths);
                    prop_assert_eq!(metadata.slot_mapping[row], i64::from(slot(span, position)));
                }
            }
        }
    }

    const NONE_LONG: LongContexts = LongContexts {
        above: 1000,
        group: 1,
    };

    #[test]
    fn steady_decoding_needs_no_gathering_and_no_reordering() {
        let of = |lengths| AttentionMetadata::new(&spans(lengths), BLOCK, None, NONE_LONG);
        let metadata = of(&[(5, 1), (0, 1), (9, 1)]);
        assert_eq!(metadata.results, None);
        assert_eq!(metadata.prefills.n_spans(), 0);
        let [decodes] = metadata.decodes.as_slice() else {
            panic!("one call")
        };
        assert_eq!(decodes.rows, [0, 1, 2]);
        assert_eq!(decodes.context_lens, [6, 1, 10]);
        assert_eq!(decodes.max_context_len, 10);
        assert_eq!(decodes.block_tables, [1, 0, 0, 2, 0, 0, 5, 4, 3]);
        assert_eq!(of(&[(0, 3), (5, 1)]).results, Some(vec![1, 2, 3, 0]));
        assert_eq!(of(&[(8, 3)]).results, None);
        assert_eq!(of(&[(8, 3)]).decodes, []);
    }
}
