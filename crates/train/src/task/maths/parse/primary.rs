//! What expressions are made of: numbers, variables, functions, brackets, matrices.

use num_traits::ToPrimitive;

use super::super::expr::{Expr, Function, INFINITE};
use super::super::literal::Literal;
use super::super::surface::{CURRENCY, EMPTY, INFINITY, PI};
use super::super::token::{Kind, Token};
use super::{written, Parser, MAX_PARTS};

/// Letters that LaTeX has commands for.
pub(super) const GREEK: [&str; 24] = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "varepsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "rho",
    "sigma",
    "tau",
    "phi",
    "varphi",
    "chi",
    "psi",
    "omega",
    "ell",
];

impl Parser<'_> {
    pub(super) fn primary(&mut self) -> Option<Expr> {
        let token = self.next()?;
        self.at += 1;
        match &token.kind {
            Kind::Number(literal) => match self.subscript()? {
                Some(base) => Some(Expr::Symbol(format!("{}_{base}", token.text))),
                None => Some(Expr::Number(literal.clone())),
            },
            Kind::Letters(word) => self.named(word),
            Kind::Command(name) => self.command(name),
            Kind::Sign(sign) => match *sign {
                '(' | '[' => self.bracket(*sign),
                '{' => {
                    let mut parts = self.parts(|parser| parser.takes('}'))?;
                    match parts.len() {
                        1 => parts.pop(),
                        _ => Some(Expr::Set(parts)),
                    }
                }
                '|' => {
                    let inside = self.sum()?;
                    self.takes('|').then(|| Expr::Absolute(inside.into()))
                }
                PI => Some(Expr::Pi),
                INFINITY => Some(Expr::Symbol(INFINITE.into())),
                EMPTY => Some(Expr::Set(Vec::new())),
                CURRENCY | '\u{20ac}' | '\u{a3}' | '\u{a5}' => {
                    self.currency = Some(token.text.clone());
                    let number = |t: &Token| matches!(t.kind, Kind::Number(_)) || t.is('-');
                    self.next().filter(|t| number(t))?;
                    self.signed_factor_part()
                }
                _ => None,
            },
        }
    }

    /// Parts with commas between them, up to what closes them.
    fn parts(&mut self, closes: impl Fn(&mut Self) -> bool) -> Option<Vec<Expr>> {
        let mut parts = vec![self.expr()?];
        loop {
            if closes(self) {
                return Some(parts);
            }
            self.joiner()?;
            parts.push(self.expr()?);
            if parts.len() > MAX_PARTS {
                return None;
            }
        }
    }

    /// A tuple, an interval, or an expression in parentheses.
    fn bracket(&mut self, open: char) -> Option<Expr> {
        let mut parts = self.parts(|parser| matches!(parser.sign(), Some(')' | ']')))?;
        let close = self.sign()?;
        self.at += 1;
        match (&parts[..], open, close) {
            ([_], '(', ')') | ([Expr::Matrix(..)], _, _) => parts.pop(),
            ([_], ..) if open != '[' || close != ']' => None,
            _ => Some(Expr::Bracket(open, parts, close)),
        }
    }

    fn command(&mut self, name: &str) -> Option<Expr> {
        match name {
            "frac" => {
                let (above, below) = (self.group()?, self.group()?);
                Some(Expr::Quotient(above.into(), below.into()))
            }
            "binom" => {
                let (n, k) = (self.group()?, self.group()?);
                Some(Expr::Binomial(n.into(), k.into()))
            }
            "sqrt" => {
                let index = match self.takes('[') {
                    false => 2,
                    true => {
                        let Kind::Number(index) = &self.next()?.kind else {
                            return None;
                        };
                        self.at += 1;
                        self.takes(']').then(|| natural(index))??
                    }
                };
                Some(Expr::Root(index, self.group()?.into()))
            }
            "{" => {
                if self.takes_command("}") {
                    return Some(Expr::Set(Vec::new()));
                }
                self.parts(|parser| parser.takes_command("}"))
                    .map(Expr::Set)
            }
            "begin" => self.matrix(),
            "log" | "ln" => self.named(name),
            _ if Function::named(name).is_some() => self.named(name),
            _ if GREEK.contains(&name) => self.symbol(&format!("\\{name}")),
            _ => None,
        }
    }

    fn group(&mut self) -> Option<Expr> {
        let inside = self.takes('{').then(|| self.sum())??;
        self.takes('}').then_some(inside)
    }

    fn matrix(&mut self) -> Option<Expr> {
        let kind = self.environment()?;
        let mut rows = vec![Vec::new()];
        loop {
            let row = rows.last_mut()?;
            row.push(self.sum()?);
            if self.takes('&') {
                continue;
            }
            let more = self.takes_command("\\");
            if self.takes_command("end") {
                break;
            }
            rows.push(Vec::new());
            if !more || rows.len() > MAX_PARTS {
                return None;
            }
        }
        (self.environment()? == kind).then_some(Expr::Matrix(kind, rows))
    }

    fn environment(&mut self) -> Option<String> {
        let name = self.takes('{').then(|| self.next()?.letters())??;
        self.at += 1;
        (self.takes('}') && name.ends_with("matrix")).then(|| name.to_owned())
    }

    /// Letters: a function, a root, a variable, or a few variables side by side.
    fn named(&mut self, word: &str) -> Option<Expr> {
        if let Some(function) = Function::named(word) {
            let power = match self.takes('^') {
                true => Some(self.signed_factor_part()?),
                false => None,
            };
            // sin^{-1} is no power.
            if matches!(power, Some(Expr::Negative(_))) {
                return None;
            }
            let call = Expr::Call(function, self.argument()?.into());
            return Some(match power {
                Some(power) => Expr::Power(call.into(), power.into()),
                None => call,
            });
        }
        match word {
            "log" => {
                let base = match self.takes('_') {
                    true => self.primary()?,
                    false => Expr::from(10),
                };
                Some(Expr::Logarithm(base.into(), self.argument()?.into()))
            }
            "sqrt" => self.primary().map(|inside| Expr::Root(2, inside.into())),
            "pi" => Some(Expr::Pi),
            "inf" | "infinity" | "Infinity" => Some(Expr::Symbol(INFINITE.into())),
            _ if word.chars().count() == 1 || word.chars().count() <= 3 && !self.is_lone_word() => {
                let mut letters = word.chars().map(String::from);
                let last = letters.next_back()?;
                let product = letters
                    .map(Expr::Symbol)
                    .reduce(|a, b| Expr::Product(a.into(), b.into()));
                let last = self.symbol(&last)?;
                Some(match product {
                    Some(first) => Expr::Product(first.into(), last.into()),
                    None => last,
                })
            }
            _ => None,
        }
    }

    /// Whether the token before is all of its part: letters are a word then, and no product of variables.
    fn is_lone_word(&self) -> bool {
        let ends = |token: Option<&Token>| {
            token.is_none_or(|t| {
                t.is(',') || t.is(';') || t.letters().is_some_and(|w| w == "and" || w == "or")
            })
        };
        let before = self.at.checked_sub(2).and_then(|at| self.tokens.get(at));
        ends(before) && ends(self.next())
    }

    fn symbol(&mut self, name: &str) -> Option<Expr> {
        Some(Expr::Symbol(match self.subscript()? {
            Some(index) => format!("{name}_{index}"),
            None => name.to_owned(),
        }))
    }

    /// What follows `_`; `None` for something that is no subscript.
    fn subscript(&mut self) -> Option<Option<String>> {
        if !self.takes('_') {
            return Some(None);
        }
        if !self.takes('{') {
            let token = self.next()?;
            self.at += 1;
            return Some(Some(token.text.clone()));
        }
        let length = self.tokens[self.at..].iter().position(|t| t.is('}'))?;
        let inside = written(&self.tokens[self.at..self.at + length]);
        self.at += length + 1;
        Some(Some(inside))
    }

    /// What a function without parentheses is of: `\sin 2x`.
    fn argument(&mut self) -> Option<Expr> {
        if self.sign() == Some('(') {
            return self.primary();
        }
        let mut value = self.factor()?;
        while self.begins_factor() {
            let name = match &self.next()?.kind {
                Kind::Letters(name) | Kind::Command(name) => name.as_str(),
                _ => "",
            };
            if Function::named(name).is_some() || name == "log" {
                break;
            }
            value = Expr::Product(value.into(), self.factor()?.into());
        }
        Some(value)
    }
}

fn natural(literal: &Literal) -> Option<u32> {
    literal.value.is_integer().then(|| literal.value.to_u32())?
}
