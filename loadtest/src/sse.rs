//! An incremental parser of server-sent events, as far as measuring needs it: the `data` of each
//! event. (The crate eventsource-stream 0.2.3 panics on a leading byte order mark; a client that
//! measures servers must survive whatever they send.)

/// Longest line, and longest data of one event.
const MAX_EVENT: usize = 16 << 20;

/// Why a stream is not an event stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// A line is not UTF-8.
    #[error("stream is not UTF-8: {0}")]
    Utf8(#[from] std::str::Utf8Error),
    /// A line or an event without end.
    #[error("an event has more than {MAX_EVENT} bytes")]
    TooLong,
}

/// Takes bytes in pieces of any size, gives the data of complete events.
#[derive(Debug, Default)]
pub struct SseParser {
    /// The line so far, without its end.
    line: Vec<u8>,
    /// Data lines of the event so far, each followed by a line feed.
    data: String,
    /// The last byte was a carriage return: a line feed now belongs to it.
    after_cr: bool,
    /// Whether a line has been read; only the first may begin with a byte order mark.
    started: bool,
}

impl SseParser {
    /// Reads one piece of the stream.
    ///
    /// # Errors
    /// The piece completes a line that is not UTF-8, or a line or an event grows too long.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<String>, SseError> {
        let mut events = Vec::new();
        for &byte in piece {
            let continues_line_end = self.after_cr && byte == b'\n';
            self.after_cr = byte == b'\r';
            match byte {
                b'\n' if continues_line_end => {}
                b'\n' | b'\r' => events.extend(self.end_line()?),
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > MAX_EVENT {
                return Err(SseError::TooLong);
            }
        }
        Ok(events)
    }

    /// The data of the event that the line ends, if it does and there is any.
    fn end_line(&mut self) -> Result<Option<String>, SseError> {
        let bytes = std::mem::take(&mut self.line);
        let mut line = std::str::from_utf8(&bytes)?;
        if !std::mem::replace(&mut self.started, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            let mut data = std::mem::take(&mut self.data);
            // Removes the last line feed; without data there is none, and no event.
            return Ok(data.pop().map(|_| data));
        }
        // A comment begins with a colon, so its field name is empty.
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        if field == "data" {
            self.data.push_str(value.strip_prefix(' ').unwrap_or(value));
            self.data.push('\n');
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "\u{feff}: ping\n\ndata: a\n\nevent: x\ndata:b\nid: 1\ndata:  c\n\r\n\
        data\n\nretry: 3\n\ndata: \u{1f600}:\u{fc}\n\ndata: unfinished";

    const EVENTS: [&str; 4] = ["a", "b\n c", "", "\u{1f600}:\u{fc}"];

    fn parse(pieces: &[&[u8]]) -> Vec<String> {
        let mut parser = SseParser::default();
        pieces
            .iter()
            .flat_map(|piece| parser.push(piece).unwrap())
            .collect()
    }

    #[test]
    fn events_are_the_same_split_at_every_byte_with_every_line_end() {
        for line_end in ["\n", "\r\n", "\r"] {
            let text = STREAM.replace("\r\n", "\n").replace('\n', line_end);
            let bytes = text.as_bytes();
            for at in 0..=bytes.len() {
                let (left, right) = bytes.split_at(at);
                assert_eq!(parse(&[left, right]), EVENTS, "{line_end:?} split at {at}");
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(parse(&single), EVENTS, "{line_end:?}");
        }
        assert_eq!(parse(&[STREAM.as_bytes()]), EVENTS, "mixed line ends");
    }

    #[test]
    fn bad_bytes_and_endless_lines_are_errors() {
        let mut parser = SseParser::default();
        assert!(matches!(
            parser.push(b"data: \xff\n\n"),
            Err(SseError::Utf8(_))
        ));
        let mut parser = SseParser::default();
        let piece = vec![b'x'; 1 << 20];
        let result = (0..17).try_for_each(|_| parser.push(&piece).map(|_| ()));
        assert_eq!(result, Err(SseError::TooLong));
    }
}
