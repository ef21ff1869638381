//! What a kernel is given: a few queries, and a few blocks that they see.

use std::ops::Range;

use super::BLOCK_SIZE;

/// Numbers of a vector, as wide as there are.
pub(super) const LANES: usize = 16;
/// Blocks of a chunk.
pub(super) const CHUNK_BLOCKS: usize = 4;
/// Positions whose scores are there before the first value is weighed.
pub(super) const CHUNK: usize = CHUNK_BLOCKS * BLOCK_SIZE;
/// Queries of a tile, at most: 6 times 4 vectors of sums, 4 of keys or values and one number of a query fit
/// 32 registers.
pub(super) const QUERIES: usize = 6;

/// Keys and values of one head at up to [`CHUNK`] positions, from a multiple of it on.
pub(super) struct Chunk<'a, T> {
    /// (head_dim) of `BLOCK_SIZE` positions.
    pub(super) keys: [&'a [[T; LANES]]; CHUNK_BLOCKS],
    /// (position, vectors).
    pub(super) values: [&'a [[T; LANES]]; CHUNK_BLOCKS],
    /// Factors of keys and of values, where their type has them.
    pub(super) scales: [[&'a [f32; BLOCK_SIZE]; CHUNK_BLOCKS]; 2],
    pub(super) n_blocks: usize,
    /// Keys and values of the chunk that will be computed next, for memory to bring them.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "a hint of one kernel")
    )]
    pub(super) next: Option<[[&'a [[T; LANES]]; CHUNK_BLOCKS]; 2]>,
}

/// Up to [`QUERIES`] queries of one key head and what they know so far. Each sees something of the chunk.
pub(super) struct Tile<'a> {
    /// Those of the tile, (head_dim, stride), times the factor of the scores.
    pub(super) q: &'a [f32],
    pub(super) stride: usize,
    /// The positions of the chunk that each query sees.
    pub(super) visible: &'a [Range<usize>],
    /// The greatest score so far.
    pub(super) maxima: &'a mut [f32],
    /// Sums of e^(score - maximum), lane by lane.
    pub(super) sums: &'a mut [[f32; LANES]],
    /// Values times e^(score - maximum), (query, vectors).
    pub(super) out: &'a mut [[f32; LANES]],
}

impl Tile<'_> {
    /// Vectors of a head's values.
    pub(super) fn vectors(&self) -> usize {
        self.out.len() / self.visible.len()
    }

    /// The queries from `start` on that see the same positions. They go through values together, and others do
    /// not: values that only a later row sees are never multiplied into an earlier one, whatever they are.
    pub(super) fn run(&self, start: usize) -> Range<usize> {
        let same = self.visible[start..]
            .iter()
            .take_while(|v| **v == self.visible[start]);
        start..start + same.count()
    }
}
