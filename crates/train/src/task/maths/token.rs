//! A surface as numbers, letters and signs.

use super::literal::{self, Literal};
use super::surface::PI;

/// The most tokens of an answer.
const MAX_TOKENS: usize = 512;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Number(Literal),
    /// Letters side by side: a variable, several, or a word.
    Letters(String),
    /// A command of LaTeX without its backslash, `{` and `}` among them.
    Command(String),
    Sign(char),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Whether a space stands before it.
    pub(super) spaced: bool,
    /// As it is written.
    pub(super) text: String,
}

impl Token {
    pub(super) fn is(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }

    pub(super) fn is_command(&self, name: &str) -> bool {
        matches!(&self.kind, Kind::Command(command) if command == name)
    }

    pub(super) fn letters(&self) -> Option<&str> {
        match &self.kind {
            Kind::Letters(letters) => Some(letters),
            _ => None,
        }
    }
}

/// What nobody can read as a number: 1.2.3.
const NO_NUMBER: char = '\u{fffd}';

/// The tokens of a surface; `None` if they are too many.
pub(super) fn lex(surface: &str) -> Option<Vec<Token>> {
    let chars: Vec<char> = surface.chars().collect();
    let mut tokens: Vec<Token> = Vec::new();
    // Of each bracket that is open: whether commas in it may be those of thousands.
    let mut open: Vec<bool> = Vec::new();
    let mut at = 0;
    let mut spaced = false;
    while let Some(&c) = chars.get(at) {
        if c.is_whitespace() {
            spaced = true;
            at += 1;
            continue;
        }
        let digits = c.is_ascii_digit() || c == '.' && is_digit(&chars, at + 1);
        let (kind, end) = if digits {
            let commas = open.last().copied().unwrap_or(true);
            match literal::read(&chars, at, commas) {
                Some((literal, end)) => (Kind::Number(literal), end),
                None => (Kind::Sign(NO_NUMBER), digits_and_points(&chars, at)),
            }
        } else if c.is_alphabetic() && c != PI {
            let end = word(&chars, at);
            (Kind::Letters(chars[at..end].iter().collect()), end)
        } else if c == '\\' {
            command(&chars, at)
        } else {
            (Kind::Sign(c), at + 1)
        };
        match &kind {
            Kind::Sign('(' | '[') => open.push(separated(&chars, end)),
            Kind::Command(name) if name == "{" => open.push(separated(&chars, end)),
            Kind::Sign('{') => {
                let outer = open.last().copied().unwrap_or(true);
                open.push(if is_argument(&tokens) {
                    outer
                } else {
                    separated(&chars, end)
                });
            }
            Kind::Sign(')' | ']' | '}') => drop(open.pop()),
            Kind::Command(name) if name == "}" => drop(open.pop()),
            _ => {}
        }
        let text = chars[at..end].iter().collect();
        // "negative 7"
        let number = matches!(kind, Kind::Number(_));
        if let Some(word) = tokens.last_mut().filter(|_| number) {
            if word
                .letters()
                .is_some_and(|w| w == "negative" || w == "minus")
            {
                word.kind = Kind::Sign('-');
            }
        }
        tokens.push(Token { kind, spaced, text });
        (at, spaced) = (end, false);
        if tokens.len() > MAX_TOKENS {
            return None;
        }
    }
    Some(tokens)
}

fn is_digit(chars: &[char], at: usize) -> bool {
    chars.get(at).is_some_and(char::is_ascii_digit)
}

fn digits_and_points(chars: &[char], at: usize) -> usize {
    let part = |c: &&char| c.is_ascii_digit() || **c == '.';
    at + chars[at..].iter().take_while(part).count()
}

fn word(chars: &[char], at: usize) -> usize {
    let letter = |c: &&char| c.is_alphabetic() && **c != PI;
    at + chars[at..].iter().take_while(letter).count()
}

fn command(chars: &[char], at: usize) -> (Kind, usize) {
    let start = at + 1;
    let end = match chars.get(start) {
        Some(c) if c.is_ascii_alphabetic() => {
            let letters = chars[start..]
                .iter()
                .take_while(|c| c.is_ascii_alphabetic());
            start + letters.count()
        }
        Some(_) => start + 1,
        None => start,
    };
    (Kind::Command(chars[start..end].iter().collect()), end)
}

/// Whether a brace that comes next is the argument of a command, or a power.
fn is_argument(tokens: &[Token]) -> bool {
    tokens.last().is_some_and(|token| match &token.kind {
        Kind::Sign(c) => "^_}]".contains(*c),
        Kind::Command(name) => name != "{" && name != "}",
        _ => false,
    })
}

/// Whether the parts of a bracket, which begins at `at`, are told apart by a comma and a space, or by semicolons:
/// only then its other commas may be those of thousands.
fn separated(chars: &[char], at: usize) -> bool {
    let mut depth = 0;
    for (i, c) in chars.iter().enumerate().skip(at) {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return false,
            ')' | ']' | '}' => depth -= 1,
            ';' if depth == 0 => return true,
            ',' if depth == 0 && chars.get(i + 1) == Some(&' ') => return true,
            _ => {}
        }
    }
    false
}
