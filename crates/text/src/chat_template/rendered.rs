//! A rendered prompt, cut at the control tokens that the template wrote.
//!
//! A prompt is rendered as it is, and its text is always that of this rendering. What remains is to tell the
//! control tokens that the template wrote from those that text from outside spells, alone or together with what
//! stands beside it. Further renderings tell, in which each character is replaced by another one and no
//! length changes:
//!
//! 1. Text from outside is marked ([`Marks`]). Where the result is the same but for the marks, what is still
//!    a control token was written without any character from outside.
//! 2. Some templates look for words in messages, and go another way when they are marked. Then the words that they
//!    look for are marked, too.
//! 3. Where that does not account for every control token, the template's own are marked instead
//!    ([`marked`](super::marked)), which leaves the messages alone. Where the result is the same but for the marks, a
//!    token whose characters are all marked was written by the template.
//! 4. A template that does all of that, and looks for its own words in what it wrote itself, gets the prompt of 2, or of
//!    1: messages spell no control token in it, though the template may not have found in them what it looked for. One
//!    that escapes marks (JSON in ASCII) as well is refused.

use super::marks::Marks;
use crate::tokenizer::{Segment, SpecialStrings, TextError, Tokenizer};

/// What a rendering is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marked {
    Nothing,
    /// Messages and variables of the caller's.
    Outside,
    /// Beside that, what the template looks for.
    OutsideAndLooked,
    /// What spells control tokens in the template.
    Template,
    /// Beside that, roles, and words in the template that are parts of names.
    TemplateWords,
}

/// A prompt, cut at the template's control tokens.
#[derive(Debug)]
pub(super) struct Rendered {
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Control(u32),
    Text(String),
}

impl Rendered {
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
        let is_all = |own: &Self| own.control_ids().eq(plain.control_ids());
        let count = |prompt: &Self| prompt.control_ids().count();
        // With the text of the prompt; whatever is found is the template's, and most is best.
        let mut own: Option<Self> = None;
        // With another text.
        let mut safe = None;
        let from_outside = [Marked::Outside, Marked::OutsideAndLooked];
        let renderings = [Marked::Template, Marked::TemplateWords];
        for marked in from_outside.into_iter().chain(renderings) {
            if own.as_ref().is_some_and(is_all) {
                break;
            }
            // A template that refuses marked text is one that looks at it.
            let Ok(rendered) = render(marked) else {
                continue;
            };
            let is_outside = from_outside.contains(&marked);
            if marks.unmark(&rendered) == text {
                let found = match is_outside {
                    true => Self::cut(specials, &rendered).unmarked(marks),
                    false => Self::written(specials, marks, &text, &rendered),
                };
                if own.as_ref().map(count) < Some(count(&found)) {
                    own = Some(found);
                }
            } else if is_outside && !marks.are_escaped(&rendered, &text) {
                safe = Some(Self::cut(specials, &rendered).unmarked(marks));
            }
        }
        own.or(safe).ok_or_else(|| {
            TextError::Template(
                "it cannot be told which control tokens are its own and which a message spells; \
                 leave control tokens out of the messages"
                    .to_owned(),
            )
        })
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
