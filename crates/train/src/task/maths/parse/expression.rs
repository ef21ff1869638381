//! Expressions: sums of products of factors.

use num_traits::{Signed, Zero};

use super::super::expr::{Expr, Function};
use super::super::surface::{DEGREE, EN_DASH, INFINITY, PI, PLUS_MINUS, UNION};
use super::super::token::{Kind, Token};
use super::super::unit;
use super::primary::GREEK;
use super::{Parser, MAX_DEPTH, MAX_PARTS};

impl Parser<'_> {
    pub(super) fn expr(&mut self) -> Option<Expr> {
        let first = self.sum()?;
        if self.sign() != Some(UNION) {
            return Some(first);
        }
        let mut parts = vec![first];
        while self.takes(UNION) && parts.len() < MAX_PARTS {
            parts.push(self.sum()?);
        }
        Some(Expr::Union(parts))
    }

    pub(super) fn sum(&mut self) -> Option<Expr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let mut value = match self.sign() {
            Some('-' | EN_DASH) => {
                self.at += 1;
                Expr::Negative(self.term()?.into())
            }
            Some('+') => {
                self.at += 1;
                self.term()?
            }
            Some(PLUS_MINUS) => Expr::from(0),
            _ => self.term()?,
        };
        while let Some(sign @ ('+' | '-' | PLUS_MINUS)) = self.sign() {
            // "12 square-feet"
            if sign == '-'
                && self
                    .tokens
                    .get(self.at + 1)
                    .and_then(Token::letters)
                    .is_some_and(unit::is_measure)
            {
                break;
            }
            self.at += 1;
            let (left, right) = (Box::new(value), Box::new(self.term()?));
            value = match sign {
                '+' => Expr::Sum(left, right),
                '-' => Expr::Sum(left, Box::new(Expr::Negative(right))),
                _ => Expr::PlusMinus(left, right),
            };
        }
        self.depth -= 1;
        Some(value)
    }

    fn term(&mut self) -> Option<Expr> {
        let mut value = self.factor()?;
        let mut divided = false;
        loop {
            if let Some(part) = self.mixed(&value) {
                value = Expr::Sum(Box::new(value), Box::new(part));
            } else if self.takes('*') || self.takes_times(&value) {
                value = Expr::Product(Box::new(value), self.signed_factor()?.into());
            } else if self.sign() == Some('/') && !self.is_unit_after_stroke() {
                self.at += 1;
                value = Expr::Quotient(Box::new(value), self.signed_factor()?.into());
                divided = true;
            } else if self.begins_factor() {
                // 1/2x: nobody knows.
                if divided
                    && self
                        .next()
                        .is_some_and(|t| t.letters().is_some() && !t.spaced)
                {
                    return None;
                }
                value = Expr::Product(Box::new(value), self.factor()?.into());
            } else {
                return Some(value);
            }
        }
    }

    fn is_unit_after_stroke(&self) -> bool {
        let before = self
            .at
            .checked_sub(1)
            .and_then(|at| self.tokens[at].letters());
        let after = self.tokens.get(self.at + 1).and_then(Token::letters);
        before.is_some_and(unit::is_measure) && after.is_some_and(unit::is_measure)
    }

    /// `1.5 x 10^3`.
    fn takes_times(&mut self, value: &Expr) -> bool {
        let number =
            |token: Option<&Token>| token.is_some_and(|t| matches!(t.kind, Kind::Number(_)));
        let times = value.literal().is_some()
            && number(self.tokens.get(self.at + 1))
            && self
                .next()
                .and_then(Token::letters)
                .is_some_and(|w| w == "x" || w == "X");
        self.at += usize::from(times);
        times
    }

    fn signed_factor(&mut self) -> Option<Expr> {
        match self.takes('-') {
            true => Some(Expr::Negative(self.factor()?.into())),
            false => self.factor(),
        }
    }

    /// The fraction of a mixed number: `2\frac{3}{4}`, `1 1/2`.
    fn mixed(&mut self, value: &Expr) -> Option<Expr> {
        let whole = |expr: &Expr| {
            let Expr::Number(literal) = expr else {
                return None;
            };
            let natural =
                literal.value.is_integer() && literal.places == 0 && !literal.value.is_negative();
            natural.then(|| literal.value.clone())
        };
        whole(value)?;
        let start = self.at;
        let part = match &self.next()?.kind {
            Kind::Command(name) if name == "frac" => self.primary(),
            Kind::Number(_) if self.tokens.get(start + 1).is_some_and(|t| t.is('/')) => {
                let above = self.primary();
                self.at += 1;
                let below = self.next().filter(|t| matches!(t.kind, Kind::Number(_)));
                let below = below.and_then(|_| self.primary());
                above
                    .zip(below)
                    .map(|(a, b)| Expr::Quotient(a.into(), b.into()))
            }
            _ => return None,
        };
        let proper = part.filter(|part| match part {
            Expr::Quotient(a, b) => whole(a)
                .zip(whole(b))
                .is_some_and(|(a, b)| !a.is_zero() && a < b),
            _ => false,
        });
        if proper.is_none() {
            self.at = start;
        }
        proper
    }

    /// Whether what comes next is multiplied with what was there.
    pub(super) fn begins_factor(&self) -> bool {
        let Some(token) = self.next() else {
            return false;
        };
        match &token.kind {
            Kind::Number(_) => false,
            Kind::Sign(sign) => ['(', '{', PI, INFINITY].contains(sign),
            Kind::Command(name) => {
                ["frac", "sqrt", "binom", "log"].contains(&name.as_str())
                    || Function::named(name).is_some()
                    || GREEK.contains(&name.as_str())
            }
            Kind::Letters(word) => self.is_variable(token, word),
        }
    }

    fn is_variable(&self, token: &Token, word: &str) -> bool {
        let measure = unit::is_measure(word);
        match word {
            "and" | "or" => false,
            "sqrt" | "log" | "pi" => true,
            _ if Function::named(word).is_some() => true,
            _ if word.chars().count() == 1 => !(measure && token.spaced && self.ends_after_unit()),
            _ => !token.spaced && !measure && word.chars().count() <= 3,
        }
    }

    /// Whether a letter behind a number is the last thing of its part, as a unit is.
    fn ends_after_unit(&self) -> bool {
        let joins = |token: &Token| match &token.kind {
            Kind::Sign(sign) => ",;/^.".contains(*sign),
            Kind::Letters(word) => word.len() > 1,
            _ => false,
        };
        self.tokens.get(self.at + 1).is_none_or(joins)
    }

    pub(super) fn factor(&mut self) -> Option<Expr> {
        let mut value = self.primary()?;
        loop {
            let after = self.tokens.get(self.at + 1);
            match self.sign() {
                Some('!') if !after.is_some_and(|t| t.is('=')) => {
                    self.at += 1;
                    value = Expr::Factorial(value.into());
                }
                Some(DEGREE) => {
                    self.at += 1;
                    value = Expr::Degrees(value.into());
                }
                Some('^') => {
                    self.at += 1;
                    let exponent = self.signed_factor_part()?;
                    // 2^3^2: nobody knows.
                    if self.sign() == Some('^') {
                        return None;
                    }
                    value = Expr::Power(value.into(), exponent.into());
                }
                _ => return Some(value),
            }
        }
    }

    /// An exponent.
    pub(super) fn signed_factor_part(&mut self) -> Option<Expr> {
        match self.takes('-') || self.takes(EN_DASH) {
            true => Some(Expr::Negative(self.primary()?.into())),
            false => self.primary(),
        }
    }
}
