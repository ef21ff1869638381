//! A template whose own control tokens are marked.

use std::ops::Range;

use super::marks::Marks;
use super::source::{tokens, Edits, Kind, Token};
use super::ROLES;
use crate::tokenizer::SpecialStrings;

/// Methods, filters and tests whose arguments say what is looked for. The second one of `replace` and `get` is
/// written.
const LOOKS_FOR: [&str; 24] = [
    "split",
    "rsplit",
    "partition",
    "rpartition",
    "startswith",
    "endswith",
    "startingwith",
    "endingwith",
    "strip",
    "lstrip",
    "rstrip",
    "trim",
    "removeprefix",
    "removesuffix",
    "find",
    "rfind",
    "index",
    "rindex",
    "count",
    "replace",
    "get",
    "attr",
    "eq",
    "equalto",
];

/// Whether words are marked, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    Plain,
    /// Names of roles wherever they are compared or written, because roles are marked, and other parts of names
    /// where they are written, and keys that are names.
    Marked,
    /// Only those, with a sign in them, that are looked for: in texts that are marked themselves.
    Looked,
}

/// `source` with marks on what spells control tokens, whole or in part, in its text and in its strings.
/// Strings that are looked for in others are left alone, or are the only ones with marks ([`Words::Looked`]).
pub(super) fn marked(
    source: &str,
    specials: &SpecialStrings,
    marks: &Marks,
    words: Words,
) -> String {
    let tokens = tokens(source);
    let names = Names::new(specials);
    let mut edits = Edits::default();
    let mut calls: Vec<Call> = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        follow(source, &tokens, i, &mut calls);
        let (characters, use_of) = match token.kind {
            Kind::Data => (characters(source, token.at.clone()), Use::Written),
            Kind::Text => {
                let inner = token.at.start + 1..token.at.end - 1;
                (
                    characters(source, inner),
                    use_of(source, &tokens, i, &calls),
                )
            }
            _ => continue,
        };
        let text: String = characters.iter().map(|(c, _)| *c).collect();
        let is_role = ROLES.contains(&text.as_str());
        let is_part = || names.have(&text);
        let is_word = match words {
            Words::Plain => false,
            Words::Marked => is_role || (use_of == Use::Written && is_part()),
            Words::Looked => use_of == Use::Looked && text.contains(is_sign),
        };
        let spelt = match (use_of, words) {
            _ if is_word => std::iter::once(0..characters.len()).collect(),
            (_, Words::Looked) | (Use::Looked, _) | (Use::Key, Words::Plain) => Vec::new(),
            (Use::Key, Words::Marked) if specials.id(&text).is_none() => Vec::new(),
            (Use::Written | Use::Key, _) => spelt(&text, specials, &names),
        };
        for (character, at) in spelt.into_iter().flat_map(|range| &characters[range]) {
            let mark = marks.mark_of(*character);
            if mark != *character {
                edits.replace(at.clone(), mark);
            }
        }
    }
    edits.apply(source)
}

/// What a string in an expression is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It is compared or looked for.
    Looked,
    /// It is the key of something.
    Key,
    Written,
}

/// An open bracket.
struct Call {
    /// Whether its contents are looked for.
    looks_for: bool,
    /// Whether only the first argument is.
    writes_rest: bool,
    /// Whether that one is a key.
    gets: bool,
    arguments: usize,
    /// `x[` rather than a list.
    is_subscript: bool,
}

/// Keeps account of the brackets that are open at token `i`.
fn follow(source: &str, tokens: &[Token], i: usize, calls: &mut Vec<Call>) {
    if tokens[i].kind != Kind::Sign {
        return;
    }
    let text = |at: usize| &source[tokens[at].at.clone()];
    let before = i.checked_sub(1).map(|at| (tokens[at].kind, text(at)));
    match text(i) {
        "(" | "[" | "{" => {
            let called = before
                .filter(|(kind, _)| *kind == Kind::Name)
                .map(|(_, name)| name);
            let is_operand = matches!(before, Some((Kind::Name, name)) if !matches!(name, "in" | "and" | "or" | "not" | "is" | "if" | "else"))
                || matches!(before, Some((_, ")" | "]")));
            let is_compared = match before {
                Some((_, "in")) => !is_loop(source, &tokens[..i - 1]),
                Some((_, sign)) => matches!(sign, "==" | "!=" | "<" | ">" | "<=" | ">="),
                None => false,
            };
            let inherits = calls
                .last()
                .is_some_and(|call| call.looks_for && called.is_none());
            let is_method = called.is_some_and(|name| LOOKS_FOR.contains(&name));
            calls.push(Call {
                looks_for: is_method || is_compared || inherits,
                writes_rest: matches!(called, Some("replace" | "get")),
                gets: matches!(called, Some("get" | "attr")),
                arguments: 0,
                is_subscript: text(i) == "[" && is_operand,
            });
        }
        ")" | "]" | "}" => {
            calls.pop();
        }
        "," => {
            if let Some(call) = calls.last_mut() {
                call.arguments += 1;
            }
        }
        _ => {}
    }
}

/// Whether the `in` behind `tokens` is that of `for .. in`.
fn is_loop(source: &str, tokens: &[Token]) -> bool {
    let mut texts = tokens.iter().rev().map(|token| &source[token.at.clone()]);
    let is_variable = |text: &str| {
        let is_name = text.starts_with(|c: char| c.is_alphabetic() || c == '_');
        matches!(text, "," | "(" | ")")
            || (is_name && !matches!(text, "for" | "if" | "elif" | "and" | "or" | "not" | "in"))
    };
    texts.find(|text| !is_variable(text)) == Some("for")
}

fn use_of(source: &str, tokens: &[Token], i: usize, calls: &[Call]) -> Use {
    let text = |at: Option<usize>| {
        let token = at.and_then(|at| tokens.get(at));
        token.map_or("", |token| &source[token.at.clone()])
    };
    let (before, after) = (text(i.checked_sub(1)), text(Some(i + 1)));
    let is_key = after == ":" || calls.last().is_some_and(|call| call.is_subscript);
    let compares = |sign: &str| matches!(sign, "==" | "!=" | "<" | ">" | "<=" | ">=" | "in");
    let is_not_in = after == "not" && text(Some(i + 2)) == "in";
    let is_test_of = matches!(
        before,
        "startingwith" | "endingwith" | "eq" | "equalto" | "in"
    );
    if is_key {
        return Use::Key;
    }
    if compares(before) || compares(after) || is_not_in || is_test_of {
        return Use::Looked;
    }
    match calls.last() {
        Some(call) if call.writes_rest && call.arguments > 0 => Use::Written,
        Some(call) if call.gets => Use::Key,
        Some(call) if call.looks_for => Use::Looked,
        _ => Use::Written,
    }
}

/// The characters of a part of the source, with those of escapes left out as they are: an escape is a
/// character that is not marked.
fn characters(source: &str, at: Range<usize>) -> Vec<(char, Range<usize>)> {
    let mut characters = Vec::new();
    let mut is_escaped = false;
    for (offset, character) in source[at.clone()].char_indices() {
        let start = at.start + offset;
        let range = start..start + character.len_utf8();
        // `\` and what follows it stand for something else; no name has a backslash.
        let is_escape = is_escaped || character == '\\';
        is_escaped = character == '\\' && !is_escaped;
        characters.push((if is_escape { '\\' } else { character }, range));
    }
    characters
}

/// Where a text spells names, in characters: whole ones, and in each of its pieces (see [`pieces`]) the
/// beginning of one at the end, the end of one at the beginning, or a part of one.
fn spelt(text: &str, specials: &SpecialStrings, names: &Names<'_>) -> Vec<Range<usize>> {
    let to_characters = |at: usize| text[..at].chars().count();
    let whole = specials.spans(text).into_iter();
    let mut found: Vec<Range<usize>> = whole
        .map(|(_, at)| to_characters(at.start)..to_characters(at.end))
        .collect();
    for piece in pieces(text) {
        let start = to_characters(piece.start);
        let parts = parts(&text[piece], names).into_iter();
        found.extend(parts.map(|part| start + part.start..start + part.end));
    }
    found.sort_by_key(|range| (range.start, range.end));
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in found {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// What stands between the fields of a format, `%s` or `{}`: other text comes between them.
fn pieces(text: &str) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while let Some(at) = text[start..].find(['%', '{']).map(|at| start + at) {
        pieces.push(start..at);
        let rest = &text[at..];
        let field = match rest.strip_prefix('{') {
            Some(inner) => inner.find('}').map_or(1, |end| end + 2),
            None => rest.chars().take(2).map(char::len_utf8).sum(),
        };
        start = at + field;
    }
    pieces.push(start..text.len());
    pieces
}

/// Parts of names at the ends of a text, in characters. They have a sign: else every word would be one.
fn parts(text: &str, names: &Names<'_>) -> Vec<Range<usize>> {
    let length = text.chars().count();
    let mut found = Vec::new();
    for (at, character) in text.char_indices() {
        let (head, tail) = (&text[..at + character.len_utf8()], &text[at..]);
        if tail.len() < names.longest && tail.contains(is_sign) && names.begin_with(tail) {
            found.push(length - tail.chars().count()..length);
        }
        if head.len() < names.longest && head.contains(is_sign) && names.end_with(head) {
            found.push(0..head.chars().count());
        }
    }
    if text.contains(is_sign) && names.have(text) {
        found.push(0..length);
    }
    found
}

fn is_sign(c: char) -> bool {
    !c.is_alphanumeric() && !c.is_whitespace() && c != '_'
}

/// Names of control tokens; some vocabularies have thousands.
struct Names<'a> {
    sorted: Vec<&'a str>,
    /// Written backwards.
    reversed: Vec<String>,
    /// Bytes of the longest.
    longest: usize,
}

impl<'a> Names<'a> {
    fn new(specials: &'a SpecialStrings) -> Self {
        let mut sorted: Vec<&str> = specials.names().collect();
        sorted.sort_unstable();
        let mut reversed: Vec<String> = sorted.iter().map(|name| backwards(name)).collect();
        reversed.sort_unstable();
        let longest = sorted.iter().map(|name| name.len()).max();
        Self {
            sorted,
            reversed,
            longest: longest.unwrap_or(0),
        }
    }

    fn begin_with(&self, head: &str) -> bool {
        let at = self.sorted.partition_point(|name| *name < head);
        self.sorted
            .get(at)
            .is_some_and(|name| name.starts_with(head))
    }

    fn end_with(&self, tail: &str) -> bool {
        let head = backwards(tail);
        let at = self.reversed.partition_point(|name| *name < head);
        let name = self.reversed.get(at);
        name.is_some_and(|name| name.starts_with(&head))
    }

    fn have(&self, part: &str) -> bool {
        part.len() <= self.longest && self.sorted.iter().any(|name| name.contains(part))
    }
}

fn backwards(text: &str) -> String {
    text.chars().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::named;

    fn shown(source: &str, words: Words) -> String {
        let specials = named(&["<s>", "<|im_end|>", "<|user|>", "[/INST]"]);
        let marks = Marks::new(&specials, [source].into_iter()).unwrap();
        let marked = marked(source, &specials, &marks, words);
        let shown = marked
            .chars()
            .map(|c| if marks.is_mark(c) { '#' } else { c });
        shown.collect()
    }

    #[test]
    fn names_and_their_ends_are_marked_where_they_are_written() {
        let cases = [
            ("a<|im_end|>b{{ '<s>' + x }}", "a##########b{{ '###' + x }}"),
            (
                "{{ '<|' + m.role + '|>\\n' }} <b>",
                "{{ '##' + m.role + '##\\n' }} <b>",
            ),
            (
                "{{ '<|%s|>' % x ~ '[{}]'.format(y) }}",
                "{{ '##%s##' % x ~ '#{}#'.format(y) }}",
            ),
            (
                "{{ x.replace('<s>', '<s>') }}",
                "{{ x.replace('<s>', '###') }}",
            ),
            (
                "{% if '<s>' in x or x == '<s>' or x in ['<s>', ('<s>')] %}",
                "{% if '<s>' in x or x == '<s>' or x in ['<s>', ('<s>')] %}",
            ),
            (
                "{{ x.split('<s>')[0] }}{{ d['<s>'] }}{{ {'<s>': '<s>'} }}",
                "{{ x.split('<s>')[0] }}{{ d['<s>'] }}{{ {'<s>': '###'} }}",
            ),
            (
                "{{ x.startswith(('<s>', 'a')) }}{{ ['<s>'] | join('<s>') }}",
                "{{ x.startswith(('<s>', 'a')) }}{{ ['###'] | join('###') }}",
            ),
            (
                "{% set a = '<s>' if b else '</think>' %}",
                "{% set a = '###' if b else '</think>' %}",
            ),
            (
                "{% if m.role == 'user' %}user{{ 'user' }}",
                "{% if m.role == 'user' %}user{{ 'user' }}",
            ),
            (
                "{{ d.get('<s>', '<s>') }}{{ {'a': '<s>'}.get(x, '<s>') }}",
                "{{ d.get('<s>', '###') }}{{ {'a': '###'}.get(x, '###') }}",
            ),
            (
                "{% for a, b in ['<s>'] %}{% for c in d if c in ['<s>'] %}",
                "{% for a, b in ['###'] %}{% for c in d if c in ['<s>'] %}",
            ),
        ];
        for (source, want) in cases {
            assert_eq!(shown(source, Words::Plain), want);
        }
    }

    #[test]
    fn words_are_marked_where_roles_are() {
        let source = "{% if m.role == 'user' %}{{ '<|' + 'im_' ~ 'end' }}{{ {'user': 'x'}[m['role']] }}{% endif %}";
        let want = "{% if m.role == '####' %}{{ '##' + '###' ~ '###' }}{{ {'####': 'x'}[m['role']] }}{% endif %}";
        assert_eq!(shown(source, Words::Marked), want);
        let keys = "{{ {'<s>': x, 'a<s>': x}.items() }}";
        let want = "{{ {'###': x, 'a<s>': x}.items() }}";
        assert_eq!(shown(keys, Words::Marked), want);
    }

    #[test]
    fn what_is_looked_for_is_marked_beside_marked_texts() {
        let source = "{% if '</s>' in c and m['<s>'] == 'user' %}<s>{{ c.split('<|')[0] ~ '<s>' }}{{ m.get('<s>') }}";
        let want = "{% if '####' in c and m['<s>'] == 'user' %}<s>{{ c.split('##')[0] ~ '<s>' }}{{ m.get('<s>') }}";
        assert_eq!(shown(source, Words::Looked), want);
    }
}
