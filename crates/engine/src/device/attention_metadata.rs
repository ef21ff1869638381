//! What attention kernels of other devices need to know about a pass, as plain integers.
//!
//! Spans of one row (decodes) go to a kernel that reads keys and values through block tables; longer
//! ones, and those that a sliding window cuts, have their context gathered first.

use attune_model::input::SequenceSpan;

/// Bytes that the gathered contexts of one call may take: keys and values, and one of them in two orders at
/// a time.
pub const GATHERED_BYTES: usize = 256 << 20;

/// Rows that a block of threads of the kernel for gathered contexts works on.
const TILE: usize = 8;

/// A pass as layers with one sliding window see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttentionMetadata {
    /// KV slot of each packed row.
    pub slot_mapping: Vec<i64>,
    /// Rows whose whole context is read in place: a group is one call of the kernel.
    pub decodes: Vec<Decodes>,
    /// The others: a group is one call of the other kernel.
    pub prefills: Vec<Prefills>,
    /// Where each packed row's result is: the decodes' results come first, then the prefills', padding
    /// included. `None`: they are in the rows' own order.
    pub results: Option<Vec<u32>>,
}

/// What one call of a kernel may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Positions above which the context of a decode is long.
    pub long_context: usize,
    /// Decodes with long contexts.
    pub long_decodes: usize,
    /// Rows of gathered spans, padding included; a span that has more is alone.
    pub padded_rows: usize,
    /// Positions that are gathered; a span that has more is alone.
    pub gathered: usize,
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
        limits: CallLimits,
    ) -> Self {
        let cut = |span: &SequenceSpan| window.is_some_and(|w| span.context_len() > w);
        let (single, gathered): (Vec<_>, Vec<_>) = spans
            .iter()
            .partition(|span| span.rows.len() == 1 && !cut(span));
        let (far, near): (Vec<&SequenceSpan>, Vec<_>) = single
            .into_iter()
            .partition(|span| span.context_len() > limits.long_context);
        let groups = (!near.is_empty()).then_some(near.as_slice()).into_iter();
        let groups = groups.chain(far.chunks(limits.long_decodes.max(1)));
        let decodes: Vec<Decodes> = groups.map(|g| Decodes::of(g, block_size)).collect();
        let groups = of_like_length(gathered, window, limits);
        let prefills = groups.iter().map(|g| Prefills::of(g, block_size, window));
        let prefills: Vec<Prefills> = prefills.collect();
        let slots = spans.iter().flat_map(|s| s.slot_mapping(block_size));
        Self {
            slot_mapping: slots.map(|slot| slot as i64).collect(),
            results: results(&decodes, &prefills),
            decodes,
            prefills,
        }
    }
}

/// Groups of spans for one call each. A call pads all its spans to the longest one, and padding costs as
/// much as rows do: no span is padded to twice its rows, or it has no more than a tile of them.
fn of_like_length(
    mut spans: Vec<&SequenceSpan>,
    window: Option<usize>,
    limits: CallLimits,
) -> Vec<Vec<&SequenceSpan>> {
    let class = |span: &SequenceSpan| span.rows.len().div_ceil(TILE).next_power_of_two();
    spans.sort_by_key(|span| class(span));
    let mut groups: Vec<Vec<&SequenceSpan>> = Vec::new();
    let mut gathered = 0;
    for span in spans {
        let context = gathered_len(span, window);
        let fits = groups.last().is_some_and(|group| {
            let longest = group.iter().chain([&span]).map(|s| s.rows.len()).max();
            let padded = longest.unwrap_or(0) * (group.len() + 1);
            class(group[0]) == class(span)
                && padded <= limits.padded_rows
                && gathered + context <= limits.gathered
        });
        match groups.last_mut().filter(|_| fits) {
            Some(group) => group.push(span),
            None => {
                groups.push(vec![span]);
                gathered = 0;
            }
        }
        gathered += context;
    }
    groups
}

/// Positions before this one are seen by no row of the span.
fn first_seen(span: &SequenceSpan, window: Option<usize>) -> usize {
    window.map_or(0, |w| (span.past + 1).saturating_sub(w))
}

fn gathered_len(span: &SequenceSpan, window: Option<usize>) -> usize {
    span.context_len() - first_seen(span, window)
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
    fn of(spans: &[&SequenceSpan], block_size: usize, window: Option<usize>) -> Self {
        let mut prefills = Self {
            max_rows: spans.iter().map(|s| s.rows.len()).max().unwrap_or(0),
            cumulative_rows: vec![0],
            cumulative_context: vec![0],
            ..Self::default()
        };
        for span in spans {
            prefills.push(span, block_size, window);
        }
        prefills
    }

    /// Spans there are.
    pub fn n_spans(&self) -> usize {
        self.cumulative_rows.len() - 1
    }

    fn push(&mut self, span: &SequenceSpan, block_size: usize, window: Option<usize>) {
        let own = span.rows.clone().map(|r| r as u32);
        let padding = std::iter::repeat_n(span.rows.start as u32, self.max_rows - span.rows.len());
        self.rows.extend(own.chain(padding));
        let start = first_seen(span, window);
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
        more(&mut self.cumulative_context, gathered_len(span, window));
    }
}

fn results(decodes: &[Decodes], prefills: &[Prefills]) -> Option<Vec<u32>> {
    // (packed row, place of its result); the place of padding is nobody's.
    let mut placed: Vec<(u32, u32)> = Vec::new();
    let decoded = decodes.iter().flat_map(|d| d.rows.iter().copied());
    placed.extend(decoded.zip(0..));
    let mut before = placed.len();
    for group in prefills {
        for span in 0..group.n_spans() {
            let sums = &group.cumulative_rows;
            let n = (sums[span + 1] - sums[span]) as usize;
            let first = span * group.max_rows;
            let rows = group.rows[first..first + n].iter().copied();
            placed.extend(rows.zip((before + first) as u32..));
        }
        before += group.rows.len();
    }
    let mut places = vec![0; placed.len()];
    for (row, place) in placed {
        places[row as usize] = place;
    }
    let in_order = places.iter().enumerate().all(|(i, p)| i == *p as usize);
    (!(in_order && places.len() == before)).then_some(places)
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
        for prefills in &metadata.prefills {
            for span in 0..prefills.n_spans() {
                by_place.extend(read_span(prefills, span, window));
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

    /// The slots that each row of a gathered span sees, padding included.
    fn read_span(prefills: &Prefills, span: usize, window: Option<usize>) -> Vec<Vec<u32>> {
        let range = |sums: &[u32]| sums[span] as usize..sums[span + 1] as usize;
        let n_rows = range(&prefills.cumulative_rows).len();
        let slot = |c: &u32| {
            let block = prefills.blocks[*c as usize / BLOCK];
            block * BLOCK as u32 + *c % BLOCK as u32
        };
        let context = &prefills.context[range(&prefills.cumulative_context)];
        let slots: Vec<u32> = context.iter().map(slot).collect();
        let seen = |i: usize| {
            // The rows are the last of the context.
            let end = (slots.len() + i + 1).saturating_sub(n_rows);
            let end = end.min(slots.len());
            let start = window.map_or(0, |w| end.saturating_sub(w));
            slots[start..end].to_vec()
        };
        (0..prefills.max_rows).map(seen).collect()
    }

    fn check_limits(metadata: &AttentionMetadata, limits: CallLimits) {
        for group in &metadata.decodes {
            assert!(group.max_context_len <= limits.long_context || group.rows.len() <= 2);
        }
        for group in &metadata.prefills {
            let rows: Vec<u32> = group
                .cumulative_rows
                .windows(2)
                .map(|w| w[1] - w[0])
                .collect();
            let alone = rows.len() == 1;
            assert!(alone || group.rows.len() <= limits.padded_rows);
            assert!(alone || group.context.len() <= limits.gathered);
            for n in rows {
                let n = (n as usize).div_ceil(TILE);
                assert!(group.max_rows.div_ceil(TILE) < 2 * n.max(1) || n == 1);
            }
        }
    }

    proptest! {
        #[test]
        fn every_row_sees_its_own_positions(
            lengths in proptest::collection::vec((0usize..20, 1usize..60), 1..7),
            decodes in proptest::collection::vec(0usize..20, 0..5),
            window in proptest::option::of(1usize..12), long_context in 1usize..20,
            padded_rows in 1usize..200, gathered in 1usize..100,
        ) {
            let mut lengths = lengths;
            // Decodes between the others.
            for (i, past) in decodes.into_iter().enumerate() {
                lengths.insert((2 * i).min(lengths.len()), (past, 1));
            }
            let spans = spans(&lengths);
            let limits = CallLimits { long_context, long_decodes: 2, padded_rows, gathered };
            let metadata = AttentionMetadata::new(&spans, BLOCK, window, limits);
            check_limits(&metadata, limits);
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

    const WIDE: CallLimits = CallLimits {
        long_context: 1000,
        long_decodes: 1,
        padded_rows: 1000,
        gathered: 1000,
    };

    #[test]
    fn steady_decoding_needs_no_gathering_and_no_reordering() {
        let of = |lengths| AttentionMetadata::new(&spans(lengths), BLOCK, None, WIDE);
        let metadata = of(&[(5, 1), (0, 1), (9, 1)]);
        assert_eq!(metadata.results, None);
        assert_eq!(metadata.prefills, []);
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

    #[test]
    fn a_short_span_is_not_padded_to_a_long_one() {
        let lengths = [(0, 100), (3, 2), (0, 9), (8, 120), (0, 7)];
        let metadata = AttentionMetadata::new(&spans(&lengths), BLOCK, None, WIDE);
        let groups = metadata.prefills.iter().map(|g| (g.n_spans(), g.max_rows));
        assert_eq!(groups.collect::<Vec<_>>(), [(2, 7), (1, 9), (2, 120)]);
    }
}
