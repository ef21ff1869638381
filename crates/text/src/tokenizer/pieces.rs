//! The bytes of each token.

use std::collections::HashMap;

/// The character by which byte-level vocabularies write each byte: printable Latin-1 characters
/// stand for themselves, the other bytes for U+0100 and on, in order (GPT-2's `bytes_to_unicode`).
fn byte_characters() -> HashMap<char, u8> {
    let is_printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut shifted = (0x100u32..).filter_map(char::from_u32);
    (0..=u8::MAX)
        .filter_map(|b| {
            let character = if is_printable(b) {
                Some(char::from(b))
            } else {
                shifted.next()
            };
            character.map(|c| (c, b))
        })
        .collect()
}

/// How the spelling of a token in the vocabulary becomes bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Spelling {
    /// Each character is a byte (GPT-2, Llama 3, Qwen).
    ByteLevel(HashMap<char, u8>),
    /// The token's own text after replacements (SentencePiece writes a space as U+2581).
    Text {
        /// Pairs of what is replaced and by what, in order.
        replacements: Vec<(String, String)>,
        /// `<0x0A>` is the byte 0x0A.
        byte_tokens: bool,
    },
}

impl Spelling {
    pub(super) fn byte_level() -> Self {
        Self::ByteLevel(byte_characters())
    }

    /// The bytes of the token that the vocabulary writes as `token`.
    pub(super) fn bytes(&self, token: &str) -> Vec<u8> {
        match self {
            // A token that the alphabet cannot write was added as plain text.
            Self::ByteLevel(bytes) => token
                .chars()
                .map(|c| bytes.get(&c).copied())
                .collect::<Option<Vec<u8>>>()
                .unwrap_or_else(|| token.as_bytes().to_vec()),
            Self::Text {
                replacements,
                byte_tokens,
            } => {
                let mut text = token.to_owned();
                for (from, to) in replacements {
                    text = text.replace(from, to);
                }
                match byte_of(&text) {
                    Some(byte) if *byte_tokens => vec![byte],
                    _ => text.into_bytes(),
                }
            }
        }
    }
}

/// The byte that a byte token such as `<0x0A>` stands for.
pub(super) fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(digits, 16).ok())?
}

/// One token, to be put into [`Pieces`].
pub(super) struct Piece {
    pub id: u32,
    pub bytes: Vec<u8>,
    pub is_special: bool,
}

/// The bytes of all tokens, by id.
pub(super) struct Pieces {
    bytes: Vec<Box<[u8]>>,
    special: Vec<bool>,
    /// The plain token of each single byte, where there is one.
    single: Vec<Option<u32>>,
    strips_leading_space: bool,
}

impl Pieces {
    /// Later pieces of the same id win. `strips_leading_space`: encoding puts a space before a
    /// text, so decoding takes one away.
    pub(super) fn new(pieces: impl IntoIterator<Item = Piece>, strips_leading_space: bool) -> Self {
        let mut all = Self {
            bytes: Vec::new(),
            special: Vec::new(),
            single: vec![None; 256],
            strips_leading_space,
        };
        for piece in pieces {
            all.insert(piece);
        }
        for (id, bytes) in (0u32..).zip(&all.bytes) {
            if let ([byte], false) = (&bytes[..], all.special[id as usize]) {
                all.single[usize::from(*byte)] = Some(id);
            }
        }
        all
    }

    fn insert(&mut self, piece: Piece) {
        let at = piece.id as usize;
        if at >= self.bytes.len() {
            self.bytes.resize(at + 1, Box::default());
            self.special.resize(at + 1, false);
        }
        self.bytes[at] = piece.bytes.into_boxed_slice();
        self.special[at] = piece.is_special;
    }

    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], |bytes| bytes)
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }

    /// The name of `id` as single-byte tokens; bytes without a token are left out.
    pub(super) fn spell(&self, id: u32) -> impl Iterator<Item = u32> + '_ {
        self.bytes(id)
            .iter()
            .filter_map(|&byte| self.single[usize::from(byte)])
    }

    /// The length of the longest token, in bytes. `None` unless each byte that text can have is a token, for else
    /// text may be left out.
    pub(super) fn longest(&self) -> Option<usize> {
        let in_text = |byte: &u8| !matches!(byte, 0xc0 | 0xc1 | 0xf5..);
        let mut bytes = (0..=u8::MAX).filter(in_text);
        if !bytes.all(|byte| self.single[usize::from(byte)].is_some()) {
            return None;
        }
        // Control tokens stand for no text.
        let in_text = self.bytes.iter().zip(&self.special);
        let in_text = in_text.filter(|(_, special)| !**special);
        in_text.map(|(bytes, _)| bytes.len()).max()
    }

    pub(super) fn strips_leading_space(&self) -> bool {
        self.strips_leading_space
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_alphabet_is_gpt2s() {
        let alphabet = byte_characters();
        assert_eq!(alphabet.len(), 256);
        // G with dot above is the space, C with dot above the line feed.
        assert_eq!(alphabet[&'\u{120}'], b' ');
        assert_eq!(alphabet[&'\u{10a}'], b'\n');
        assert_eq!(alphabet[&'\u{143}'], 0xad);
        assert_eq!(alphabet[&'A'], b'A');
    }

    #[test]
    fn byte_tokens_are_two_hex_digits() {
        assert_eq!(byte_of("<0x0A>"), Some(10));
        assert_eq!(byte_of("<0xff>"), Some(255));
        for token in ["<0x0>", "<0x+A>", "<0x00A>", "0x0A", "<0xGG>"] {
            assert_eq!(byte_of(token), None, "{token}");
        }
    }

    #[test]
    fn a_control_token_is_spelled_in_plain_bytes() {
        let piece = |id, bytes: &[u8], is_special| Piece {
            id,
            bytes: bytes.to_vec(),
            is_special,
        };
        let tokens = [
            piece(0, b"<a>", true),
            piece(4, b"a", false),
            piece(7, b">", false),
            piece(9, b"<", true),
        ];
        let pieces = Pieces::new(tokens, false);
        assert_eq!(pieces.spell(0).collect::<Vec<_>>(), [4, 7]);
        assert_eq!(pieces.len(), 10);
        assert!(pieces.bytes(1).is_empty() && pieces.bytes(99).is_empty());
    }

    #[test]
    fn the_longest_token_is_a_bound_only_if_no_byte_can_be_left_out() {
        let single = |byte: u8| Piece {
            id: u32::from(byte),
            bytes: vec![byte],
            is_special: false,
        };
        let long = Piece {
            id: 300,
            bytes: vec![b' '; 9],
            is_special: false,
        };
        let in_text = (0..=u8::MAX).filter(|b| !matches!(b, 0xc0 | 0xc1 | 0xf5..));
        let control = Piece {
            id: 301,
            bytes: b"<|endoftext|>".to_vec(),
            is_special: true,
        };
        let all = in_text.map(single).chain([long, control]);
        assert_eq!(Pieces::new(all, false).longest(), Some(9));
        let but_one = (0..=u8::MAX).filter(|b| *b != b'x').map(single);
        assert_eq!(Pieces::new(but_one, false).longest(), None);
    }
}
