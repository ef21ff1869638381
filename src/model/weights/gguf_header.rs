//! Checks a GGUF header against the length of its file, before anything is allocated.
//!
//! The reader that follows trusts lengths in the file; a broken or hostile one could ask it for any
//! amount of memory.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

/// Arrays of arrays deeper than this are not GGUF that anybody writes.
const MAX_DEPTH: usize = 4;
const MAX_DIMENSIONS: u32 = 8;

/// Walks the header of `file`.
///
/// # Errors
/// `InvalidData` or `UnexpectedEof` with what is wrong.
pub fn check(file: &mut (impl Read + Seek)) -> io::Result<()> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut walk = Walk {
        reader: BufReader::with_capacity(1 << 16, file),
        left: length,
    };
    walk.header()
}

struct Walk<R> {
    reader: R,
    left: u64,
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
        if !(2..=3).contains(&version) {
            return Err(bad(format!(
                "GGUF version {version} is not supported (2 and 3 are)"
            )));
        }
        let (n_tensors, n_entries) = (self.u64()?, self.u64()?);
        for _ in 0..n_entries {
            self.string()?;
            let kind = self.u32()?;
            self.value(kind, 0)?;
        }
        for _ in 0..n_tensors {
            self.string()?;
            let n_dimensions = self.u32()?;
            if n_dimensions > MAX_DIMENSIONS {
                return Err(bad(format!("a tensor has {n_dimensions} dimensions")));
            }
            let mut elements = 1u64;
            for _ in 0..n_dimensions {
                let size = self.u64()?;
                // 2 bits a weight is less than any type has.
                elements = elements
                    .checked_mul(size)
                    .filter(|n| n / 4 <= self.left)
                    .ok_or_else(|| bad("a tensor is larger than the file"))?;
            }
            self.skip(4 + 8)?;
        }
        Ok(())
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
                (0..count).try_for_each(|_| self.value(kind, depth + 1))
            }
            _ => Err(bad(format!("metadata of unknown type {kind}"))),
        }
    }

    fn string(&mut self) -> io::Result<()> {
        let length = self.u64()?;
        self.skip(length)
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
        assert!(message(header(0, 1, &u64::MAX.to_le_bytes())).contains("ends in its header"));
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

    proptest! {
        #[test]
        fn no_bytes_panic(rest in proptest::collection::vec(any::<u8>(), 0..200), n in 0u64..4) {
            let _ = check(&mut Cursor::new(header(n, n, &rest)));
        }
    }
}
