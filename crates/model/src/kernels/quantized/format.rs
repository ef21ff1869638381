//! The formats, and what a panel holds of each.
//!
//! A panel is a sequence of units: as many inputs as a block of the file has, of 16 outputs.
//!
//! | part of a unit | bytes | |
//! |---|---|---|
//! | scales | 32 | f16 of each output |
//! | minimums | 32 | the same, where the format has them |
//! | for each 32 inputs: multipliers | 32 | of blocks of 256: 16 of the scales, then 16 of the minimums or of the second 16 inputs |
//! | numbers | 256, 320, 384 or 512 | below |
//!
//! Inputs go in groups of 4. A number's low 4 bits are at byte `64 (g % 4) + 4 output + i % 4`, in the upper half of the byte for
//! `g >= 4`; bit 4 of 5 is bit g of byte `256 + 4 output + i % 4`; bits 4 and 5 of 6 are bits `2 (g % 4)` of byte
//! `256 + 64 (g / 4) + 4 output + i % 4`; 8 bits are byte `64 g + 4 output + i % 4`.

use candle_core::quantized::GgmlDType;

/// Outputs of a panel.
pub(super) const PANEL: usize = 16;
/// Inputs that share a scale of x.
pub(super) const INPUTS: usize = 32;
/// Bytes of one f16 of each output.
pub(super) const HALVES: usize = 2 * PANEL;
/// Bytes of the multipliers of 32 inputs.
pub(super) const MULTIPLIERS: usize = 2 * PANEL;

/// How a quantized weight is kept: as the block format of the same name, number for number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 4 bits, a scale for 32.
    Q4_0,
    /// 4 bits, scale and minimum for 32.
    Q4_1,
    /// 5 bits, a scale for 32.
    Q5_0,
    /// 5 bits, scale and minimum for 32.
    Q5_1,
    /// 8 bits, a scale for 32.
    Q8_0,
    /// 4 bits, scale and minimum of 6 bits for 32.
    Q4K,
    /// 5 bits, scale and minimum of 6 bits for 32.
    Q5K,
    /// 6 bits, a scale of 8 bits for 16.
    Q6K,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// The format of a file's blocks; `None`: there is no kernel for them.
    pub fn of(stored: GgmlDType) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.stored() == stored)
    }

    /// The tensor library's name of the blocks.
    pub fn stored(self) -> GgmlDType {
        match self {
            Self::Q4_0 => GgmlDType::Q4_0,
            Self::Q4_1 => GgmlDType::Q4_1,
            Self::Q5_0 => GgmlDType::Q5_0,
            Self::Q5_1 => GgmlDType::Q5_1,
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q4K => GgmlDType::Q4K,
            Self::Q5K => GgmlDType::Q5K,
            Self::Q6K => GgmlDType::Q6K,
        }
    }

    /// Bits of a number.
    pub(super) const fn bits(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q4K => 4,
            Self::Q5_0 | Self::Q5_1 | Self::Q5K => 5,
            Self::Q6K => 6,
            Self::Q8_0 => 8,
        }
    }

    /// What numbers have too much, as a power of two; `None`: nothing.
    pub(super) const fn offset_bits(self) -> Option<u32> {
        match self {
            Self::Q4_0 => Some(3),
            Self::Q5_0 => Some(4),
            Self::Q6K => Some(5),
            Self::Q8_0 => Some(7),
            Self::Q4_1 | Self::Q5_1 | Self::Q4K | Self::Q5K => None,
        }
    }

    /// Whether blocks have a minimum.
    pub(super) const fn has_minimum(self) -> bool {
        self.offset_bits().is_none()
    }

    /// Whether 16 inputs have a scale of their own, not 32.
    pub(super) const fn scales_16(self) -> bool {
        matches!(self, Self::Q6K)
    }

    /// Inputs of a unit: those of a block of the file.
    pub(super) const fn unit_inputs(self) -> usize {
        match self {
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
            _ => INPUTS,
        }
    }

    /// Bytes before the first 32 inputs of a unit.
    pub(super) const fn head(self) -> usize {
        if self.has_minimum() {
            2 * HALVES
        } else {
            HALVES
        }
    }

    /// Bytes of 32 inputs.
    pub(super) const fn step(self) -> usize {
        let numbers = self.bits() * PANEL * INPUTS / 8;
        if self.unit_inputs() == INPUTS {
            numbers
        } else {
            MULTIPLIERS + numbers
        }
    }

    /// Bytes of a unit.
    pub(super) const fn unit(self) -> usize {
        self.head() + self.unit_inputs() / INPUTS * self.step()
    }
}

/// 32 inputs of one output: number `u` is the weight `scale (u - offset) + minimum`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub numbers: [u8; INPUTS],
    /// Of the first 16 inputs and of the others.
    pub scales: [f32; 2],
    pub minimum: f32,
}

/// Block `block` of output `output` of a panel.
#[inline(always)]
pub(super) fn block_of(format: Format, panel: &[u8], block: usize, output: usize) -> Block {
    let of_unit = format.unit_inputs() / INPUTS;
    let unit = &panel[block / of_unit * format.unit()..][..format.unit()];
    let (head, steps) = unit.split_at(format.head());
    let step = &steps[block % of_unit * format.step()..][..format.step()];
    let half = |bytes: &[u8]| {
        half::f16::from_le_bytes([bytes[2 * output], bytes[2 * output + 1]]).to_f32()
    };
    let scale = half(head);
    let minimum = match format.has_minimum() {
        true => half(&head[HALVES..]),
        false => 0.0,
    };
    if of_unit == 1 {
        return Block {
            numbers: numbers(format, step, output),
            scales: [scale; 2],
            minimum,
        };
    }
    let (multipliers, rest) = step.split_at(MULTIPLIERS);
    let [first, second] = [multipliers[output], multipliers[PANEL + output]];
    let (scales, minimum) = match format.scales_16() {
        true => ([first, second].map(|m| scale * f32::from(m as i8)), minimum),
        false => (
            [scale * f32::from(first); 2],
            -(minimum * f32::from(second)),
        ),
    };
    Block {
        numbers: numbers(format, rest, output),
        scales,
        minimum,
    }
}

#[inline(always)]
fn numbers(format: Format, bytes: &[u8], output: usize) -> [u8; INPUTS] {
    let at = |vector: usize, i: usize| bytes[64 * vector + 4 * output + i % 4];
    std::array::from_fn(|i| {
        let g = i / 4;
        if format.bits() == 8 {
            return at(g, i);
        }
        let low = (at(g % 4, i) >> (g / 4 * 4)) & 15;
        let high = match format.bits() {
            5 => (at(4, i) >> g) & 1,
            6 => (at(4 + g / 4, i) >> (2 * (g % 4))) & 3,
            _ => 0,
        };
        low | high << 4
    })
}

/// Puts 32 numbers of an output where [`block_of`] finds them; `bytes` were 0.
pub(super) fn put_numbers(format: Format, numbers: &[u8; INPUTS], output: usize, bytes: &mut [u8]) {
    for (i, number) in numbers.iter().enumerate() {
        let g = i / 4;
        let mut or = |vector: usize, bits: u8| bytes[64 * vector + 4 * output + i % 4] |= bits;
        if format.bits() == 8 {
            or(g, *number);
            continue;
        }
        or(g % 4, (number & 15) << (g / 4 * 4));
        match format.bits() {
            5 => or(4, (number >> 4) << g),
            6 => or(4 + g / 4, (number >> 4) << (2 * (g % 4))),
            _ => {}
        }
    }
}
