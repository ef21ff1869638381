//! How ggml stores tensors, by number.

/// A way to store numbers: blocks of so many numbers, each of so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    pub name: &'static str,
    pub block: u64,
    pub bytes: u64,
}

/// Those that the tensor library dequantizes.
const READ: [(u32, Stored); 13] = [
    (0, stored("F32", 1, 4)),
    (1, stored("F16", 1, 2)),
    (2, stored("Q4_0", 32, 18)),
    (3, stored("Q4_1", 32, 20)),
    (6, stored("Q5_0", 32, 22)),
    (7, stored("Q5_1", 32, 24)),
    (8, stored("Q8_0", 32, 34)),
    (10, stored("Q2_K", 256, 84)),
    (11, stored("Q3_K", 256, 110)),
    (12, stored("Q4_K", 256, 144)),
    (13, stored("Q5_K", 256, 176)),
    (14, stored("Q6_K", 256, 210)),
    (30, stored("BF16", 1, 2)),
];

/// Those that it does not.
const NOT_READ: [(u32, &str); 29] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

const fn stored(name: &'static str, block: u64, bytes: u64) -> Stored {
    Stored { name, block, bytes }
}

/// How type `number` stores numbers.
///
/// # Errors
/// A type that is not read, by its name, and which to use instead.
pub(super) fn of(number: u32) -> Result<Stored, String> {
    if let Some((_, stored)) = READ.iter().find(|(n, _)| *n == number) {
        return Ok(*stored);
    }
    let known = NOT_READ.iter().find(|(n, _)| *n == number);
    let name = known.map_or_else(
        || format!("type {number} of ggml"),
        |(_, name)| (*name).to_owned(),
    );
    Err(format!(
        "is stored as {name}, which is not read: take a file quantized as Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_1 or Q4_0, or in F16 or BF16"
    ))
}
