//! Expressions, and what else an answer can be made of.

use std::collections::BTreeSet;

use super::literal::Literal;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    Number(Literal),
    Pi,
    /// A variable, with its subscript; `e` is a number where nothing else is a variable.
    Symbol(String),
    Negative(Box<Expr>),
    Sum(Box<Expr>, Box<Expr>),
    Product(Box<Expr>, Box<Expr>),
    Quotient(Box<Expr>, Box<Expr>),
    Power(Box<Expr>, Box<Expr>),
    Root(u32, Box<Expr>),
    Absolute(Box<Expr>),
    Factorial(Box<Expr>),
    Binomial(Box<Expr>, Box<Expr>),
    /// An angle.
    Degrees(Box<Expr>),
    /// Both values.
    PlusMinus(Box<Expr>, Box<Expr>),
    Call(Function, Box<Expr>),
    /// Base, and what it is of.
    Logarithm(Box<Expr>, Box<Expr>),
    /// A tuple or an interval, with its brackets.
    Bracket(char, Vec<Expr>, char),
    Set(Vec<Expr>),
    Union(Vec<Expr>),
    /// Rows; and the name of what stands around them, where it means something.
    Matrix(String, Vec<Vec<Expr>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    ArcSin,
    ArcCos,
    ArcTan,
    Ln,
    Exp,
}

impl Function {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sin" => Self::Sin,
            "cos" => Self::Cos,
            "tan" => Self::Tan,
            "cot" => Self::Cot,
            "sec" => Self::Sec,
            "csc" => Self::Csc,
            "arcsin" => Self::ArcSin,
            "arccos" => Self::ArcCos,
            "arctan" => Self::ArcTan,
            "ln" => Self::Ln,
            "exp" => Self::Exp,
            _ => return None,
        })
    }

    pub(super) fn takes_an_angle(self) -> bool {
        use Function::{Cos, Cot, Csc, Sec, Sin, Tan};
        matches!(self, Sin | Cos | Tan | Cot | Sec | Csc)
    }

    pub(super) fn of(self, x: f64) -> f64 {
        match self {
            Self::Sin => x.sin(),
            Self::Cos => x.cos(),
            Self::Tan => x.tan(),
            Self::Cot => 1.0 / x.tan(),
            Self::Sec => 1.0 / x.cos(),
            Self::Csc => 1.0 / x.sin(),
            Self::ArcSin => x.asin(),
            Self::ArcCos => x.acos(),
            Self::ArcTan => x.atan(),
            Self::Ln => x.ln(),
            Self::Exp => x.exp(),
        }
    }
}

impl Expr {
    /// What it is made of directly.
    pub(super) fn parts(&self) -> Vec<&Expr> {
        match self {
            Self::Number(_) | Self::Pi | Self::Symbol(_) => Vec::new(),
            Self::Negative(a)
            | Self::Root(_, a)
            | Self::Absolute(a)
            | Self::Factorial(a)
            | Self::Degrees(a)
            | Self::Call(_, a) => vec![a],
            Self::Sum(a, b)
            | Self::Product(a, b)
            | Self::Quotient(a, b)
            | Self::Power(a, b)
            | Self::Binomial(a, b)
            | Self::PlusMinus(a, b)
            | Self::Logarithm(a, b) => vec![a, b],
            Self::Bracket(_, parts, _) | Self::Set(parts) | Self::Union(parts) => {
                parts.iter().collect()
            }
            Self::Matrix(_, rows) => rows.iter().flatten().collect(),
        }
    }

    /// Its variables.
    pub(super) fn symbols(&self) -> BTreeSet<&str> {
        match self {
            Self::Symbol(name) => BTreeSet::from([name.as_str()]),
            _ => self.parts().into_iter().flat_map(Self::symbols).collect(),
        }
    }

    /// Whether it has no variables. A number with a base and what is infinite are none.
    pub(super) fn is_numeric(&self) -> bool {
        let constant = |name: &str| {
            name == "e" || name == INFINITE || name.starts_with(|c: char| c.is_ascii_digit())
        };
        self.symbols().into_iter().all(constant)
    }

    /// Whether it is one value, and no tuple, set or matrix.
    pub(super) fn is_scalar(&self) -> bool {
        !matches!(
            self,
            Self::Bracket(..) | Self::Set(_) | Self::Union(_) | Self::Matrix(..)
        ) && self.parts().into_iter().all(Self::is_scalar)
    }

    /// Both values of a sign that is two.
    pub(super) fn both(&self) -> Option<[Expr; 2]> {
        let (a, b) = match self {
            Self::PlusMinus(a, b) => (a, b),
            _ => return None,
        };
        let minus = Expr::Negative(b.clone());
        Some([
            Expr::Sum(a.clone(), b.clone()),
            Expr::Sum(a.clone(), Box::new(minus)),
        ])
    }

    /// The number that was written down, if it is one.
    pub(super) fn literal(&self) -> Option<Literal> {
        match self {
            Self::Number(literal) => Some(literal.clone()),
            Self::Negative(inside) => inside.literal().map(|literal| literal.negated()),
            _ => None,
        }
    }
}

/// The symbol of what is infinite: compared like a variable.
pub(super) const INFINITE: &str = "\u{221e}";

impl From<u64> for Expr {
    fn from(value: u64) -> Self {
        Self::Number(Literal {
            value: num_bigint::BigInt::from(value).into(),
            places: 0,
            significant: 1,
        })
    }
}
