//! Blocks of 32 inputs (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0) become units of a panel.

use super::format::{put_numbers, Format, HALVES, INPUTS};

/// One block of the file, of output `output` of the panel whose unit `unit` is.
pub(super) fn put(format: Format, block: &[u8], output: usize, unit: &mut [u8]) {
    let (halves, rest) = block.split_at(format.head() / HALVES * 2);
    let (head, step) = unit.split_at_mut(format.head());
    for (half, places) in halves.chunks(2).zip(head.chunks_mut(HALVES)) {
        places[2 * output..][..2].copy_from_slice(half);
    }
    let numbers: [u8; INPUTS] = match format.bits() {
        // Signed in the file.
        8 => std::array::from_fn(|i| rest[i] ^ 0x80),
        5 => {
            let (high, low) = rest.split_at(4);
            std::array::from_fn(|i| nibble(low, i) | ((high[i / 8] >> (i % 8)) & 1) << 4)
        }
        _ => std::array::from_fn(|i| nibble(rest, i)),
    };
    put_numbers(format, &numbers, output, step);
}

/// The second 16 are in the upper halves of the bytes.
fn nibble(bytes: &[u8], i: usize) -> u8 {
    (bytes[i % 16] >> (i / 16 * 4)) & 15
}
