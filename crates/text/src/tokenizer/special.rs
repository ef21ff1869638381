//! Control tokens: which they are, and where a text spells one.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// Tokens that end a turn or a text in the model families we know, by name. A model whose files
/// name only its end of *text* ends its *turns* with one of these.
pub(super) const END_NAMES: [&str; 10] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end_of_turn|>",
    "<|end|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
];

/// Other names that are control tokens wherever a vocabulary has them.
const CONTROL_NAMES: [&str; 6] = [
    "<start_of_turn>",
    "<pad>",
    "[PAD]",
    "<mask>",
    "<2mass>",
    "[@BOS@]",
];

/// What control tokens have around a word: two kinds of bars (DeepSeek's are full-width), and the
/// places that Gemma keeps free.
const AROUND: [(&str, &str); 3] = [("<|", "|>"), ("<\u{ff5c}", "\u{ff5c}>"), ("<unused", ">")];

/// Whether a token that its file does not mark as control is one all the same, by its name, as
/// llama.cpp's converter has it. DeepSeek marks none of the tokens that begin turns, and some converted
/// models lost the mark.
pub(super) fn is_control_name(name: &str) -> bool {
    let has_word = |(start, end): &(&str, &str)| {
        let word = name.strip_prefix(start).and_then(|w| w.strip_suffix(end));
        word.is_some_and(|w| w.contains(char::is_alphanumeric))
    };
    AROUND.iter().any(has_word) || CONTROL_NAMES.contains(&name) || END_NAMES.contains(&name)
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segment<'a> {
    /// A control token.
    Special(u32),
    /// What lies between; never empty.
    Text(&'a str),
}

/// One control token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Special {
    pub id: u32,
    /// The token swallows white space before it.
    pub strip_left: bool,
    /// The token swallows white space after it.
    pub strip_right: bool,
}

impl From<u32> for Special {
    fn from(id: u32) -> Self {
        Self {
            id,
            strip_left: false,
            strip_right: false,
        }
    }
}

/// The control tokens of a vocabulary, to be found in text.
#[derive(Debug, Default)]
pub(crate) struct SpecialStrings {
    by_name: HashMap<String, Special>,
    /// For each first byte: the lengths of the names that begin with it, longest first.
    lengths: HashMap<u8, Vec<usize>>,
    /// The characters that names have.
    characters: BTreeSet<char>,
}

impl SpecialStrings {
    pub(super) fn new(tokens: impl IntoIterator<Item = (String, Special)>) -> Self {
        let by_name: HashMap<String, Special> = tokens
            .into_iter()
            .filter(|(name, _)| !name.is_empty())
            .collect();
        let mut lengths: HashMap<u8, Vec<usize>> = HashMap::new();
        for name in by_name.keys() {
            lengths
                .entry(name.as_bytes()[0])
                .or_default()
                .push(name.len());
        }
        for of_byte in lengths.values_mut() {
            of_byte.sort_unstable_by(|a, b| b.cmp(a));
            of_byte.dedup();
        }
        let characters = by_name.keys().flat_map(|name| name.chars()).collect();
        Self {
            by_name,
            lengths,
            characters,
        }
    }

    pub(crate) fn id(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).map(|special| special.id)
    }

    /// The names, in no order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The characters that names have.
    pub(crate) fn characters(&self) -> &BTreeSet<char> {
        &self.characters
    }

    /// Cuts `text` at the control tokens that it spells: leftmost first, then longest.
    pub(crate) fn split<'a>(&self, text: &'a str) -> Vec<Segment<'a>> {
        let mut segments = Vec::new();
        let mut start = 0;
        for (special, at) in self.spans(text) {
            // A token before this one may have taken the white space between them.
            let mut before = text.get(start..at.start).unwrap_or_default();
            if special.strip_left {
                before = before.trim_end();
            }
            if !before.is_empty() {
                segments.push(Segment::Text(before));
            }
            segments.push(Segment::Special(special.id));
            start = at.end;
            if special.strip_right {
                start = text.len() - text[start..].trim_start().len();
            }
        }
        if start < text.len() {
            segments.push(Segment::Text(&text[start..]));
        }
        segments
    }

    /// The control tokens that `text` spells, leftmost first, then longest, and their bytes.
    pub(crate) fn spans(&self, text: &str) -> Vec<(Special, Range<usize>)> {
        let mut spans = Vec::new();
        let mut at = 0;
        while at < text.len() {
            match self.find_at(text, at) {
                Some((special, length)) => {
                    spans.push((special, at..at + length));
                    at += length;
                }
                None => at += 1,
            }
        }
        spans
    }

    /// The longest name that `text` has at byte `at`, and its length.
    fn find_at(&self, text: &str, at: usize) -> Option<(Special, usize)> {
        let lengths = self.lengths.get(&text.as_bytes()[at])?;
        lengths.iter().find_map(|&length| {
            let special = self.by_name.get(text.get(at..at + length)?)?;
            Some((*special, length))
        })
    }
}

/// Control tokens of these names, with ids from 0.
#[cfg(test)]
pub(crate) fn named(names: &[&str]) -> SpecialStrings {
    let ids = 0u32..;
    SpecialStrings::new(
        names
            .iter()
            .map(|&name| name.to_owned())
            .zip(ids.map(Special::from)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(tokens: &[(&str, u32)]) -> SpecialStrings {
        let own = tokens.iter().map(|&(n, id)| (n.to_owned(), id.into()));
        SpecialStrings::new(own)
    }

    #[test]
    fn the_leftmost_then_the_longest_name_wins() {
        let specials = strings(&[("<a>", 1), ("<a><b>", 2), ("\u{e9}", 3)]);
        let split = specials.split("x<a><b><a>y\u{e9}");
        assert_eq!(
            split,
            [
                Segment::Text("x"),
                Segment::Special(2),
                Segment::Special(1),
                Segment::Text("y"),
                Segment::Special(3),
            ]
        );
        assert_eq!(specials.split("<a\u{4e00}"), [Segment::Text("<a\u{4e00}")]);
        assert!(specials.split("").is_empty());
    }

    #[test]
    fn a_token_may_swallow_white_space_around_it() {
        let left = Special {
            id: 1,
            strip_left: true,
            strip_right: false,
        };
        let right = Special {
            id: 2,
            strip_left: false,
            strip_right: true,
        };
        let specials = SpecialStrings::new([("<l>".to_owned(), left), ("<r>".to_owned(), right)]);
        let split = specials.split("a \n<l> b <r>\n\u{a0} c");
        assert_eq!(
            split,
            [
                Segment::Text("a"),
                Segment::Special(1),
                Segment::Text(" b "),
                Segment::Special(2),
                Segment::Text("c"),
            ]
        );
    }

    #[test]
    fn names_with_bars_are_control_tokens() {
        let bars = [
            "<|im_start|>",
            "<|fim-pad|>",
            "<|a b|>",
            "<\u{ff5c}User\u{ff5c}>",
            "<\u{ff5c}tool\u{2581}calls\u{2581}begin\u{ff5c}>",
        ];
        let others = ["<end_of_turn>", "<unused7>", "<pad>", "[PAD]", "<mask>"];
        for name in bars.into_iter().chain(others) {
            assert!(is_control_name(name), "{name}");
        }
        let no_bars = ["<think>", "</s>", "|>", "<unused>", "<User\u{ff5c}>", ""];
        for name in ["<||>", "<|>", "<|||>"].into_iter().chain(no_bars) {
            assert!(!is_control_name(name), "{name}");
        }
    }
}
