//! Sizes of memory and disks, as people type them.

use super::error::{problem, ConfigError};

/// A size; 0 is none.
pub(super) fn bytes_or_none(setting: &'static str, text: &str) -> Result<Option<u64>, ConfigError> {
    match text.trim() {
        "0" => Ok(None),
        size => Ok(Some(parse_bytes(setting, size)? as u64)),
    }
}

/// `1GiB`, `512 MiB`, `1.5GB`, `1000000`.
pub(super) fn parse_bytes(setting: &'static str, text: &str) -> Result<usize, ConfigError> {
    let no_size = || {
        let text = format!("{text:?} is not a size; write for example 512MiB or 2GiB");
        problem(setting, text)
    };
    let trimmed = text.trim();
    let split = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(no_size()),
    };
    match number.parse::<f64>().map(|n| n * factor) {
        Ok(bytes) if (1.0..=1e15).contains(&bytes) => Ok(bytes as usize),
        _ => Err(no_size()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_several_spellings() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("1.5 GB", 1_500_000_000),
            ("4096", 4096),
        ] {
            assert_eq!(parse_bytes("--kv-memory", text).unwrap(), bytes);
        }
    }
}
