//! Answers as mathematics: what LaTeX and people write in many ways, and when two of them say the same.
//!
//! No crate does this (those for LaTeX draw it, those for algebra do not read answers), so it is done here, after
//! the rules that graders of MATH agree on: the normalisation of Hendrycks et al. (arXiv 2103.03874), of Minerva
//! (arXiv 2206.14858, appendix D.1), and what Math-Verify compares. Where they differ, the stricter one counts:
//! a reward that is wrong teaches what is wrong. `tests/fixtures/maths/verdicts.jsonl` has cases with their sources.
//!
//! | file | subject |
//! |---|---|
//! | [`surface`] | one way of writing for each thing: LaTeX's commands, Markdown, Unicode |
//! | `token`, `literal` | numbers, letters, signs; thousands, decimals, repeating decimals |
//! | `parse` | tokens as an [`Answer`]: expressions, tuples, sets, intervals, matrices, relations, names in front |
//! | `unit` | what may stand behind a number |
//! | `expr`, `value` | expressions, exact where they can be |
//! | `equal` | when two answers are the same |
//! | [`prose`] | an answer among words |
//!
//! The rules:
//!
//! - Numbers are exact: no tolerance. Only a decimal of six places and six significant digits may stand for a number
//!   that it is rounded from, and never for an integer or for another decimal that ends.
//! - What contradicts itself (`1 = 2`) is no answer, and what is taken back ("9? No, 8.") is none.
//! - A comma is dropped before groups of exactly three digits; every other one separates the parts of a list.
//! - Lists and tuples have an order, sets (and unions, and the two values of `\pm`) have none.
//! - A unit or a name (`x = 5`) on one side only says nothing; two that differ, differ.
//! - Expressions with variables are the same if they have the same value wherever they are tried, exactly.
//! - What cannot be read whole is no number.

mod equal;
mod expr;
mod literal;
mod parse;
pub mod prose;
pub mod surface;
mod token;
mod unit;
mod value;

use expr::Expr;
use unit::Unit;

/// An answer, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// At least one; more are a list.
    items: Vec<Item>,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq)]
struct Item {
    /// What stands before `=`: `x`, `f(x)`.
    name: Option<String>,
    what: What,
    unit: Option<Unit>,
}

#[derive(Debug, Clone, PartialEq)]
enum What {
    Value(Expr),
    /// Parts with the signs between them: `1 < x <= 3`.
    Relation(Vec<Expr>, Vec<char>),
}

impl Answer {
    /// Reads a text that is an answer and nothing else; see [`prose`] for answers among words.
    pub fn read(text: &str) -> Option<Self> {
        parse::answer(&token::lex(&surface::surface(text)?)?)
    }

    /// Whether it is made of numbers only: one, or a list, tuple, set or matrix of them.
    pub fn is_numeric(&self) -> bool {
        let numeric = |item: &Item| match &item.what {
            What::Value(value) => value.is_numeric(),
            What::Relation(..) => false,
        };
        self.items.iter().all(numeric)
    }

    /// Whether it says the same as `self`, which is the right one.
    pub fn accepts(&self, said: &Self) -> bool {
        equal::same(self, said)
    }
}
