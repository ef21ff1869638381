//! Causal attention of packed rows over block-paged keys and values.
//!
//! Queries of neighbouring rows and of all heads that share a key head go together, a tile of a few of
//! them, once through the keys and values that they see, with a running softmax. What of a context is
//! added up in which order follows from positions alone: `tile::CHUNK` positions by themselves, chunk
//! after chunk within `RANGE` positions, and then range after range, whoever computed them. So a row's
//! result depends on the sequence's keys, values and the row's position only: not on the chunk of a prompt
//! it came in, the blocks that hold its context, its neighbours, or the number of threads.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
mod portable;
mod state;
#[cfg(test)]
mod tests;
mod tile;
mod units;

use half::f16;

use self::blocks::Blocks;
use self::tile::LANES;
use self::units::Cut;
use crate::input::SequenceSpan;
use crate::placement::Route;

/// Positions of a KV block: a vector of them.
pub const BLOCK_SIZE: usize = 16;
/// Positions whose parts of a sum come together before those of the next ones do: what threads may share out
/// of one row.
const RANGE: usize = 4 * tile::CHUNK;

/// The numbers that attention needs of a layer.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Position i sees i - window + 1 ..= i; `None` sees all.
    pub window: Option<usize>,
    /// Who computes.
    pub route: Route,
}

/// What keys and values are kept as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    /// As they are.
    #[default]
    F32,
    /// In 2 bytes; what f16 cannot hold becomes its largest number.
    F16,
    /// In 1 byte, with a factor for each position and head.
    Int8,
}

impl KvType {
    /// Bytes of one block of one layer.
    pub fn block_bytes(self, n_kv_heads: usize, head_dim: usize) -> usize {
        let numbers = n_kv_heads * BLOCK_SIZE * (head_dim + head_dim.next_multiple_of(LANES));
        match self {
            Self::F32 => numbers * size_of::<f32>(),
            Self::F16 => numbers * size_of::<f16>(),
            Self::Int8 => numbers + 2 * n_kv_heads * BLOCK_SIZE * size_of::<f32>(),
        }
    }
}

/// Keys and values of one layer for every block.
#[derive(Debug)]
pub struct LayerKv(Kept);

#[derive(Debug)]
enum Kept {
    F32(Blocks<f32>),
    F16(Blocks<blocks::F16Bits>),
    Int8(Blocks<i8>),
}

impl LayerKv {
    /// Room for `n_blocks`.
    pub fn new(kept_as: KvType, n_blocks: usize, n_kv_heads: usize, head_dim: usize) -> Self {
        Self(match kept_as {
            KvType::F32 => Kept::F32(Blocks::new(n_blocks, n_kv_heads, head_dim)),
            KvType::F16 => Kept::F16(Blocks::new(n_blocks, n_kv_heads, head_dim)),
            KvType::Int8 => Kept::Int8(Blocks::new(n_blocks, n_kv_heads, head_dim)),
        })
    }

    /// Keeps the keys and values of this step's rows, each (rows, kv heads * head_dim).
    pub fn write(&mut self, k: &[f32], v: &[f32], spans: &[SequenceSpan]) {
        match &mut self.0 {
            Kept::F32(blocks) => blocks.write(k, v, spans),
            Kept::F16(blocks) => blocks.write(k, v, spans),
            Kept::Int8(blocks) => blocks.write(k, v, spans),
        }
    }

    /// Attention of every row; q is (rows, heads * head_dim), and so is the result. The rows' own
    /// keys and values have been written.
    pub fn attend(&self, shape: AttentionShape, q: &[f32], spans: &[SequenceSpan]) -> Vec<f32> {
        let cut = Cut::new(shape, spans);
        match &self.0 {
            Kept::F32(blocks) => units::attend(blocks, shape, q, &cut),
            Kept::F16(blocks) => units::attend(blocks, shape, q, &cut),
            Kept::Int8(blocks) => units::attend(blocks, shape, q, &cut),
        }
    }
}
