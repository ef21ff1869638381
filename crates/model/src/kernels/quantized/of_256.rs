//! Blocks of 256 inputs (Q4_K, Q5_K, Q6_K) become units of a panel.

use super::format::{put_numbers, Format, HALVES, INPUTS, MULTIPLIERS, PANEL};

/// One block of the file, of output `output` of the panel whose unit `unit` is.
pub(super) fn put(format: Format, block: &[u8], output: usize, unit: &mut [u8]) {
    let (head, steps) = unit.split_at_mut(format.head());
    let halves = match format {
        Format::Q6K => &block[208..],
        _ => &block[..4],
    };
    for (half, places) in halves.chunks(2).zip(head.chunks_mut(HALVES)) {
        places[2 * output..][..2].copy_from_slice(half);
    }
    for (s, step) in steps.chunks_mut(format.step()).enumerate() {
        let (multipliers, rest) = step.split_at_mut(MULTIPLIERS);
        let (both, numbers) = match format {
            Format::Q6K => of_6_bits(block, s),
            Format::Q5K => (
                scale_and_minimum(&block[4..16], s),
                of_5_bits(&block[16..], s),
            ),
            _ => (
                scale_and_minimum(&block[4..16], s),
                of_4_bits(&block[16..], s),
            ),
        };
        multipliers[output] = both[0];
        multipliers[PANEL + output] = both[1];
        put_numbers(format, &numbers, output, rest);
    }
}

/// Multipliers of 6 bits, 8 of scales and 8 of minimums in 12 bytes.
fn scale_and_minimum(bytes: &[u8], s: usize) -> [u8; 2] {
    match s {
        0..4 => [bytes[s] & 63, bytes[s + 4] & 63],
        _ => [
            (bytes[s + 4] & 15) | (bytes[s - 4] >> 6) << 4,
            (bytes[s + 4] >> 4) | (bytes[s] >> 6) << 4,
        ],
    }
}

/// 32 bytes have two times 32 numbers.
fn of_4_bits(bytes: &[u8], s: usize) -> [u8; INPUTS] {
    std::array::from_fn(|i| (bytes[s / 2 * 32 + i] >> (s % 2 * 4)) & 15)
}

/// Fifth bits first: bit s of byte i.
fn of_5_bits(bytes: &[u8], s: usize) -> [u8; INPUTS] {
    let (high, low) = bytes.split_at(32);
    let low = of_4_bits(low, s);
    std::array::from_fn(|i| low[i] | ((high[i] >> s) & 1) << 4)
}

/// 128 inputs at a time: 64 bytes of low halves, 32 of upper bits; scales of 16 inputs behind all.
fn of_6_bits(block: &[u8], s: usize) -> ([u8; 2], [u8; INPUTS]) {
    let (part, s_of_part) = (s / 4, s % 4);
    let low = &block[64 * part + s_of_part % 2 * 32..];
    let high = &block[128 + 32 * part..];
    let numbers = std::array::from_fn(|i| {
        let low = (low[i] >> (s_of_part / 2 * 4)) & 15;
        low | ((high[i] >> (2 * s_of_part)) & 3) << 4
    });
    ([block[192 + 2 * s], block[192 + 2 * s + 1]], numbers)
}
