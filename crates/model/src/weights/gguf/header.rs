//! Checks a GGUF header against the length of its file, before anything is allocated.
//!
//! The reader that follows trusts lengths in the file, divides by its alignment and multiplies its dimensions;
//! a broken or hostile file could ask it for any amount of memory, or stop it.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use super::types;

/// Arrays of arrays deeper than this are not GGUF that anybody writes.
const MAX_DEPTH: usize = 4;
/// ggml's own bound.
const MAX_DIMENSIONS: u32 = 4;
/// Bytes of a key or of a tensor's name; the format allows keys of as many.
const MAX_NAME_BYTES: u64 = 65_535;
/// Values in all arrays together; each takes 32 bytes of memory. A vocabulary of a million tokens has some millions.
const MAX_VALUES: u64 = 1 << 24;
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 20;

/// Walks the header of `file`.
///
/// # Errors
/// `InvalidData` or `UnexpectedEof` with what is wrong.
pub(super) fn check(file: &mut (impl Read + Seek)) -> io::Result<()> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut walk = Walk {
        reader: BufReader::with_capacity(1 << 16, file),
        left: length,
        values: 0,
    };
    walk.header()
}

struct Walk<R> {
    reader: R,
    left: u64,
    /// In arrays so far.
    values: u64,
}

fn bad(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

impl<R: BufRead> Walk<R> {
    fn header(&mut self) -> io::Result<()> {
        if &self.bytes::<4>()? != b"GGUF" {
            return Err(bad("it does not begin with GGUF"));
        }
        let version = self.u32()?;
        if (2..=3).contains(&version.swap_bytes()) {
            return Err(bad(
                "it was written for big-endian machines: convert the model again",
            ));
        }
        if !(2..=3).contains(&version) {
            return Err(bad(format!(
                "GGUF version {version} is not supported (2 and 3 are)"
            )));
        }
        let (n_tensors, n_entries) = (self.u64()?, self.u64()?);
        let alignment = self.entries(n_entries)?;
        self.tensors(n_tensors, alignment)
    }

    /// The alignment that the metadata names.
    fn entries(&mut self, n: u64) -> io::Result<u64> {
        let mut alignment = DEFAULT_ALIGNMENT;
        let mut seen = HashSet::new();
        for _ in 0..n {
            let key = self.name()?;
            let kind = self.u32()?;
            if key == "general.alignment" {
                alignment = self.alignment(kind)?;
            } else {
                self.value(kind, 0)?;
            }
            if let Some(key) = seen.replace(key) {
                return Err(bad(format!("metadata has {key:?} twice")));
            }
        }
        Ok(alignment)
    }

    fn alignment(&mut self, kind: u32) -> io::Result<u64> {
        // What the reader takes for an alignment: it passes over every other type, and over negative numbers.
        let n = match kind {
            0 => i64::from(u8::from_le_bytes(self.bytes()?)),
            1 => i64::from(i8::from_le_bytes(self.bytes()?)),
            2 => i64::from(u16::from_le_bytes(self.bytes()?)),
            3 => i64::from(i16::from_le_bytes(self.bytes()?)),
            4 => i64::from(self.u32()?),
            5 => i64::from(i32::from_le_bytes(self.bytes()?)),
            _ => return Err(bad("general.alignment is not a number of 32 bits")),
        };
        match u64::try_from(n) {
            Ok(n) if n.is_power_of_two() && n <= MAX_ALIGNMENT => Ok(n),
            _ => Err(bad(format!(
                "general.alignment is {n}; it must be a power of two (32 is usual)"
            ))),
        }
    }

    fn tensors(&mut self, n: u64, alignment: u64) -> io::Result<()> {
        let mut seen = HashSet::new();
        let mut places = Vec::new();
        for _ in 0..n {
            let name = self.name()?;
            let bytes = self.tensor(&name)?;
            let start = self.u64()?;
            let end = start
                .checked_add(bytes)
                .ok_or_else(|| bad(format!("tensor {name} ends beyond the file")))?;
            if !start.is_multiple_of(alignment) {
                return Err(bad(format!("tensor {name} begins at {start}, which is not a multiple of the alignment, {alignment}")));
            }
            places.push((start, end, name.clone()));
            if let Some(name) = seen.replace(name) {
                return Err(bad(format!("it has tensor {name} twice")));
            }
        }
        places.sort_unstable();
        match places.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            None => Ok(()),
            Some(pair) => Err(bad(format!(
                "tensors {} and {} overlap",
                pair[0].2, pair[1].2
            ))),
        }
    }

    /// Bytes that a tensor takes.
    fn tensor(&mut self, name: &str) -> io::Result<u64> {
        let n_dimensions = self.u32()?;
        if !(1..=MAX_DIMENSIONS).contains(&n_dimensions) {
            return Err(bad(format!("tensor {name} has {n_dimensions} dimensions")));
        }
        let too_large = || bad(format!("tensor {name} is larger than the file"));
        let first = self.u64()?;
        let mut elements = first;
        for _ in 1..n_dimensions {
            elements = elements.checked_mul(self.u64()?).ok_or_else(too_large)?;
        }
        if elements == 0 {
            return Err(bad(format!("tensor {name} is empty")));
        }
        let stored = types::of(self.u32()?).map_err(|what| bad(format!("tensor {name} {what}")))?;
        if !first.is_multiple_of(stored.block) {
            return Err(bad(format!(
                "tensor {name} has rows of {first}, and {} stores {} at once",
                stored.name, stored.block
            )));
        }
        (elements / stored.block)
            .checked_mul(stored.bytes)
            .filter(|bytes| *bytes <= self.left)
            .ok_or_else(too_large)
    }

    fn value(&mut self, kind: u32, depth: usize) -> io::Result<()> {
        match kind {
            0 | 1 | 7 => self.skip(1),
            2 | 3 => self.skip(2),
            4..=6 => self.skip(4),
            10..=12 => self.skip(8),
            8 => self.string(),
            9 if depth < MAX_DEPTH => {
                let (kind, count) = (self.u32()?, self.u64()?);
                if count > self.left {
                    return Err(bad("an array is longer than the file"));
                }
                self.values = self.values.saturating_add(count);
                if self.values > MAX_VALUES {
                    return Err(bad(format!(
                        "its arrays have more than {MAX_VALUES} values"
                    )));
                }
                (0..count).try_for_each(|_| self.value(kind, depth + 1))
            }
            _ => Err(bad(format!("metadata of unknown type {kind}"))),
        }
    }

    fn string(&mut self) -> io::Result<()> {
        let length = self.u64()?;
        self.skip(length)
    }

    /// A key or a tensor's name, as the reader that follows takes it.
    fn name(&mut self) -> io::Result<String> {
        let length = self.u64()?;
        if length > MAX_NAME_BYTES.min(self.left) {
            return Err(bad(format!("a name has {length} bytes")));
        }
        self.spend(length)?;
        let mut bytes = Vec::new();
        (&mut self.reader).take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.trim_end_matches('\0').to_owned())
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.spend(N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, n: u64) -> io::Result<()> {
        self.spend(n)?;
        let skipped = io::copy(&mut (&mut self.reader).take(n), &mut io::sink())?;
        if skipped == n {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn spend(&mut self, n: u64) -> io::Result<()> {
        self.left = self
            .left
            .checked_sub(n)
            .ok_or_else(|| bad("the file ends in its header"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::check;

    fn header(n_tensors: u64, n_entries: u64, rest: &[u8]) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(n_tensors.to_le_bytes());
        bytes.extend(n_entries.to_le_bytes());
        bytes.extend(rest);
        bytes
    }

    fn message(bytes: Vec<u8>) -> String {
        check(&mut Cursor::new(bytes)).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_model_passes_and_lies_about_lengths_do_not() {
        check(&mut Cursor::new(header(0, 0, &[]))).unwrap();
        assert!(message(b"PK\x03\x04".to_vec()).contains("GGUF"));
        assert!(message(header(u64::MAX, 0, &[])).contains("ends in its header"));
        assert!(message(header(0, 1, &u64::MAX.to_le_bytes())).contains("a name has"));
        let mut array = 1u64.to_le_bytes().to_vec();
        array.push(b'k');
        array.extend(9u32.to_le_bytes());
        array.extend(4u32.to_le_bytes());
        array.extend((1u64 << 60).to_le_bytes());
        assert!(message(header(0, 1, &array)).contains("array is longer"));
        let mut tensor = 1u64.to_le_bytes().to_vec();
        tensor.push(b't');
        tensor.extend(2u32.to_le_bytes());
        tensor.extend((1u64 << 40).to_le_bytes());
        tensor.extend((1u64 << 40).to_le_bytes());
        assert!(message(header(1, 0, &tensor)).contains("larger than the file"));
    }

    fn named(name: &str) -> Vec<u8> {
        let mut bytes = (name.len() as u64).to_le_bytes().to_vec();
        bytes.extend(name.as_bytes());
        bytes
    }

    /// `general.alignment` of a type, as bytes of its value.
    fn alignment(kind: u32, value: &[u8]) -> Vec<u8> {
        let mut bytes = named("general.alignment");
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
        header(0, 1, &bytes)
    }

    #[test]
    fn an_alignment_is_a_power_of_two() {
        for good in [1u32, 32, 64] {
            check(&mut Cursor::new(alignment(4, &good.to_le_bytes()))).unwrap();
        }
        for wrong in [0u32, 3, 48, u32::MAX] {
            let message = message(alignment(4, &wrong.to_le_bytes()));
            assert!(message.contains("power of two"), "{wrong}: {message}");
        }
        assert!(message(alignment(0, &[0])).contains("power of two"));
        assert!(message(alignment(1, &[128])).contains("power of two"));
        assert!(message(alignment(5, &i32::MIN.to_le_bytes())).contains("power of two"));
        assert!(message(alignment(10, &32u64.to_le_bytes())).contains("32 bits"));
        assert!(message(alignment(8, &named("32"))).contains("32 bits"));
        let mut twice = alignment(4, &32u32.to_le_bytes())[24..].to_vec();
        twice.extend(twice.clone());
        assert!(message(header(0, 2, &twice)).contains("twice"));
    }

    /// A header with one tensor, and `data` bytes after it.
    fn tensor(dimensions: &[u64], kind: u32, offset: u64, data: usize) -> Vec<u8> {
        let mut bytes = named("t");
        bytes.extend((dimensions.len() as u32).to_le_bytes());
        dimensions
            .iter()
            .for_each(|n| bytes.extend(n.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes.resize(bytes.len() + data, 0);
        header(1, 0, &bytes)
    }

    #[test]
    fn tensors_are_what_the_reader_can_multiply_and_divide() {
        check(&mut Cursor::new(tensor(&[32, 2], 8, 0, 68))).unwrap();
        for (dimensions, kind, offset, word) in [
            (&[0u64, 1 << 40, 1 << 40][..], 0, 0, "empty"),
            (&[1 << 40, 0, 1 << 40], 0, 0, "empty"),
            (&[1 << 32, 1 << 32, 0], 0, 0, "larger than the file"),
            (&[u64::MAX], 0, 0, "larger than the file"),
            (&[u64::MAX / 32 * 32], 8, 0, "larger than the file"),
            (&[4, 0], 0, 0, "empty"),
            (&[], 0, 0, "0 dimensions"),
            (&[1, 1, 1, 1, 1], 0, 0, "5 dimensions"),
            (&[16, 2], 8, 0, "rows of 16"),
            (&[4], 0, u64::MAX, "beyond the file"),
            (&[4], 0, 31, "alignment"),
            (&[32], 20, 0, "IQ4_NL"),
            (&[32], 39, 0, "MXFP4"),
            (&[32], 99, 0, "type 99"),
        ] {
            let message = message(tensor(dimensions, kind, offset, 68));
            assert!(
                message.contains(word),
                "{dimensions:?} {kind} {offset}: {message}"
            );
        }
    }

    #[test]
    fn two_tensors_do_not_share_bytes() {
        let one = |name: &str, offset: u64| {
            let mut bytes = named(name);
            bytes.extend(1u32.to_le_bytes());
            bytes.extend(16u64.to_le_bytes());
            bytes.extend(0u32.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            bytes
        };
        let both = |a: Vec<u8>, b: Vec<u8>| header(2, 0, &[a, b, vec![0; 256]].concat());
        check(&mut Cursor::new(both(one("b", 64), one("a", 0)))).unwrap();
        assert!(message(both(one("a", 0), one("b", 32))).contains("tensors a and b overlap"));
        assert!(message(both(one("a", 0), one("a", 64))).contains("tensor a twice"));
    }

    #[test]
    fn other_machines_and_versions_are_named() {
        let version = |bytes: [u8; 4]| {
            let mut file = header(0, 0, &[]);
            file[4..8].copy_from_slice(&bytes);
            message(file)
        };
        assert!(version([0, 0, 0, 3]).contains("big-endian"));
        assert!(version([1, 0, 0, 0]).contains("version 1"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(rest in proptest::collection::vec(any::<u8>(), 0..200), n in 0u64..4) {
            let _ = check(&mut Cursor::new(header(n, n, &rest)));
        }
    }
}
