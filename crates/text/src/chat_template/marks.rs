//! Characters that stand for those of control tokens, so that text can be followed through a template.

use std::collections::{HashMap, HashSet};

use crate::tokenizer::{SpecialStrings, TextError};

/// Private-use characters: they mean nothing, so no template looks for them.
const PRIVATE: [std::ops::RangeInclusive<u32>; 3] =
    [0xe000..=0xf8ff, 0xf0000..=0xffffd, 0x10_0000..=0x10_fffd];

/// For each character that names of control tokens have, white space left out, a mark that occurs
/// nowhere else. Marked text is as long as plain text, has its white space where that has it, and spells
/// no control token.
pub(super) struct Marks {
    marks: HashMap<char, char>,
    plain: HashMap<char, char>,
}

impl Marks {
    /// Marks that `texts` do not use.
    ///
    /// # Errors
    /// `texts` use nearly every private character.
    pub(super) fn new<'a>(
        specials: &SpecialStrings,
        texts: impl Iterator<Item = &'a str>,
    ) -> Result<Self, TextError> {
        let named = specials.characters().iter().copied();
        let named: Vec<char> = named.filter(|c| !c.is_whitespace()).collect();
        let used: HashSet<char> = texts
            .flat_map(str::chars)
            .chain(named.iter().copied())
            .filter(|c| !c.is_ascii())
            .collect();
        let free: Vec<char> = PRIVATE
            .into_iter()
            .flatten()
            .filter_map(char::from_u32)
            .filter(|mark| !used.contains(mark))
            .take(named.len())
            .collect();
        if free.len() < named.len() {
            return Err(TextError::Template(
                "the messages use every private-use character".to_owned(),
            ));
        }
        let pairs = || named.iter().copied().zip(free.iter().copied());
        Ok(Self {
            marks: pairs().collect(),
            plain: pairs().map(|(plain, mark)| (mark, plain)).collect(),
        })
    }

    pub(super) fn mark(&self, text: &str) -> String {
        text.chars().map(|c| self.mark_of(c)).collect()
    }

    /// The mark of a character; itself, where no name has it.
    pub(super) fn mark_of(&self, character: char) -> char {
        self.marks.get(&character).copied().unwrap_or(character)
    }

    /// Undoes [`Marks::mark`].
    pub(super) fn unmark(&self, text: &str) -> String {
        let plain = |c: char| self.plain.get(&c).copied().unwrap_or(c);
        text.chars().map(plain).collect()
    }

    /// Whether `marked` has marks that were escaped, as JSON in ASCII or addresses have them, and `plain` has none like
    /// them: nothing brings the characters back for which they stand.
    pub(super) fn are_escaped(&self, marked: &str, plain: &str) -> bool {
        let (marked, plain) = (marked.to_ascii_lowercase(), plain.to_ascii_lowercase());
        let is_escaped =
            |escape: &str| marked.matches(escape).count() > plain.matches(escape).count();
        self.plain.keys().any(|mark| {
            let json: String = mark
                .encode_utf16(&mut [0; 2])
                .iter()
                .map(|unit| format!("\\u{unit:04x}"))
                .collect();
            let address: String = mark
                .encode_utf8(&mut [0; 4])
                .bytes()
                .map(|byte| format!("%{byte:02x}"))
                .collect();
            [json, address].iter().any(|escape| is_escaped(escape))
        })
    }

    pub(super) fn is_mark(&self, character: char) -> bool {
        self.plain.contains_key(&character)
    }
}
