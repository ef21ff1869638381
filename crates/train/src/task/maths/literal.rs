//! Numbers as they are written: exact, with how many places they were given.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Zero};

/// Digits of a number, and powers of ten of its exponent, at most.
const MAX_DIGITS: usize = 400;

/// A number that was written down.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Literal {
    /// Exactly what was written.
    pub(super) value: BigRational,
    /// Digits after the point.
    pub(super) places: usize,
    /// Digits without zeros at both ends.
    pub(super) significant: usize,
}

impl Literal {
    /// Whether it can be the rounding of `value`, which it is not: a decimal of six places and six significant
    /// digits, rounded or cut off there, or as exact as a computer's 53 bits.
    pub(super) fn is_rounded_from(&self, value: &BigRational) -> bool {
        if !self.is_long() || value.is_integer() {
            return false;
        }
        let scale = BigRational::from_integer(power_of_ten(self.places));
        let (said, whole) = (&self.value * &scale, value * &scale);
        said == whole.round() || said == whole.trunc() || self.is_noise_of(value)
    }

    /// Whether it is as near to `value` as a computer's 53 bits can tell.
    pub(super) fn is_noise_of(&self, value: &BigRational) -> bool {
        let noise = value / BigRational::from_integer(BigInt::one() << 51usize);
        let apart = &self.value - value;
        self.is_long() && !value.is_integer() && abs(&apart) <= abs(&noise)
    }

    fn is_long(&self) -> bool {
        self.places >= 6 && self.significant >= 6
    }

    /// Whether it is written down whole, and has no digits that repeat.
    pub(super) fn terminates(&self) -> bool {
        let digits = power_of_ten(2 * MAX_DIGITS);
        (digits % self.value.denom()).is_zero()
    }

    pub(super) fn negated(&self) -> Self {
        Self {
            value: -&self.value,
            ..self.clone()
        }
    }
}

pub(super) fn abs(value: &BigRational) -> BigRational {
    match value < &BigRational::zero() {
        true => -value,
        false => value.clone(),
    }
}

fn power_of_ten(exponent: usize) -> BigInt {
    BigInt::from(10).pow(u32::try_from(exponent).unwrap_or(u32::MAX))
}

/// A number at `at`, and where it ends. `commas`: whether a comma between digits may be one of thousands.
pub(super) fn read(chars: &[char], at: usize, commas: bool) -> Option<(Literal, usize)> {
    let (mut digits, mut end) = whole(chars, at, commas);
    let mut fraction = String::new();
    let mut repeating = String::new();
    if let Some(after) = point(chars, end) {
        end = run(chars, after, &mut fraction);
        if let Some(inside) = after_text(chars, end, "\\overline{") {
            let close = run(chars, inside, &mut repeating);
            if repeating.is_empty() || chars.get(close) != Some(&'}') {
                return None;
            }
            end = close + 1;
        }
        // 1.2.3 is no number.
        if point(chars, end).is_some() {
            return None;
        }
    }
    if digits.is_empty() && fraction.is_empty() && repeating.is_empty() {
        return None;
    }
    let (exponent, end) = exponent(chars, end);
    let written = digits.len() + fraction.len() + repeating.len();
    if written > MAX_DIGITS || exponent.unsigned_abs() as usize > MAX_DIGITS {
        return None;
    }
    let places = fraction.len();
    digits += &fraction;
    let mut value = ratio(&digits, power_of_ten(places))?;
    if !repeating.is_empty() {
        let nines = power_of_ten(repeating.len()) - BigInt::one();
        value += ratio(&repeating, nines * power_of_ten(places))?;
    }
    let shift = BigRational::from_integer(power_of_ten(exponent.unsigned_abs() as usize));
    let value = if exponent < 0 {
        value / shift
    } else {
        value * shift
    };
    let literal = Literal {
        value,
        places: if repeating.is_empty() && exponent == 0 {
            places
        } else {
            0
        },
        significant: digits.trim_matches('0').len(),
    };
    Some((literal, end))
}

fn ratio(digits: &str, below: BigInt) -> Option<BigRational> {
    let above = if digits.is_empty() { "0" } else { digits };
    Some(BigRational::new(above.parse().ok()?, below))
}

/// The digits before the point, without what separates thousands.
fn whole(chars: &[char], at: usize, commas: bool) -> (String, usize) {
    let mut digits = String::new();
    let end = run(chars, at, &mut digits);
    let in_a_run = at >= 2 && chars[at - 1] == ',' && chars[at - 2].is_ascii_digit();
    if digits.is_empty() || digits.len() > 3 || digits.starts_with('0') {
        return (digits, end);
    }
    for separator in [",", "{,}", " ", "'", "."] {
        if separator == "," && (in_a_run || !commas) {
            continue;
        }
        let Some((groups, after)) = thousands(chars, end, separator) else {
            continue;
        };
        // One group after a point is a decimal, and 1 100/200 is a mixed number.
        let single = groups.len() == 3 && separator == ".";
        let mixed = separator == " " && chars[after..].iter().find(|c| **c != ' ') == Some(&'/');
        if !single && !mixed {
            return (digits + &groups, after);
        }
    }
    (digits, end)
}

/// Groups of exactly three digits, each behind `separator`, and where they end.
fn thousands(chars: &[char], mut at: usize, separator: &str) -> Option<(String, usize)> {
    let mut groups = String::new();
    while let Some(start) = after_text(chars, at, separator) {
        let mut digits = String::new();
        let end = run(chars, start, &mut digits);
        match digits.len() {
            3 => groups += &digits,
            0 => break,
            _ => return None,
        }
        at = end;
    }
    (!groups.is_empty()).then_some((groups, at))
}

/// Where the digits after a decimal point begin. `0{,}5` is how LaTeX writes a decimal comma.
fn point(chars: &[char], at: usize) -> Option<usize> {
    let after = after_text(chars, at, ".").or_else(|| after_text(chars, at, "{,}"))?;
    let digit = chars.get(after).is_some_and(char::is_ascii_digit);
    (digit || after_text(chars, after, "\\overline{").is_some()).then_some(after)
}

/// `e-3`, and where it ends.
fn exponent(chars: &[char], at: usize) -> (i32, usize) {
    let none = (0, at);
    if !matches!(chars.get(at), Some('e' | 'E')) {
        return none;
    }
    let sign = chars.get(at + 1).copied();
    let start = at + 1 + usize::from(matches!(sign, Some('+' | '-')));
    let mut digits = String::new();
    let end = run(chars, start, &mut digits);
    if digits.is_empty() || chars.get(end).is_some_and(|c| c.is_ascii_alphabetic()) {
        return none;
    }
    let size: i32 = digits.parse().unwrap_or(i32::MAX);
    (if sign == Some('-') { -size } else { size }, end)
}

/// Appends the digits at `at`; returns where they end.
fn run(chars: &[char], at: usize, digits: &mut String) -> usize {
    let found = chars.get(at..).unwrap_or_default();
    let found = found.iter().take_while(|c| c.is_ascii_digit());
    let before = digits.len();
    digits.extend(found);
    at + digits.len() - before
}

fn after_text(chars: &[char], at: usize, text: &str) -> Option<usize> {
    let mut end = at;
    for c in text.chars() {
        if chars.get(end) != Some(&c) {
            return None;
        }
        end += 1;
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<(f64, String)> {
        use num_traits::ToPrimitive;
        let chars: Vec<char> = text.chars().collect();
        let (literal, end) = read(&chars, 0, true)?;
        Some((literal.value.to_f64()?, chars[end..].iter().collect()))
    }

    #[test]
    fn numbers_end_where_they_end() {
        for (text, number, rest) in [
            ("1,234.50", 1234.5, ""),
            ("1,23", 1.0, ",23"),
            ("1,2345", 1.0, ",2345"),
            ("12,345,67", 12.0, ",345,67"),
            ("0,123", 0.0, ",123"),
            ("1 000 000", 1e6, ""),
            ("3 4", 3.0, " 4"),
            ("1 100/200", 1.0, " 100/200"),
            ("10{,}000", 10000.0, ""),
            ("0{,}5", 0.5, ""),
            ("1'000'000", 1e6, ""),
            ("1.000.000", 1e6, ""),
            ("1.000", 1.0, ""),
            (".5x", 0.5, "x"),
            ("1e3", 1000.0, ""),
            ("1.5E-2", 0.015, ""),
            ("2em", 2.0, "em"),
            ("10.", 10.0, "."),
            ("0.\\overline{3}", 1.0 / 3.0, ""),
            ("0.1\\overline{6}", 1.0 / 6.0, ""),
        ] {
            assert_eq!(value(text), Some((number, rest.to_owned())), "{text:?}");
        }
        for text in ["", "x", ".", "1.2.3", "1e999999999", "0.\\overline{x}"] {
            assert_eq!(value(text), None, "{text:?}");
        }
    }
}
