//! A value with its unit.

use num_traits::ToPrimitive;

use super::super::expr::Expr;
use super::super::surface::{CURRENCY, DEGREE};
use super::super::token::{Kind, Token};
use super::super::unit::{self, Unit};
use super::Parser;

/// Words of a unit, at most: more are a sentence.
const MAX_WORDS: usize = 6;

impl Parser<'_> {
    /// The value without its unit.
    pub(super) fn measured(&mut self, mut value: Expr) -> Option<(Expr, Option<Unit>)> {
        let mut words: Vec<String> = self.currency.take().into_iter().collect();
        value = match value {
            Expr::Degrees(inside) => {
                words.push("degree".into());
                *inside
            }
            Expr::Negative(inside) => match *inside {
                Expr::Degrees(inside) => {
                    words.push("degree".into());
                    Expr::Negative(inside)
                }
                inside => Expr::Negative(inside.into()),
            },
            other => other,
        };
        while let Some(factor) = self.next().and_then(Token::letters).and_then(unit::scale) {
            self.at += 1;
            value = Expr::Product(Box::new(value), Box::new(Expr::from(factor)));
        }
        self.unit_words(&mut words);
        let measurable = value.is_numeric() && value.is_scalar();
        (words.is_empty() || measurable).then(|| (value, Unit::new(&words)))
    }

    fn unit_words(&mut self, words: &mut Vec<String>) {
        while let Some(token) = self.next().filter(|_| words.len() <= MAX_WORDS) {
            let after = self.tokens.get(self.at + 1).and_then(Token::letters);
            match (&token.kind, after) {
                (Kind::Letters(word), _) if unit::may_be_one(word) => {
                    self.at += 1;
                    let power = self.unit_power().map_or(String::new(), |n| format!("^{n}"));
                    words.push(format!("{word}{power}"));
                    self.takes('.');
                }
                (Kind::Sign('/'), Some(word)) if unit::may_be_one(word) => {
                    self.at += 2;
                    let power = self.unit_power().map_or(String::new(), |n| format!("^{n}"));
                    words.push(format!("/{word}{power}"));
                }
                (Kind::Sign('-' | '*'), Some(word))
                    if !words.is_empty() && unit::may_be_one(word) =>
                {
                    self.at += 1;
                }
                (Kind::Sign('%' | DEGREE | CURRENCY | '\u{20ac}' | '\u{a3}'), _) => {
                    self.at += 1;
                    words.push(token.text.clone());
                }
                _ => return,
            }
        }
    }

    fn unit_power(&mut self) -> Option<u32> {
        let start = self.at;
        let power = self.takes('^').then(|| {
            let braces = self.takes('{');
            let Kind::Number(number) = &self.next()?.kind else {
                return None;
            };
            self.at += 1;
            (!braces || self.takes('}')).then(|| number.value.to_u32())?
        })?;
        if power.is_none() {
            self.at = start;
        }
        power
    }
}
