//! Content that cannot spell a control token, whatever the template does to it.

use std::collections::{HashMap, HashSet};

use super::{ChatMessage, TemplateVariables};
use crate::text::tokenizer::{Segment, SpecialStrings, TextError, Tokenizer};

/// Private-use characters: they mean nothing, so no template looks for them.
const PRIVATE: [std::ops::RangeInclusive<u32>; 3] =
    [0xe000..=0xf8ff, 0xf0000..=0xffffd, 0x10_0000..=0x10_fffd];

/// Puts a mark between all characters of content, so that none of them touches another one or the
/// template's text: a name of two or more characters then cannot contain any of them. A name that
/// is a single character is replaced by a mark of its own. Marks occur nowhere in the
/// conversation, so content cannot bring its own or lose them.
pub(super) struct Guard {
    between: char,
    /// Single-character names, and the marks that stand for them.
    instead: HashMap<char, char>,
}

impl Guard {
    /// # Errors
    /// The conversation uses every private character.
    pub(super) fn new(
        messages: &[ChatMessage],
        variables: &TemplateVariables,
        specials: &SpecialStrings,
    ) -> Result<Self, TextError> {
        let contents = messages.iter().map(|message| message.content.as_str());
        let used: HashSet<char> = contents
            .chain(variables.texts())
            .chain(specials.names())
            .flat_map(str::chars)
            .filter(|c| !c.is_ascii())
            .collect();
        let mut free = PRIVATE
            .into_iter()
            .flatten()
            .filter_map(char::from_u32)
            .filter(|mark| !used.contains(mark));
        let mut mark = || {
            free.next().ok_or_else(|| {
                TextError::Template("the messages use every private-use character".to_owned())
            })
        };
        let between = mark()?;
        let mut instead = HashMap::new();
        for name in specials.names() {
            let mut characters = name.chars();
            if let (Some(only), None) = (characters.next(), characters.next()) {
                instead.insert(only, mark()?);
            }
        }
        Ok(Self { between, instead })
    }

    /// White space at the ends stays outside of the marks: templates trim it.
    pub(super) fn protect(&self, content: &str) -> String {
        let inner = content.trim();
        if inner.is_empty() {
            return content.to_owned();
        }
        let leading = content.len() - content.trim_start().len();
        let mut guarded = String::with_capacity(content.len() * 4);
        guarded.push_str(&content[..leading]);
        guarded.push(self.between);
        for character in inner.chars() {
            guarded.push(self.instead.get(&character).copied().unwrap_or(character));
            guarded.push(self.between);
        }
        guarded.push_str(&content[leading + inner.len()..]);
        guarded
    }

    fn unprotect(&self, text: &str) -> String {
        let own = |mark: char| {
            let name = self.instead.iter().find(|(_, &instead)| instead == mark);
            name.map_or(mark, |(&name, _)| name)
        };
        text.chars()
            .filter(|&c| c != self.between)
            .map(own)
            .collect()
    }
}

/// A rendered prompt, cut at the control tokens that it spells.
pub(super) struct Split {
    parts: Vec<Part>,
}

enum Part {
    Control(u32),
    Text(String),
}

impl Split {
    pub(super) fn new(specials: &SpecialStrings, prompt: &str) -> Self {
        let part = |segment| match segment {
            Segment::Special(id) => Part::Control(id),
            Segment::Text(text) => Part::Text(text.to_owned()),
        };
        Self {
            parts: specials.split(prompt).into_iter().map(part).collect(),
        }
    }

    pub(super) fn control_ids(&self) -> Vec<u32> {
        let id = |part: &Part| match part {
            Part::Control(id) => Some(*id),
            Part::Text(_) => None,
        };
        self.parts.iter().filter_map(id).collect()
    }

    /// The same without the marks of `guard`.
    pub(super) fn unprotected(mut self, guard: &Guard) -> Self {
        for part in &mut self.parts {
            if let Part::Text(text) = part {
                *text = guard.unprotect(text);
            }
        }
        self
    }

    /// Bytes of text between the control tokens.
    pub(super) fn text_bytes(&self) -> usize {
        let bytes = |part: &Part| match part {
            Part::Control(_) => 0,
            Part::Text(text) => text.len(),
        };
        self.parts.iter().map(bytes).sum()
    }

    /// The text between the control tokens.
    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        let text = |part: &Part| match part {
            Part::Control(_) => String::new(),
            Part::Text(text) => text.clone(),
        };
        self.parts.iter().map(text).collect()
    }

    pub(super) fn encode(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>, TextError> {
        let segment = |part| match part {
            &Part::Control(id) => Segment::Special(id),
            Part::Text(text) => Segment::Text(text.as_str()),
        };
        let segments: Vec<Segment<'_>> = self.parts.iter().map(segment).collect();
        tokenizer.encode_segments(&segments)
    }
}
