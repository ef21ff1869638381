//! Expressions that have to reach a number with given others: the answers of countdown tasks.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Zero;

/// Parentheses within parentheses, at most.
const MAX_DEPTH: usize = 32;

/// `24 = 3 5 9`: the number to reach, and what may be used, each once.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    target: i64,
    /// Sorted.
    numbers: Vec<i64>,
}

impl Goal {
    /// Reads a goal.
    pub fn parse(text: &str) -> Option<Self> {
        let (target, numbers) = text.split_once('=')?;
        let numbers: Result<Vec<i64>, _> = numbers.split_whitespace().map(str::parse).collect();
        let mut numbers = numbers.ok().filter(|numbers| !numbers.is_empty())?;
        numbers.sort_unstable();
        let target = target.trim().parse().ok()?;
        Some(Self { target, numbers })
    }

    /// Whether an expression, with or without `= result`, uses each number once and reaches the goal.
    pub fn is_reached_by(&self, text: &str) -> bool {
        let mut parts = text.split('=').map(|part| {
            let mut reader = Reader {
                rest: part.trim(),
                used: Vec::new(),
                depth: 0,
            };
            let value = reader.sum()?;
            reader.used.sort_unstable();
            (value == whole(self.target)).then_some(reader)
        });
        let reaches = |way: Reader| way.rest.is_empty() && way.used == self.numbers;
        let results = |result: Option<Reader>| {
            // Words may follow the result, and no other number.
            result.is_some_and(|result| !result.rest.contains(|c: char| c.is_ascii_digit()))
        };
        parts.next().flatten().is_some_and(reaches) && parts.all(results)
    }
}

/// Reads an expression from its beginning: sums of products of numbers and parentheses.
struct Reader<'a> {
    rest: &'a str,
    used: Vec<i64>,
    depth: usize,
}

impl Reader<'_> {
    fn sum(&mut self) -> Option<BigRational> {
        let mut value = self.product()?;
        loop {
            value = match self.one_of(&['+', '-', '\u{2212}']) {
                Some('+') => value + self.product()?,
                Some(_) => value - self.product()?,
                None => return Some(value),
            };
        }
    }

    fn product(&mut self) -> Option<BigRational> {
        let mut value = self.atom()?;
        loop {
            value = match self.one_of(&['*', '\u{d7}', '/', '\u{f7}']) {
                // 2(3 + 4)
                None if self.rest.starts_with('(') => value * self.atom()?,
                Some('*' | '\u{d7}') => value * self.atom()?,
                Some(_) => {
                    let below = self.atom()?;
                    (!below.is_zero()).then(|| value / below)?
                }
                None => return Some(value),
            };
        }
    }

    fn atom(&mut self) -> Option<BigRational> {
        if self.rest.starts_with('(') {
            return self.inside('(', ')');
        }
        if let Some(rest) = self.rest.strip_prefix("\\frac") {
            self.rest = rest;
            let (above, below) = (self.inside('{', '}')?, self.inside('{', '}')?);
            return (!below.is_zero()).then(|| above / below);
        }
        let digits = self.rest.find(|c: char| !c.is_ascii_digit());
        let (number, rest) = self.rest.split_at(digits.unwrap_or(self.rest.len()));
        let number: i64 = number.parse().ok()?;
        self.rest = rest.trim_start();
        self.used.push(number);
        Some(whole(number))
    }

    fn inside(&mut self, open: char, close: char) -> Option<BigRational> {
        self.one_of(&[open])?;
        self.depth += 1;
        let inside = (self.depth <= MAX_DEPTH).then(|| self.sum())??;
        self.depth -= 1;
        self.one_of(&[close]).map(|_| inside)
    }

    /// Takes the next character if it is one of `wanted`.
    fn one_of(&mut self, wanted: &[char]) -> Option<char> {
        let next = self.rest.chars().next().filter(|c| wanted.contains(c))?;
        self.rest = self.rest[next.len_utf8()..].trim_start();
        Some(next)
    }
}

fn whole(number: i64) -> BigRational {
    BigInt::from(number).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn goals_and_the_ways_to_them() {
        let goal = Goal::parse("24 = 3 5 9").unwrap();
        for (text, reached) in [
            ("3 * (9 - 1)", false),
            ("(9 - 5) * 6", false),
            ("3 * 5 + 9", true),
            ("9 + 5*3 = 24", true),
            ("( (9) + (5 \u{d7} 3) )", true),
            ("3 * 5 + 9 + 0", false),
            ("3 * 5", false),
            ("3 * 5 + 9 apples", false),
            ("3 * 5 + ", false),
            ("", false),
            ("9 / (5 - 5)", false),
            ("3 * 5 + 9 = 25", false),
            ("3 * 5 + 9 = 24 = 25", false),
            ("3 * 5 + 9 = 24 or 25", false),
            ("3 * 5 + 9 = 24 indeed", true),
            ("3(5) + 9", true),
            ("9 + (3)(5)", true),
            ("\\frac{3}{0} * 5 + 9", false),
        ] {
            assert_eq!(goal.is_reached_by(text), reached, "{text:?}");
        }
        // Fractions on the way are exact, and nearly is not reached.
        assert!(Goal::parse("24 = 1 3 4 6")
            .unwrap()
            .is_reached_by("6 / (1 - 3 / 4)"));
        assert!(Goal::parse("24 = 1 3 4 6")
            .unwrap()
            .is_reached_by("\\frac{6}{1-\\frac{3}{4}}"));
        assert!(!Goal::parse("1000000 = 1000001 1")
            .unwrap()
            .is_reached_by("1000001 * 1"));
        assert!(Goal::parse("8 = 4 12")
            .unwrap()
            .is_reached_by("12 \u{2212} 4"));
        for text in ["", "24", "24 =", "x = 3", "24 = 3 x"] {
            assert_eq!(Goal::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[0-9()*/+ -]{0,60}") {
            Goal::parse("1 = 1").unwrap().is_reached_by(&text);
        }

        #[test]
        fn deep_parentheses_are_no_answer(depth in 33..2000usize) {
            let text = format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
            prop_assert!(!Goal::parse("1 = 1").unwrap().is_reached_by(&text));
        }
    }
}
