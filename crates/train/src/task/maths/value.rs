//! Values: exact where they can be.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::expr::{Expr, Function};

/// Bits of a number on the way to a value, at most: to add fractions takes time with its square.
const MAX_BITS: u64 = 1 << 14;
/// The most that a factorial is taken of.
const MAX_FACTORIAL: u32 = 200;

/// A number: exact, or as near as a computer's.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Exact(BigRational),
    Real(f64),
}

/// Values of variables.
pub(super) type Point = BTreeMap<String, BigRational>;

impl Value {
    pub(super) fn real(&self) -> Option<f64> {
        let real = match self {
            Self::Exact(value) => value.to_f64()?,
            Self::Real(value) => *value,
        };
        real.is_finite().then_some(real)
    }

    fn of(real: f64) -> Option<Self> {
        real.is_finite().then_some(Self::Real(real))
    }

    fn exact(self) -> Option<BigRational> {
        match self {
            Self::Exact(value) => Some(value),
            Self::Real(_) => None,
        }
    }

    fn both(
        self,
        other: Self,
        exact: impl Fn(BigRational, BigRational) -> BigRational,
        real: impl Fn(f64, f64) -> f64,
    ) -> Option<Self> {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => {
                let value = exact(a, b);
                (bits(&value) <= MAX_BITS).then_some(Self::Exact(value))
            }
            (a, b) => Self::of(real(a.real()?, b.real()?)),
        }
    }

    fn is_zero(&self) -> bool {
        match self {
            Self::Exact(value) => value.is_zero(),
            Self::Real(value) => *value == 0.0,
        }
    }

    fn is_negative(&self) -> bool {
        match self {
            Self::Exact(value) => value.is_negative(),
            Self::Real(value) => *value < 0.0,
        }
    }
}

impl Expr {
    /// The value at a point; `None` where it has none, or is no number.
    pub(super) fn value(&self, at: &Point) -> Option<Value> {
        match self {
            Self::Number(literal) => Some(Value::Exact(literal.value.clone())),
            Self::Pi => Some(Value::Real(std::f64::consts::PI)),
            Self::Symbol(name) => match at.get(name) {
                Some(value) => Some(Value::Exact(value.clone())),
                None if name == "e" => Some(Value::Real(std::f64::consts::E)),
                None => None,
            },
            Self::Negative(inside) => match inside.value(at)? {
                Value::Exact(value) => Some(Value::Exact(-value)),
                Value::Real(value) => Some(Value::Real(-value)),
            },
            Self::Sum(a, b) => a.value(at)?.both(b.value(at)?, |a, b| a + b, |a, b| a + b),
            Self::Product(a, b) => a.value(at)?.both(b.value(at)?, |a, b| a * b, |a, b| a * b),
            Self::Quotient(a, b) => {
                let below = b.value(at)?;
                if below.is_zero() {
                    return None;
                }
                a.value(at)?.both(below, |a, b| a / b, |a, b| a / b)
            }
            Self::Power(base, exponent) => power(base.value(at)?, exponent.value(at)?),
            Self::Root(index, inside) => root(inside.value(at)?, *index),
            Self::Absolute(inside) => {
                let value = inside.value(at)?;
                match value.is_negative() {
                    true => {
                        Value::Exact(BigRational::zero()).both(value, |a, b| a - b, |a, b| a - b)
                    }
                    false => Some(value),
                }
            }
            Self::Factorial(inside) => factorial(inside.value(at)?),
            Self::Binomial(n, k) => binomial(n.value(at)?, k.value(at)?),
            Self::Degrees(_) | Self::PlusMinus(..) => None,
            Self::Call(function, inside) => call(*function, inside, at),
            Self::Logarithm(base, inside) => logarithm(base.value(at)?, inside.value(at)?),
            Self::Bracket(..) | Self::Set(_) | Self::Union(_) | Self::Matrix(..) => None,
        }
    }
}

/// Bits of the longer of both numbers of a fraction.
fn bits(value: &BigRational) -> u64 {
    value.numer().bits().max(value.denom().bits())
}

fn power(base: Value, exponent: Value) -> Option<Value> {
    if let (Value::Exact(base), Value::Exact(exponent)) = (&base, &exponent) {
        if exponent.is_integer() {
            return whole_power(base, &exponent.to_integer());
        }
        // A negative base has no value here that all would agree on.
        let index = exponent.denom().to_u32().filter(|_| !base.is_negative());
        if let Some(index) = index {
            let inner = whole_power(base, exponent.numer())?;
            return root(inner, index);
        }
    }
    Value::of(base.real()?.powf(exponent.real()?))
}

fn whole_power(base: &BigRational, exponent: &BigInt) -> Option<Value> {
    let size = u32::try_from(exponent.magnitude()).ok()?;
    if bits(base).checked_mul(u64::from(size))? > MAX_BITS
        || base.is_zero() && !exponent.is_positive()
    {
        return None;
    }
    // A power of a fraction in lowest terms is in lowest terms.
    let raised = BigRational::new_raw(base.numer().pow(size), base.denom().pow(size));
    Some(Value::Exact(match exponent.is_negative() {
        true => BigRational::one() / raised,
        false => raised,
    }))
}

fn root(inside: Value, index: u32) -> Option<Value> {
    let odd = index % 2 == 1;
    if inside.is_negative() && !odd || index == 0 {
        return None;
    }
    if let Value::Exact(value) = &inside {
        let (above, below) = (value.numer().nth_root(index), value.denom().nth_root(index));
        if above
            .bits()
            .max(below.bits())
            .checked_mul(u64::from(index))?
            <= 2 * MAX_BITS
        {
            let rooted = BigRational::new(above, below);
            if whole_power(&rooted, &index.into()) == Some(inside.clone()) {
                return Some(Value::Exact(rooted));
            }
        }
    }
    let real = inside.real()?;
    Value::of(real.abs().powf(1.0 / f64::from(index)).copysign(real))
}

fn factorial(value: Value) -> Option<Value> {
    let n = value.exact()?;
    let n = Some(n)
        .filter(BigRational::is_integer)?
        .to_integer()
        .to_u32()?;
    let product = (n <= MAX_FACTORIAL).then(|| (1..=n).map(BigInt::from).product::<BigInt>());
    product.map(|product| Value::Exact(product.into()))
}

fn binomial(n: Value, k: Value) -> Option<Value> {
    let whole = |value: Value| {
        let value = value.exact().filter(BigRational::is_integer)?;
        value
            .to_integer()
            .to_u32()
            .filter(|n| *n <= 10 * MAX_FACTORIAL)
    };
    let (n, k) = (whole(n)?, whole(k)?);
    let mut ways = BigInt::from(u32::from(k <= n));
    for i in 0..k.min(n) {
        ways = ways * (n - i) / (i + 1);
    }
    Some(Value::Exact(ways.into()))
}

fn logarithm(base: Value, inside: Value) -> Option<Value> {
    let (base, inside) = (base.real()?, inside.real()?);
    let logarithm = inside.ln() / base.ln();
    // The logarithm of a power that is one.
    let whole = logarithm.round();
    let exact = whole.abs() < 64.0 && base.powf(whole) == inside;
    match exact {
        true => BigRational::from_float(whole).map(Value::Exact),
        false => Value::of(logarithm),
    }
}

fn call(function: Function, inside: &Expr, at: &Point) -> Option<Value> {
    let degrees = match inside {
        Expr::Degrees(inside) if function.takes_an_angle() => Some(inside),
        _ => None,
    };
    let real = match degrees {
        Some(inside) => inside.value(at)?.real()?.to_radians(),
        None => inside.value(at)?.real()?,
    };
    Value::of(function.of(real))
}
