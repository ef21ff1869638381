//! Tokens as an answer.

mod expression;
mod measured;
mod primary;

use super::equal::differ;
use super::expr::Expr;
use super::surface::{ABOUT, AT_LEAST, AT_MOST, ELEMENT, UNEQUAL};
use super::token::{Kind, Token};
use super::{Answer, Item, What};

/// Expressions within expressions, at most.
const MAX_DEPTH: usize = 48;
/// Parts of a list, at most.
const MAX_PARTS: usize = 64;

/// The answer that `tokens` are, all of them; `(B) 5` is the text of a choice.
pub(super) fn answer(tokens: &[Token]) -> Option<Answer> {
    whole(tokens).or_else(|| {
        let [open, letter, close, text @ ..] = tokens else {
            return None;
        };
        let is_letter = letter.letters().is_some_and(|l| l.len() == 1 && l < "K");
        (open.is('(') && is_letter && close.is(')')).then(|| whole(text))?
    })
}

fn whole(tokens: &[Token]) -> Option<Answer> {
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
        currency: None,
    };
    let mut items = vec![parser.item()?];
    while parser.next().is_some() {
        parser.joiner()?;
        items.push(parser.item()?);
        if items.len() > MAX_PARTS {
            return None;
        }
    }
    Some(Answer { items })
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    /// A sign of money before the number.
    currency: Option<String>,
}

impl<'a> Parser<'a> {
    fn next(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn sign(&self) -> Option<char> {
        match self.next()?.kind {
            Kind::Sign(sign) => Some(sign),
            _ => None,
        }
    }

    /// Takes the next token if it is this sign.
    fn takes(&mut self, sign: char) -> bool {
        let is = self.next().is_some_and(|token| token.is(sign));
        self.at += usize::from(is);
        is
    }

    fn takes_command(&mut self, name: &str) -> bool {
        let is = self.next().is_some_and(|token| token.is_command(name));
        self.at += usize::from(is);
        is
    }

    fn takes_word(&mut self, words: &[&str]) -> bool {
        let is = self
            .next()
            .and_then(Token::letters)
            .is_some_and(|w| words.contains(&w));
        self.at += usize::from(is);
        is
    }

    /// What stands between parts of a list.
    fn joiner(&mut self) -> Option<()> {
        let comma = self.takes(',') || self.takes(';');
        let word = self.takes_word(&["and", "or"]);
        (comma || word).then_some(())
    }

    fn item(&mut self) -> Option<Item> {
        self.currency = None;
        self.takes(ABOUT);
        let start = self.at;
        let mut name = self.name();
        let (mut parts, mut signs) = (vec![self.expr()?], Vec::new());
        let first = start..self.at;
        while let Some(sign) = self.relation() {
            signs.push(sign);
            parts.push(self.expr()?);
        }
        let own = lone_name(&parts[0], &self.tokens[first]);
        let what = folded(&mut name, own, parts, signs)?;
        let What::Value(value) = what else {
            return Some(Item {
                name,
                what,
                unit: None,
            });
        };
        let (value, unit) = self.measured(value)?;
        Some(Item {
            name,
            what: What::Value(value),
            unit,
        })
    }

    /// `f(x) =`, `AB =`, `|AB| =`, `\angle A =` and `total cost =` before a value.
    fn name(&mut self) -> Option<String> {
        let rest = &self.tokens[self.at..];
        let end = rest
            .iter()
            .position(|token| token.is('='))
            .filter(|end| *end > 0)?;
        let before = &rest[..end];
        let words = before.iter().all(|token| token.letters().is_some());
        let long = before
            .iter()
            .any(|token| token.letters().is_some_and(is_name));
        if !(words && long || is_function(before) || is_figure(before)) {
            return None;
        }
        self.at += end + 1;
        Some(written(before))
    }

    fn relation(&mut self) -> Option<char> {
        let sign = self.sign()?;
        let two = self
            .tokens
            .get(self.at + 1)
            .is_some_and(|t| t.is('=') && !t.spaced);
        let (sign, length) = match (sign, two) {
            ('<', true) => (AT_MOST, 2),
            ('>', true) => (AT_LEAST, 2),
            ('!', true) => (UNEQUAL, 2),
            ('=' | '<' | '>' | AT_MOST | AT_LEAST | UNEQUAL | ABOUT | ELEMENT, _) => (sign, 1),
            _ => return None,
        };
        self.at += length;
        Some(sign)
    }
}

/// Whether letters are a name, and no product of variables: a word, or the ends of a segment.
fn is_name(letters: &str) -> bool {
    let vowel = |c: char| "aeiou".contains(c);
    let word = letters.len() > 2 && letters.contains(vowel) && letters != "abc";
    letters.len() > 1 && (word || letters.chars().all(char::is_uppercase))
}

/// `f(x)`, `P(2)`.
fn is_function(tokens: &[Token]) -> bool {
    let [name, open, inside @ .., close] = tokens else {
        return false;
    };
    let plain = |t: &Token| t.letters().is_some() || t.is(',') || matches!(t.kind, Kind::Number(_));
    let name = name.letters().is_some_and(|letters| letters.len() == 1);
    name && open.is('(') && close.is(')') && !inside.is_empty() && inside.iter().all(plain)
}

/// `|AB|`, `\angle ABC`.
fn is_figure(tokens: &[Token]) -> bool {
    match tokens {
        [open, name, close] => open.is('|') && close.is('|') && name.letters().is_some_and(is_name),
        [figure, name] => {
            let figures = ["angle", "triangle"];
            figures.iter().any(|name| figure.is_command(name)) && name.letters().is_some()
        }
        _ => false,
    }
}

/// What may be a name: a variable, or a tuple of them.
fn lone_name(first: &Expr, tokens: &[Token]) -> Option<String> {
    let is_symbol = |expr: &Expr| match expr {
        Expr::Symbol(name) => !name.starts_with(|c: char| c.is_ascii_digit()),
        _ => false,
    };
    match first {
        Expr::Symbol(name) if is_symbol(first) => Some(name.clone()),
        Expr::Bracket('(', parts, ')') if parts.iter().all(is_symbol) => Some(written(tokens)),
        _ => None,
    }
}

/// What a chain of relations says.
fn folded(
    name: &mut Option<String>,
    own: Option<String>,
    mut parts: Vec<Expr>,
    mut signs: Vec<char>,
) -> Option<What> {
    // What is about the same as an answer is not the answer, unless only a name stands before it.
    if let Some(about) = signs.iter().position(|sign| *sign == ABOUT) {
        if about == 0 && own.is_some() {
            signs[0] = '=';
        } else {
            parts.truncate(about + 1);
            signs.truncate(about);
        }
    }
    let equal = signs.iter().all(|sign| *sign == '=');
    let within = signs == [ELEMENT];
    let named = own.is_some() && !signs.is_empty() && (equal || within);
    let last = parts.last()?.clone();
    if signs.is_empty() {
        return Some(What::Value(last));
    }
    // 1 = 2 says nothing.
    if equal && parts.windows(2).any(|two| differ(&two[0], &two[1])) {
        return None;
    }
    if named {
        if name.is_none() {
            *name = own;
        }
        return Some(What::Value(last));
    }
    if equal && parts.iter().all(Expr::is_numeric) {
        return Some(What::Value(last));
    }
    (!signs.contains(&ELEMENT)).then_some(What::Relation(parts, signs))
}

fn written(tokens: &[Token]) -> String {
    tokens.iter().map(|token| token.text.as_str()).collect()
}
