//! Keys and values in blocks, in the type that they are kept as.

use half::f16;

use super::tile::{Chunk, Tile, CHUNK_BLOCKS, LANES};
use super::BLOCK_SIZE;
use crate::input::SequenceSpan;

/// A number of 2 bytes by its bits: zeros of integers come from the system without being written.
pub(super) type F16Bits = u16;

/// What a key or a value is kept as.
pub(super) trait Element: Copy + Default + Send + Sync + PartialEq {
    /// Whether the numbers of a position and head have a factor of their own.
    const SCALED: bool;

    /// The nearest that there is.
    fn keep(value: f32) -> Self;

    /// As f32, exactly; `room` may hold them.
    fn widen<'a>(kept: &'a [[Self; LANES]], room: &'a mut Vec<[f32; LANES]>) -> &'a [[f32; LANES]];

    /// [`super::avx512`]'s way of [`super::portable::absorb`].
    #[cfg(target_arch = "x86_64")]
    fn absorb_avx512(chunk: &Chunk<Self>, tile: &mut Tile);
}

/// Keys and values of all blocks of a layer.
#[derive(Debug)]
pub(super) struct Blocks<T> {
    /// (block, kv head, head_dim) of `BLOCK_SIZE` positions: scores of 16 positions are computed side by side.
    keys: Vec<[T; LANES]>,
    /// (block, kv head, position, vectors): head_dim numbers and zeros up to whole vectors.
    values: Vec<[T; LANES]>,
    /// (block, kv head) of `BLOCK_SIZE` positions: factors of keys and of values; empty where there are none.
    scales: [Vec<[f32; BLOCK_SIZE]>; 2],
    n_kv_heads: usize,
    head_dim: usize,
}

impl<T: Element> Blocks<T> {
    pub(super) fn new(n_blocks: usize, n_kv_heads: usize, head_dim: usize) -> Self {
        let n = n_blocks * n_kv_heads;
        let scales = || vec![[0f32; BLOCK_SIZE]; if T::SCALED { n } else { 0 }];
        Self {
            keys: vec![[T::default(); LANES]; n * head_dim],
            values: vec![[T::default(); LANES]; n * BLOCK_SIZE * head_dim.div_ceil(LANES)],
            scales: [scales(), scales()],
            n_kv_heads,
            head_dim,
        }
    }

    /// Vectors of a head's values.
    pub(super) fn vectors(&self) -> usize {
        self.head_dim.div_ceil(LANES)
    }

    pub(super) fn write(&mut self, k: &[f32], v: &[f32], spans: &[SequenceSpan]) {
        let slots = spans
            .iter()
            .flat_map(|s| s.rows.clone().zip(s.slot_mapping(BLOCK_SIZE)));
        for (row, slot) in slots {
            for head in 0..self.n_kv_heads {
                let from = (row * self.n_kv_heads + head) * self.head_dim;
                let [k, v] = [k, v].map(|x| &x[from..from + self.head_dim]);
                self.write_head(slot, head, k, v);
            }
        }
    }

    fn write_head(&mut self, slot: usize, head: usize, k: &[f32], v: &[f32]) {
        let (head_dim, vectors) = (self.head_dim, self.vectors());
        let at = slot / BLOCK_SIZE * self.n_kv_heads + head;
        let position = slot % BLOCK_SIZE;
        let mut inverse = [1.0; 2];
        if T::SCALED {
            for (inverse, (scales, x)) in inverse.iter_mut().zip(self.scales.iter_mut().zip([k, v]))
            {
                let scale = scale(x);
                scales[at][position] = scale;
                *inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            }
        }
        let keys = &mut self.keys[at * head_dim..(at + 1) * head_dim];
        for (kept, value) in keys.iter_mut().zip(k) {
            kept[position] = T::keep(value * inverse[0]);
        }
        let values = &mut self.values[(at * BLOCK_SIZE + position) * vectors..][..vectors];
        for (kept, values) in values.iter_mut().zip(v.chunks(LANES)) {
            for (kept, value) in kept.iter_mut().zip(values) {
                *kept = T::keep(value * inverse[1]);
            }
        }
    }

    /// What one key head has in `blocks`, of which there are no more than [`CHUNK_BLOCKS`].
    pub(super) fn chunk(&self, blocks: &[u32], head: usize) -> Chunk<'_, T> {
        let (keys, values) = (self.head_dim, BLOCK_SIZE * self.vectors());
        let mut chunk = Chunk {
            keys: [&[]; CHUNK_BLOCKS],
            values: [&[]; CHUNK_BLOCKS],
            scales: [[&[0.0; BLOCK_SIZE]; CHUNK_BLOCKS]; 2],
            n_blocks: blocks.len(),
            next: None,
        };
        for (b, block) in blocks.iter().enumerate() {
            let at = *block as usize * self.n_kv_heads + head;
            chunk.keys[b] = &self.keys[at * keys..(at + 1) * keys];
            chunk.values[b] = &self.values[at * values..(at + 1) * values];
            if T::SCALED {
                chunk.scales[0][b] = &self.scales[0][at];
                chunk.scales[1][b] = &self.scales[1][at];
            }
        }
        chunk
    }
}

/// By which numbers are divided to be in -127..=127. What is not finite makes all of them NaN.
fn scale(values: &[f32]) -> f32 {
    let greatest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
    let is_finite = values.iter().all(|v| v.is_finite());
    if is_finite {
        greatest / 127.0
    } else {
        f32::NAN
    }
}

impl Element for f32 {
    const SCALED: bool = false;

    #[inline(always)]
    fn keep(value: f32) -> Self {
        value
    }

    fn widen<'a>(kept: &'a [[Self; LANES]], _: &'a mut Vec<[f32; LANES]>) -> &'a [[f32; LANES]] {
        kept
    }

    #[cfg(target_arch = "x86_64")]
    fn absorb_avx512(chunk: &Chunk<Self>, tile: &mut Tile) {
        super::avx512::absorb_f32(chunk, tile);
    }
}

impl Element for F16Bits {
    const SCALED: bool = false;

    #[inline(always)]
    fn keep(value: f32) -> Self {
        // An infinity would make every later row NaN.
        let most = f32::from(f16::MAX);
        f16::from_f32(value.clamp(-most, most)).to_bits()
    }

    fn widen<'a>(kept: &'a [[Self; LANES]], room: &'a mut Vec<[f32; LANES]>) -> &'a [[f32; LANES]] {
        room.clear();
        room.extend(
            kept.iter()
                .map(|bits| bits.map(|b| f16::from_bits(b).to_f32())),
        );
        room
    }

    #[cfg(target_arch = "x86_64")]
    fn absorb_avx512(chunk: &Chunk<Self>, tile: &mut Tile) {
        super::avx512::absorb_f16(chunk, tile);
    }
}

impl Element for i8 {
    const SCALED: bool = true;

    #[inline(always)]
    fn keep(value: f32) -> Self {
        value.round_ties_even() as i8
    }

    fn widen<'a>(kept: &'a [[Self; LANES]], room: &'a mut Vec<[f32; LANES]>) -> &'a [[f32; LANES]] {
        room.clear();
        room.extend(kept.iter().map(|bytes| bytes.map(f32::from)));
        room
    }

    #[cfg(target_arch = "x86_64")]
    fn absorb_avx512(chunk: &Chunk<Self>, tile: &mut Tile) {
        super::avx512::absorb_i8(chunk, tile);
    }
}
