//! A rendered prompt, cut at the control tokens that the template wrote.
//!
//! A prompt is rendered as it is, and its text is always that of this rendering. What remains is to tell the
//! control tokens that the template wrote from those that text from outside spells, alone or together with what
//! stands beside it. Further renderings tell, in which each character is replaced by another one and no
//! length changes:
//!
//! 1. Text from outside is marked ([`Marks`]). Where the result is the same but for the marks, what is still
//!    a control token was written without any character from outside.
//! 2. Some templates look for words in messages, and go another way when they are marked. Where 1 does not
//!    account for every control token, the template's own are marked instead ([`marked`](super::marked)), which leaves the messages
//!    alone. Where the result is the same but for the marks, a token whose characters are all marked
//!    was written by the template.
//! 3. A template that does both, looking for words in messages and changing what it wrote itself, is
//!    taken by its control tokens: where 1 has those of the prompt, they are the template's. Otherwise the
//!    prompt is that of 1, in which messages spell no control token.

use super::marks::Marks;
use crate::tokenizer::{Segment, SpecialStrings, TextError, Tokenizer};

/// What a rendering is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marked {
    Nothing,
    /// Messages and variables of the caller's.
    Outside,
    /// What spells control tokens in the template.
    Template,
    /// Beside that, roles, and words in the template that are parts of names.
    TemplateWords,
}

/// A prompt, cut at the template's control tokens.
#[derive(Debug)]
pub(super) struct Prompt {
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Control(u32),
    Text(String),
}

impl Prompt {
    /// `render`: the prompt, with something marked.
    ///
    /// # Errors
    /// Those of `render`, where nothing or what came from outside is marked.
    pub(super) fn new(
        specials: &SpecialStrings,
        marks: &Marks,
        render: impl Fn(Marked) -> Result<String, TextError>,
    ) -> Result<Self, TextError> {
        let text = render(Marked::Nothing)?;
        let plain = Self::cut(specials, &text);
        if plain.control_ids().next().is_none() {
            return Ok(plain);
        }
        // A template that refuses marked text is one that looks at it.
        let outside = render(Marked::Outside).ok();
        let safe = outside.as_deref().map(|text| Self::cut(specials, text));
        let is_same = outside.is_some_and(|outside| marks.unmark(&outside) == text);
        let safe = safe.map(|safe| safe.unmarked(marks));
        let (mut own, safe) = if is_same { (safe, None) } else { (None, safe) };
        // Whatever is found is the template's; most is best.
        for marked in [Marked::Template, Marked::TemplateWords] {
            let is_all = |own: &Self| own.control_ids().eq(plain.control_ids());
            if own.as_ref().is_some_and(is_all) {
                break;
            }
            let rendered = render(marked).ok();
            let rendered = rendered.filter(|rendered| marks.unmark(rendered) == text);
            let found = rendered.map(|rendered| Self::written(specials, marks, &text, &rendered));
            let count = |prompt: &Self| prompt.control_ids().count();
            if found.as_ref().map(count) > own.as_ref().map(count) {
                own = found;
            }
        }
        if let Some(own) = own {
            return Ok(own);
        }
        match safe {
            Some(safe) if safe.control_ids().eq(plain.control_ids()) => Ok(plain),
            Some(safe) => Ok(safe),
            None => Err(TextError::Template(
                "it cannot be told which control tokens are its own and which a message spells; \
                 leave control tokens out of the messages"
                    .to_owned(),
            )),
        }
    }

    /// `rendered` is `text` but for marks on what the template wrote.
    fn written(specials: &SpecialStrings, marks: &Marks, text: &str, rendered: &str) -> Self {
        let own = |(plain, marked): (char, char)| match marks.is_mark(marked) {
            true => plain,
            false => marks.mark_of(plain),
        };
        let safe: String = text.chars().zip(rendered.chars()).map(own).collect();
        Self::cut(specials, &safe).unmarked(marks)
    }

    fn cut(specials: &SpecialStrings, text: &str) -> Self {
        let part = |segment| match segment {
            Segment::Special(id) => Part::Control(id),
            Segment::Text(text) => Part::Text(text.to_owned()),
        };
        Self {
            parts: specials.split(text).into_iter().map(part).collect(),
        }
    }

    fn unmarked(mut self, marks: &Marks) -> Self {
        for part in &mut self.parts {
            if let Part::Text(text) = part {
                *text = marks.unmark(text);
            }
        }
        self
    }

    fn control_ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.parts.iter().filter_map(|part| match part {
            Part::Control(id) => Some(*id),
            Part::Text(_) => None,
        })
    }

    /// Bytes of text between the control tokens.
    pub(super) fn text_bytes(&self) -> usize {
        let bytes = |part: &Part| match part {
            Part::Control(_) => 0,
            Part::Text(text) => text.len(),
        };
        self.parts.iter().map(bytes).sum()
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
