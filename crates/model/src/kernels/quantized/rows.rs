//! Rows of x in bytes: 32 inputs with one scale, made once for all products with the same x.

use rayon::prelude::*;

use super::format::INPUTS;

/// Rows that go through a panel together, at most: their sums and the numbers of 32 inputs fit the registers.
pub(super) const TILE: usize = 8;
/// Values below which waking another thread costs more than it saves.
const SERIAL_VALUES: usize = 1 << 15;

/// 32 inputs of one row.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Bytes {
    /// x / scale, rounded, from -127 to 127.
    pub values: [i8; INPUTS],
    /// Greatest magnitude / 127; NaN if there is an input that is not finite.
    pub scale: f32,
    /// scale * the sum of values.
    pub sum: f32,
    /// The sum of values, negative: of all, and of the first 16.
    pub minus: [i32; 2],
}

/// Some rows, in tiles: block by block, those of each row of the tile.
#[derive(Debug)]
pub(super) struct Rows {
    pub bytes: Vec<Bytes>,
    pub n_rows: usize,
    n_in: usize,
}

/// A tile of rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile<'a> {
    /// (blocks, rows).
    pub bytes: &'a [Bytes],
    pub n_rows: usize,
}

impl Rows {
    /// x is (rows, in), in a multiple of 32.
    pub fn new(x: &[f32], n_in: usize) -> Self {
        let n_rows = x.len() / n_in;
        let mut bytes = vec![Bytes::ZERO; x.len() / INPUTS];
        let tile = tile_rows(n_rows);
        let convert = |(x, bytes): (&[f32], &mut [Bytes])| {
            let n_rows = x.len() / n_in;
            for (r, row) in x.chunks_exact(n_in).enumerate() {
                let places = bytes.iter_mut().skip(r).step_by(n_rows);
                for (block, place) in row.chunks_exact(INPUTS).zip(places) {
                    *place = Bytes::of(block);
                }
            }
        };
        if x.len() < SERIAL_VALUES {
            let tiles = x.chunks(tile * n_in);
            tiles
                .zip(bytes.chunks_mut(tile * n_in / INPUTS))
                .for_each(convert);
        } else {
            let tiles = x.par_chunks(tile * n_in);
            tiles
                .zip(bytes.par_chunks_mut(tile * n_in / INPUTS))
                .for_each(convert);
        }
        Self {
            bytes,
            n_rows,
            n_in,
        }
    }

    /// The tiles in order.
    pub fn tiles(&self) -> impl Iterator<Item = Tile<'_>> {
        let blocks = self.n_in / INPUTS;
        let tiles = self.bytes.chunks(tile_rows(self.n_rows) * blocks);
        tiles.map(move |bytes| Tile {
            bytes,
            n_rows: bytes.len() / blocks,
        })
    }
}

/// Rows of each tile but the last: 10 rows go as 5 + 5, not 8 + 2.
fn tile_rows(n_rows: usize) -> usize {
    n_rows.div_ceil(n_rows.div_ceil(TILE).max(1)).max(1)
}

impl Bytes {
    const ZERO: Self = Self {
        values: [0; INPUTS],
        scale: 0.0,
        sum: 0.0,
        minus: [0; 2],
    };

    #[inline]
    fn of(x: &[f32]) -> Self {
        /// Added to a small number, it leaves the nearest integer in the low bits.
        const ROUND: f32 = 12_582_912.0;
        const INFINITE: u32 = 0x7f80_0000;
        /// Below it, 127 / greatest may not be finite.
        const NOTHING: f32 = 1e-30;

        // Of magnitudes, bits are in the order of values; NaN is above all.
        let greatest = x
            .iter()
            .fold(0, |max, v| (v.to_bits() & !(1 << 31)).max(max));
        if greatest >= INFINITE {
            return Self {
                scale: f32::NAN,
                sum: f32::NAN,
                ..Self::ZERO
            };
        }
        let greatest = f32::from_bits(greatest);
        if greatest < NOTHING {
            return Self::ZERO;
        }
        let by = 127.0 / greatest;
        let mut values = [0; INPUTS];
        for (value, x) in values.iter_mut().zip(x) {
            *value = (x * by + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i8;
        }
        let sum_of = |values: &[i8]| values.iter().map(|v| i32::from(*v)).sum::<i32>();
        let (first, second) = (sum_of(&values[..16]), sum_of(&values[16..]));
        let scale = greatest / 127.0;
        Self {
            values,
            scale,
            sum: scale * (first + second) as f32,
            minus: [-(first + second), -first],
        }
    }
}
