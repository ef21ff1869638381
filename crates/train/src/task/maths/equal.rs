//! When two answers are the same.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Zero;

use super::expr::{Expr, INFINITE};
use super::literal::abs;
use super::surface::{AT_LEAST, AT_MOST};
use super::unit::Unit;
use super::value::{Point, Value};
use super::{Answer, Item, What};

/// Values of variables that are tried: first fractions of both signs, then small whole numbers, for powers and
/// factorials.
const FRACTIONS: u64 = 5;
const POINTS: u64 = 9;
/// Points at which both must have a value.
const ENOUGH: usize = 3;
/// How much roots, logarithms and the like may differ by a computer's rounding.
const ROUNDING: f64 = 1e-12;

/// Whether `said` is `right`.
pub(super) fn same(right: &Answer, said: &Answer) -> bool {
    if let ([a], [b]) = (&right.items[..], &said.items[..]) {
        let relation = matches!(a.what, What::Relation(..));
        if relation || a.name.is_some() && b.name.is_some() {
            return same_item(a, b);
        }
    }
    let (right, said) = (Parts::of(right), Parts::of(said));
    match (right.kind, said.kind) {
        (Kind::One, Kind::One) => same_item(&right.items[0], &said.items[0]),
        // A tuple may be written without its parentheses.
        (Kind::List | Kind::Tuple, Kind::List | Kind::Tuple) => {
            right.named(&said) || in_order(&right.items, &said.items)
        }
        (Kind::List | Kind::Tuple, Kind::Set) if right.kind == Kind::List => {
            in_order(&right.items, &said.items)
        }
        (Kind::Set, Kind::Set | Kind::List) => in_any_order(&right.items, &said.items, same_item),
        _ => false,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    One,
    List,
    Tuple,
    /// Without an order.
    Set,
}

struct Parts {
    kind: Kind,
    items: Vec<Item>,
}

impl Parts {
    fn of(answer: &Answer) -> Self {
        let bare = |value: &Expr| Item {
            name: None,
            what: What::Value(value.clone()),
            unit: None,
        };
        let [only] = &answer.items[..] else {
            let expand = |item: &Item| match &item.what {
                What::Value(value) => value.both().map(|both| both.iter().map(bare).collect()),
                What::Relation(..) => None,
            };
            let items = answer.items.iter();
            let both = items.clone().any(|item| expand(item).is_some());
            return Self {
                kind: if both { Kind::Set } else { Kind::List },
                items: items
                    .flat_map(|item| expand(item).unwrap_or_else(|| vec![item.clone()]))
                    .collect(),
            };
        };
        let (kind, items) = match &only.what {
            What::Value(Expr::Set(parts)) => (Kind::Set, parts.iter().map(bare).collect()),
            What::Value(Expr::Bracket('(', parts, ')')) => {
                (Kind::Tuple, parts.iter().map(bare).collect())
            }
            What::Value(value) => match value.both() {
                Some(both) => (Kind::Set, both.iter().map(bare).collect()),
                None => (Kind::One, vec![only.clone()]),
            },
            What::Relation(..) => (Kind::One, vec![only.clone()]),
        };
        Self { kind, items }
    }

    /// Whether all parts of both have names of their own, and say the same, in whatever order.
    fn named(&self, other: &Self) -> bool {
        let all = |parts: &Self| parts.items.iter().all(|item| item.name.is_some());
        all(self) && all(other) && in_any_order(&self.items, &other.items, same_item)
    }
}

fn in_order(right: &[Item], said: &[Item]) -> bool {
    right.len() == said.len() && right.iter().zip(said).all(|(a, b)| same_item(a, b))
}

fn in_any_order<T>(right: &[T], said: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    let mut left: Vec<&T> = said.iter().collect();
    right.len() == said.len()
        && right.iter().all(|a| {
            let found = left.iter().position(|b| same(a, b));
            found.map(|at| left.swap_remove(at)).is_some()
        })
}

fn same_item(right: &Item, said: &Item) -> bool {
    let differ = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
    if differ(&right.name, &said.name) {
        return false;
    }
    match (&right.what, &said.what) {
        (What::Value(a), What::Value(b)) => {
            same_measure(a, b, right.unit.as_ref(), said.unit.as_ref())
        }
        (What::Relation(a, signs), What::Relation(b, others)) => {
            same_relation((a, signs), (b, others))
        }
        // The other way round, a task to solve an inequality would be solved by saying it again.
        (What::Relation(a, signs), What::Value(b)) => {
            interval((a, signs)).is_some_and(|a| same_expr(&a, b))
        }
        _ => false,
    }
}

fn same_measure(right: &Expr, said: &Expr, unit: Option<&Unit>, other: Option<&Unit>) -> bool {
    match (unit, other) {
        (Some(a), Some(b)) if !a.agrees(b) => false,
        // 50% is 0.5, and 50 where the gold is a number of percents: a gold below 1 is none.
        (None, Some(b)) if b.is_percent() => {
            let share = Expr::Quotient(Box::new(said.clone()), Box::new(Expr::from(100)));
            let percents = |value: f64| value.abs() >= 1.0 && same_expr(right, said);
            let value = right.value(&Point::new()).and_then(|value| value.real());
            same_expr(right, &share) || value.is_some_and(percents)
        }
        _ => same_expr(right, said),
    }
}

fn same_expr(right: &Expr, said: &Expr) -> bool {
    if right == said {
        return true;
    }
    let all = |a: &[Expr], b: &[Expr]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_expr(a, b))
    };
    match (right, said) {
        (Expr::Bracket(a, x, b), Expr::Bracket(c, y, d)) => (a, b) == (c, d) && all(x, y),
        (Expr::Set(a), Expr::Set(b)) | (Expr::Union(a), Expr::Union(b)) => {
            in_any_order(a, b, same_expr)
        }
        (Expr::Matrix(a, x), Expr::Matrix(b, y)) => {
            a == b && x.len() == y.len() && x.iter().zip(y).all(|(x, y)| all(x, y))
        }
        (a, b) => a.is_scalar() && b.is_scalar() && same_scalar(a, b),
    }
}

fn same_scalar(right: &Expr, said: &Expr) -> bool {
    let names: Vec<&str> = symbols(&[right, said]);
    if names.is_empty() {
        return same_number(right, said);
    }
    let both = |at: &Point| (right.value(at), said.value(at));
    let mut met = 0;
    for at in points(&names) {
        match both(&at) {
            (Some(a), Some(b)) if same_value(&a, &b) => met += 1,
            (None, None) => {}
            _ => return false,
        }
    }
    met >= ENOUGH
}

/// Whether two expressions are numbers, and not the same one.
pub(super) fn differ(a: &Expr, b: &Expr) -> bool {
    let is_number = |expr: &Expr| expr.is_numeric() && expr.value(&Point::new()).is_some();
    is_number(a) && is_number(b) && !same_number(a, b)
}

fn same_number(right: &Expr, said: &Expr) -> bool {
    let at = Point::new();
    let Some((a, b)) = right.value(&at).zip(said.value(&at)) else {
        return false;
    };
    match (&a, &b) {
        (Value::Exact(a), Value::Exact(b)) => {
            let near = |expr: &Expr, other: &Expr, value: &BigRational| {
                // Decimals that end are exact, and no rounding of each other.
                let exact = other.literal().is_some_and(|other| other.terminates());
                expr.literal().is_some_and(|literal| match exact {
                    true => literal.is_noise_of(value),
                    false => literal.is_rounded_from(value),
                })
            };
            a == b || near(right, said, b) || near(said, right, a)
        }
        (Value::Exact(_), Value::Real(real)) => same_real(right, &a, *real),
        (Value::Real(real), Value::Exact(_)) => same_real(said, &b, *real),
        (Value::Real(_), Value::Real(_)) => same_value(&a, &b),
    }
}

/// Whether an exact number is the same as one that is not: as a decimal that is rounded, or because what is not
/// exact comes down to it (the product of two roots).
fn same_real(expr: &Expr, exact: &Value, real: f64) -> bool {
    match expr.literal().filter(|literal| literal.places > 0) {
        Some(literal) => {
            BigRational::from_float(real).is_some_and(|real| literal.is_rounded_from(&real))
        }
        None => same_value(exact, &Value::Real(real)),
    }
}

fn same_value(a: &Value, b: &Value) -> bool {
    if let (Value::Exact(a), Value::Exact(b)) = (a, b) {
        return a == b;
    }
    let Some((a, b)) = a.real().zip(b.real()) else {
        return false;
    };
    (a - b).abs() <= ROUNDING * a.abs().max(b.abs())
}

/// Relations are the same if their sides differ by the same, times a number: a positive one where the direction
/// counts.
fn same_relation(right: (&[Expr], &[char]), said: (&[Expr], &[char])) -> bool {
    let ((a, signs), (b, others)) = (directed(right), directed(said));
    if signs != others || a.len() != b.len() {
        return false;
    }
    if a.iter().zip(&b).all(|(a, b)| same_expr(a, b)) {
        return true;
    }
    let ([a, c], [b, d]) = (&a[..], &b[..]) else {
        return false;
    };
    let difference = |a: &Expr, b: &Expr| {
        Expr::Sum(
            Box::new(a.clone()),
            Box::new(Expr::Negative(Box::new(b.clone()))),
        )
    };
    let (one, other) = (difference(a, c), difference(b, d));
    if !one.is_scalar() || !other.is_scalar() {
        return false;
    }
    let mut ratios = Vec::new();
    for at in points(&symbols(&[&one, &other])) {
        match (one.value(&at), other.value(&at)) {
            (Some(Value::Exact(a)), Some(Value::Exact(b))) if a.is_zero() == b.is_zero() => {
                // A root of both says nothing about their ratio.
                if !a.is_zero() {
                    ratios.push(a / b);
                }
            }
            (None, None) => {}
            _ => return false,
        }
    }
    let direction = signs.iter().any(|sign| *sign == '<' || *sign == AT_MOST);
    let positive = |ratio: &BigRational| abs(ratio) == *ratio;
    ratios.len() >= ENOUGH
        && ratios.iter().all(|r| *r == ratios[0])
        && (!direction || positive(&ratios[0]))
}

/// The interval that an inequality is: `[2, \infty)` of `x >= 2`.
fn interval(relation: (&[Expr], &[char])) -> Option<Expr> {
    let (parts, signs) = directed(relation);
    let open = |sign: &char| match *sign {
        '<' => Some(true),
        AT_MOST => Some(false),
        _ => None,
    };
    let infinite = || Expr::Symbol(INFINITE.into());
    let variable = |expr: &Expr| matches!(expr, Expr::Symbol(_)) && !expr.is_numeric();
    let (low, high, lower, upper) = match (&parts[..], &signs[..]) {
        ([x, high], [sign]) if variable(x) => (
            Expr::Negative(infinite().into()),
            high.clone(),
            true,
            open(sign)?,
        ),
        ([low, x], [sign]) if variable(x) => (low.clone(), infinite(), open(sign)?, true),
        ([low, x, high], [a, b]) if variable(x) => (low.clone(), high.clone(), open(a)?, open(b)?),
        _ => return None,
    };
    let (before, after) = (if lower { '(' } else { '[' }, if upper { ')' } else { ']' });
    Some(Expr::Bracket(before, vec![low, high], after))
}

/// The relation from the smaller to the larger.
fn directed((parts, signs): (&[Expr], &[char])) -> (Vec<Expr>, Vec<char>) {
    let falls = |sign: &char| *sign == '>' || *sign == AT_LEAST;
    if signs.is_empty() || !signs.iter().all(falls) {
        return (parts.to_vec(), signs.to_vec());
    }
    let turned = |sign: &char| if *sign == '>' { '<' } else { AT_MOST };
    (
        parts.iter().rev().cloned().collect(),
        signs.iter().rev().map(turned).collect(),
    )
}

/// Variables; `e` is the number.
fn symbols<'a>(of: &[&'a Expr]) -> Vec<&'a str> {
    let all: std::collections::BTreeSet<&str> = of.iter().flat_map(|expr| expr.symbols()).collect();
    all.into_iter().filter(|name| *name != "e").collect()
}

fn points<'a>(names: &'a [&'a str]) -> impl Iterator<Item = Point> + 'a {
    let value = |trial: u64, i: u64| {
        // Any numbers will do that have nothing to do with each other; every other one is negative.
        let mixed = (trial * 31 + i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let size = BigInt::from(1 + mixed % 997);
        let above = if (trial + i).is_multiple_of(2) {
            size
        } else {
            -size
        };
        match trial < FRACTIONS {
            true => BigRational::new(above, BigInt::from(101 + 2 * trial)),
            false => BigInt::from(2 + (trial * 5 + i * 3) % 7).into(),
        }
    };
    (0..POINTS).map(move |trial| {
        let named = names.iter().zip(0..);
        named
            .map(|(name, i)| ((*name).to_owned(), value(trial, i)))
            .collect()
    })
}
