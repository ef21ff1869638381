//! What transformers' Jinja2 has and ours has not, written in words that ours knows.

use super::source::{tokens, Edits, Kind, Token};

/// The filter that does what `%` does in Python.
pub(super) const PERCENT: &str = "_percent";

/// `source` for our Jinja: ends of lines are `\n`, as Jinja2 makes them; `{% generation %}`, by which
/// transformers marks what the assistant wrote, is a block that means nothing; strings side by side are
/// one; and `%` is a filter, because it formats where a text stands before it.
pub(super) fn translate(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let tokens = tokens(&source);
    let mut edits = Edits::default();
    without_generation_marks(&source, &tokens, &mut edits);
    joined_strings(&tokens, &mut edits);
    percent_as_filter(&source, &tokens, &mut edits);
    edits.apply(&source)
}

fn without_generation_marks(source: &str, tokens: &[Token], edits: &mut Edits) {
    for tag in tokens.windows(3) {
        let [open, name, close] = tag else { continue };
        let kinds = (open.kind, name.kind, close.kind);
        if kinds != (Kind::Block, Kind::Name, Kind::Close) {
            continue;
        }
        match &source[name.at.clone()] {
            "generation" => edits.replace(name.at.clone(), "with"),
            "endgeneration" => edits.replace(name.at.clone(), "endwith"),
            _ => {}
        }
    }
}

/// `'a' 'b'` is `('a' ~ 'b')`.
fn joined_strings(tokens: &[Token], edits: &mut Edits) {
    for run in tokens.chunk_by(|left, right| left.kind == Kind::Text && right.kind == Kind::Text) {
        let (Some(first), Some(last), true) = (run.first(), run.last(), run.len() > 1) else {
            continue;
        };
        edits.insert(first.at.start, "(");
        for token in &run[1..] {
            edits.insert(token.at.start, "~ ");
        }
        edits.insert(last.at.end, ")");
    }
}

/// `a % b` is `(a)|_percent(b)`.
fn percent_as_filter(source: &str, tokens: &[Token], edits: &mut Edits) {
    let text = |at: usize| tokens.get(at).map_or("", |token| &source[token.at.clone()]);
    for (i, token) in tokens.iter().enumerate() {
        if token.kind != Kind::Sign || text(i) != "%" {
            continue;
        }
        let operands = Operands { source, tokens };
        let (Some(first), Some(last)) = (operands.left(i), operands.right(i)) else {
            continue;
        };
        edits.insert(tokens[first].at.start, "(");
        edits.replace(token.at.clone(), format!(")|{PERCENT}("));
        edits.insert(tokens[last].at.end, ")");
    }
}

struct Operands<'a> {
    source: &'a str,
    tokens: &'a [Token],
}

impl Operands<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens
            .get(at)
            .map_or("", |token| &self.source[token.at.clone()])
    }

    /// The first token of what stands before the `%` at `at` and binds at least as strongly.
    fn left(&self, at: usize) -> Option<usize> {
        let mut first = None;
        let mut depth = 0_usize;
        for i in (0..at).rev() {
            let text = self.text(i);
            match self.tokens[i].kind {
                Kind::Sign if matches!(text, ")" | "]" | "}") => depth += 1,
                Kind::Sign if matches!(text, "(" | "[" | "{") => {
                    if depth == 0 {
                        break;
                    }
                    depth -= 1;
                }
                Kind::Data | Kind::Block | Kind::Variable | Kind::Close => break,
                _ if depth > 0 => continue,
                Kind::Sign if matches!(text, "+" | "-") && !self.ends_operand(i.checked_sub(1)) => {
                }
                Kind::Sign if !matches!(text, "." | "|" | "*" | "/" | "//" | "%" | "**") => break,
                Kind::Name if self.is_keyword(i) => break,
                _ => {}
            }
            first = Some(i);
        }
        first
    }

    /// The last token of what stands after it and binds more strongly.
    fn right(&self, at: usize) -> Option<usize> {
        let mut i = at + 1;
        while matches!(self.text(i), "+" | "-") && self.tokens[i].kind == Kind::Sign {
            i += 1;
        }
        let mut last = self.primary(i)?;
        while self.tokens.get(last + 1)?.kind == Kind::Text {
            last += 1;
        }
        loop {
            last = match self.text(last + 1) {
                "." | "|" => last + 2,
                "(" | "[" => self.closing(last + 1)?,
                "**" => self.right(last + 1)?,
                _ => return Some(last),
            };
        }
    }

    /// The last token of the name, number, string or bracket that begins at `at`.
    fn primary(&self, at: usize) -> Option<usize> {
        match self.tokens.get(at)?.kind {
            Kind::Name | Kind::Number | Kind::Text => Some(at),
            Kind::Sign => self.closing(at),
            _ => None,
        }
    }

    /// The bracket that closes the one at `at`.
    fn closing(&self, at: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for i in at..self.tokens.len() {
            match (self.tokens[i].kind, self.text(i)) {
                (Kind::Sign, "(" | "[" | "{") => depth += 1,
                (Kind::Sign, ")" | "]" | "}") => depth = depth.checked_sub(1)?,
                _ => {}
            }
            if depth == 0 {
                return (i > at).then_some(i);
            }
        }
        None
    }

    fn ends_operand(&self, at: Option<usize>) -> bool {
        at.is_some_and(|i| match self.tokens[i].kind {
            Kind::Text | Kind::Number => true,
            Kind::Name => !self.is_keyword(i),
            Kind::Sign => matches!(self.text(i), ")" | "]" | "}"),
            _ => false,
        })
    }

    /// Whether a name ends an expression before it, rather than being part of one.
    fn is_keyword(&self, at: usize) -> bool {
        let is_first = at
            .checked_sub(1)
            .is_some_and(|i| self.tokens[i].kind == Kind::Block);
        let is_attribute = at.checked_sub(1).is_some_and(|i| self.text(i) == ".");
        let words = ["and", "or", "not", "in", "is", "if", "else"];
        !is_attribute && (is_first || words.contains(&self.text(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_lines_are_those_of_jinja2() {
        assert_eq!(
            translate("a\r\nb\rc\n{{ 'x\r\ny' }}\r\n"),
            "a\nb\nc\n{{ 'x\ny' }}\n"
        );
    }

    #[test]
    fn generation_marks_become_blocks_that_mean_nothing() {
        let marked = "{%- generation -%}a{% endgeneration %}{% set generation = 1 %}{{ '{% generation %}' }}";
        let plain = "{%- with -%}a{% endwith %}{% set generation = 1 %}{{ '{% generation %}' }}";
        assert_eq!(translate(marked), plain);
    }

    #[test]
    fn strings_side_by_side_are_one() {
        assert_eq!(translate("{{ 'a' \"b\" | f }}"), "{{ ('a' ~ \"b\") | f }}");
        assert_eq!(translate("{{ ['a', 'b'] }}"), "{{ ['a', 'b'] }}");
    }

    #[test]
    fn a_remainder_takes_the_operands_that_it_takes_in_jinja2() {
        let cases = [
            ("{{ a % b }}", "{{ (a )|_percent( b) }}"),
            (
                "{{ x + a.b[1] % -c.d(2)|e + 3 }}",
                "{{ x + (a.b[1] )|_percent( -c.d(2)|e) + 3 }}",
            ),
            ("{{ a % b % c }}", "{{ ((a )|_percent( b) )|_percent( c) }}"),
            (
                "{% if n % 2 == 0 and m % (3 % 2) %}",
                "{% if (n )|_percent( 2) == 0 and (m )|_percent( ((3 )|_percent( 2))) %}",
            ),
            ("{{ -n % 2 ** 3 }}", "{{ (-n )|_percent( 2 ** 3) }}"),
            ("{{ 5 - n * 2 % 4 }}", "{{ 5 - (n * 2 )|_percent( 4) }}"),
            (
                "{{ f(1, 'a' % b) ~ 'c' % d }}",
                "{{ f(1, ('a' )|_percent( b)) ~ ('c' )|_percent( d) }}",
            ),
            ("{{ 'a' 'b' % c }}", "{{ (('a' ~ 'b') )|_percent( c) }}"),
            (
                "{% set x = y if z % 2 else w %}",
                "{% set x = y if (z )|_percent( 2) else w %}",
            ),
            (
                "{{ 'a % b' }} 50 % off {# 1 % 2 #}",
                "{{ 'a % b' }} 50 % off {# 1 % 2 #}",
            ),
        ];
        for (source, want) in cases {
            assert_eq!(translate(source), want);
        }
    }
}
