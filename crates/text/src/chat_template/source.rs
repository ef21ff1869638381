//! The text of a template, cut into tokens, so that parts of it can be written anew.

use std::ops::Range;

/// A piece of a template that is not white space or a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    /// Bytes of the source.
    pub at: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text between tags.
    Data,
    /// `{%`, with its sign.
    Block,
    /// `{{`, with its sign.
    Variable,
    /// `%}` or `}}`, with its sign.
    Close,
    /// A name or a keyword.
    Name,
    /// A string with its quotes.
    Text,
    Number,
    /// An operator or a bracket.
    Sign,
}

/// Operators of two characters.
const LONG_SIGNS: [&str; 6] = ["**", "//", "==", "!=", "<=", ">="];

/// Cuts `source` into tokens. Where it is no template (a string without an end), the rest is left
/// out: the template does not parse, and the parser says so.
pub(super) fn tokens(source: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        source,
        at: 0,
        tokens: Vec::new(),
    };
    while lexer.data().is_some() {}
    lexer.tokens
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn push(&mut self, kind: Kind, length: usize) {
        let at = self.at..self.at + length;
        self.at = at.end;
        if !at.is_empty() {
            self.tokens.push(Token { kind, at });
        }
    }

    /// Text up to the next tag, and that tag; `None` at the end.
    fn data(&mut self) -> Option<()> {
        let starts = ["{{", "{%", "{#"].map(|start| self.rest().find(start));
        let Some(length) = starts.into_iter().flatten().min() else {
            self.push(Kind::Data, self.rest().len());
            return None;
        };
        self.push(Kind::Data, length);
        if self.rest().starts_with("{#") {
            self.at += self.rest().find("#}")? + 2;
            return Some(());
        }
        if let Some(start) = plain_tag(self.rest(), "raw") {
            self.at += start;
            let ends = self.rest().match_indices("{%");
            let (length, _) = ends
                .into_iter()
                .find(|&(at, _)| plain_tag(&self.rest()[at..], "endraw").is_some())?;
            self.push(Kind::Data, length);
            self.at += plain_tag(self.rest(), "endraw")?;
            return Some(());
        }
        let kind = match self.rest().starts_with("{{") {
            true => Kind::Variable,
            false => Kind::Block,
        };
        let sign = self.rest()[2..].starts_with(['-', '+']);
        self.push(kind, 2 + usize::from(sign));
        self.expression()
    }

    /// What stands in a tag, and its end.
    fn expression(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            let blank = self.rest().len() - self.rest().trim_start().len();
            self.at += blank;
            let rest = self.rest();
            let first = rest.chars().next()?;
            let closing = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            if depth == 0 && (closing.starts_with("%}") || closing.starts_with("}}")) {
                let length = rest.len() - closing.len() + 2;
                self.push(Kind::Close, length);
                return Some(());
            }
            match first {
                '\'' | '"' => self.push(Kind::Text, string_length(rest)?),
                'a'..='z' | 'A'..='Z' | '_' => {
                    let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    let length = rest.find(|c| !is_in_name(c)).unwrap_or(rest.len());
                    self.push(Kind::Name, length);
                }
                '0'..='9' => self.push(Kind::Number, number_length(rest)),
                _ => {
                    match first {
                        '(' | '[' | '{' => depth += 1,
                        ')' | ']' | '}' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    let long = LONG_SIGNS.iter().find(|sign| rest.starts_with(**sign));
                    self.push(Kind::Sign, long.map_or(first.len_utf8(), |sign| sign.len()));
                }
            }
        }
    }
}

/// The length of the tag `{% name %}` at the beginning of `text`.
fn plain_tag(text: &str, name: &str) -> Option<usize> {
    let inner = text.strip_prefix("{%")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    let after = inner.trim_start().strip_prefix(name)?.trim_start();
    let after = after.strip_prefix(['-', '+']).unwrap_or(after);
    Some(text.len() - after.strip_prefix("%}")?.len())
}

/// The length of the string at the beginning of `text`, quotes included.
fn string_length(text: &str) -> Option<usize> {
    let quote = text.chars().next()?;
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Digits, a fraction, an exponent; `1.5` is one number and `1.x` is not.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_part = |at: usize| {
        bytes
            .get(at)
            .is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
    };
    let mut at = 0;
    loop {
        while is_part(at) {
            at += 1;
        }
        let is_fraction = bytes.get(at) == Some(&b'.')
            && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
            && !text[..at].contains('.');
        let is_exponent = matches!(bytes.get(at), Some(b'-' | b'+'))
            && matches!(bytes[at - 1], b'e' | b'E')
            && !text.starts_with("0x")
            && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        if !is_fraction && !is_exponent {
            return at;
        }
        at += 1;
    }
}

/// A source with parts of it replaced.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// What is replaced, by what. An empty range is an insertion.
    edits: Vec<(Range<usize>, String)>,
}

impl Edits {
    pub(super) fn replace(&mut self, at: Range<usize>, by: impl Into<String>) {
        self.edits.push((at, by.into()));
    }

    pub(super) fn insert(&mut self, at: usize, text: &str) {
        self.replace(at..at, text);
    }

    /// The edited source. Edits at one place stand in the order in which they were made.
    pub(super) fn apply(mut self, source: &str) -> String {
        self.edits.sort_by_key(|(at, _)| at.start);
        let mut text = String::with_capacity(source.len() * 2);
        let mut done = 0;
        for (at, by) in self.edits {
            text.push_str(&source[done..at.start]);
            text.push_str(&by);
            done = at.end;
        }
        text.push_str(&source[done..]);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(source: &str) -> Vec<(Kind, &str)> {
        let token = |token: Token| (token.kind, &source[token.at]);
        tokens(source).into_iter().map(token).collect()
    }

    #[test]
    fn a_template_is_cut_into_tokens() {
        use Kind::{Block, Close, Data, Name, Number, Sign, Text, Variable};
        let source = "a {{- {'}}': {1.5: x.y}} -}} {# {{ #}{%+ if b_1**2 // 1e-3 == \"\\\"\" %}c";
        let want = [
            (Data, "a "),
            (Variable, "{{-"),
            (Sign, "{"),
            (Text, "'}}'"),
            (Sign, ":"),
            (Sign, "{"),
            (Number, "1.5"),
            (Sign, ":"),
            (Name, "x"),
            (Sign, "."),
            (Name, "y"),
            (Sign, "}"),
            (Sign, "}"),
            (Close, "-}}"),
            (Data, " "),
            (Block, "{%+"),
            (Name, "if"),
            (Name, "b_1"),
            (Sign, "**"),
            (Number, "2"),
            (Sign, "//"),
            (Number, "1e-3"),
            (Sign, "=="),
            (Text, "\"\\\"\""),
            (Close, "%}"),
            (Data, "c"),
        ];
        assert_eq!(cut(source), want);
    }

    #[test]
    fn raw_blocks_are_data() {
        let source = "{%- raw -%}{{ a }}{% b %}{%- endraw %}{{ x[1].y }}";
        let kinds: Vec<&str> = cut(source).into_iter().map(|(_, text)| text).collect();
        let want = ["{{ a }}{% b %}", "{{", "x", "[", "1", "]", ".", "y", "}}"];
        assert_eq!(kinds, want);
    }

    #[test]
    fn what_is_no_template_ends_early() {
        for source in ["{{ 'a", "{% raw %}x", "{# x", "{{ a", "{%", "{{ 1 + "] {
            tokens(source);
        }
    }

    #[test]
    fn edits_stand_in_their_order() {
        let mut edits = Edits::default();
        edits.insert(1, "x");
        edits.replace(2..3, "yy");
        edits.insert(1, "z");
        edits.insert(0, "s");
        assert_eq!(edits.apply("abcd"), "saxzbyyd");
    }
}
