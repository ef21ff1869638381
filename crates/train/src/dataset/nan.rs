//! JSON as Python writes it: `NaN`, `Infinity` and `-Infinity`, which JSON does not have, become `null`. In a column
//! that nobody reads they mean nothing, and in one that is read they say that nothing is there, as in tables.

use std::io::{self, Read};

/// The longest word that may be one of them.
const LONGEST: usize = "-Infinity".len();

/// A reader of JSON whose words are JSON's.
#[derive(Debug)]
pub(super) struct WithoutNan<R> {
    inner: R,
    filter: Filter,
    /// What was read and not yet asked for.
    ready: Vec<u8>,
    /// How much of it is gone.
    given: usize,
}

#[derive(Debug, Default)]
struct Filter {
    in_text: bool,
    escaped: bool,
    /// A word outside of texts, as far as it was read.
    word: Vec<u8>,
}

impl Filter {
    fn write(&mut self, byte: u8, out: &mut Vec<u8>) {
        let part =
            !self.in_text && (byte.is_ascii_alphabetic() || byte == b'-' && self.word.is_empty());
        if part && self.word.len() < LONGEST {
            self.word.push(byte);
            return;
        }
        self.end(out);
        out.push(byte);
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = self.in_text,
            b'"' => self.in_text = !self.in_text,
            _ => {}
        }
    }

    /// Writes the word that is over.
    fn end(&mut self, out: &mut Vec<u8>) {
        match self.word.as_slice() {
            b"NaN" | b"Infinity" | b"-Infinity" | b"-NaN" => out.extend(b"null"),
            other => out.extend(other),
        }
        self.word.clear();
    }
}

impl<R: Read> WithoutNan<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            filter: Filter::default(),
            ready: Vec::new(),
            given: 0,
        }
    }
}

impl<R: Read> Read for WithoutNan<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.ready.len() {
            self.ready.clear();
            self.given = 0;
            let mut block = [0; 8192];
            let got = self.inner.read(&mut block)?;
            for byte in &block[..got] {
                self.filter.write(*byte, &mut self.ready);
            }
            if got == 0 {
                self.filter.end(&mut self.ready);
                if self.ready.is_empty() {
                    return Ok(0);
                }
            }
        }
        let left = &self.ready[self.given..];
        let given = left.len().min(buffer.len());
        buffer[..given].copy_from_slice(&left[..given]);
        self.given += given;
        Ok(given)
    }
}

/// A text without them.
pub(super) fn without_nan(text: &str) -> String {
    let (mut filter, mut out) = (Filter::default(), Vec::with_capacity(text.len()));
    for byte in text.bytes() {
        filter.write(byte, &mut out);
    }
    filter.end(&mut out);
    // Only whole words of ASCII were replaced.
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_json_does_not_have_become_null() {
        for (text, plain) in [
            (r#"{"a": NaN, "b": -Infinity}"#, r#"{"a": null, "b": null}"#),
            (r#"[Infinity,NaN]"#, "[null,null]"),
            (
                r#"{"NaN": "NaN \" Infinity", "c": -1.5e3}"#,
                r#"{"NaN": "NaN \" Infinity", "c": -1.5e3}"#,
            ),
            (r#"{"a": "\\", "b": NaN}"#, r#"{"a": "\\", "b": null}"#),
            ("[true, NaNny, false, null]", "[true, NaNny, false, null]"),
            ("NaN", "null"),
        ] {
            assert_eq!(without_nan(text), plain);
            // However the bytes come.
            for size in [1, 2, 7, 100] {
                let mut reader = WithoutNan::new(text.as_bytes());
                let mut read = Vec::new();
                let mut block = vec![0; size];
                loop {
                    match reader.read(&mut block).unwrap() {
                        0 => break,
                        got => read.extend(&block[..got]),
                    }
                }
                assert_eq!(String::from_utf8(read).unwrap(), plain);
            }
        }
    }
}
