//! Numbers as people and LaTeX write them.

/// The number that a text is: with signs, thousands' commas, units, a percent sign, as a fraction, a mixed
/// number, or LaTeX's `\frac`. A percentage is its number: 50% is 50.
pub fn parse(text: &str) -> Option<f64> {
    let plain = simplify(text);
    let plain = plain.trim();
    if let Some(value) = fraction(plain) {
        return Some(value);
    }
    let (value, rest) = leading(plain)?;
    // A unit may follow, another number may not: "3 4" is no number.
    let mixed = rest.trim_start();
    if let Some(part) = fraction(mixed).filter(|part| (0.0..1.0).contains(part)) {
        return Some(value + part.copysign(value));
    }
    (!mixed.contains(|c: char| c.is_ascii_digit())).then_some(value)
}

/// The last number in a text.
pub fn last_in(text: &str) -> Option<f64> {
    let text = simplify(text);
    let is_part = |c: char| c.is_ascii_digit() || ".-/".contains(c);
    let words = text.rsplit(|c: char| !is_part(c));
    words
        .map(|word| word.trim_matches(['.', '/']).trim_end_matches('-'))
        .map(after_range)
        .filter(|word| word.contains(|c: char| c.is_ascii_digit()))
        .find_map(|word| fraction(word).or_else(|| leading(word).map(|(value, _)| value)))
}

/// What stands behind a dash between two numbers: 5 of `3-5`. A sign is no dash.
fn after_range(word: &str) -> &str {
    match word.rsplit_once('-') {
        Some((before, after)) if before.ends_with(|c: char| c.is_ascii_digit()) => after,
        _ => word,
    }
}

/// Equal but for rounding.
pub fn equal(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1.0)
}

/// Without what only decorates: currency, dollar signs of LaTeX, commas between digits, `\frac`.
fn simplify(text: &str) -> String {
    let mut text = text
        .replace("\\dfrac", "\\frac")
        .replace("\\tfrac", "\\frac")
        .replace("\\!", "")
        .replace("\\,", "")
        .replace("\\%", "%")
        .replace("\\$", "$")
        .replace('\u{2212}', "-");
    while let Some((start, end, value)) = latex_fraction(&text) {
        text.replace_range(start..end, &value);
    }
    let chars: Vec<char> = text.chars().collect();
    let digit = |i: usize| chars.get(i).is_some_and(char::is_ascii_digit);
    let keep = |(i, c): (usize, &char)| {
        let thousands = *c == ',' && i > 0 && digit(i - 1) && digit(i + 1);
        (!thousands && !"$\u{20ac}\u{a3}*".contains(*c)).then_some(*c)
    };
    chars.iter().enumerate().filter_map(keep).collect()
}

/// The first `\frac{a}{b}`: where it is, and `a/b`, apart from a number before it.
fn latex_fraction(text: &str) -> Option<(usize, usize, String)> {
    let start = text.find("\\frac{")?;
    let rest = &text[start + "\\frac{".len()..];
    let (above, rest_below) = rest.split_once("}{")?;
    let (below, after) = rest_below.split_once('}')?;
    let end = text.len() - after.len();
    let apart = if text[..start].ends_with(|c: char| c.is_ascii_digit()) {
        " "
    } else {
        ""
    };
    Some((start, end, format!("{apart}{above}/{below}")))
}

/// a/b and nothing else.
fn fraction(text: &str) -> Option<f64> {
    let (above, below) = text.split_once('/')?;
    let whole = |text: &str| {
        let (value, rest) = leading(text.trim())?;
        rest.is_empty().then_some(value)
    };
    let value = whole(above)? / whole(below)?;
    value.is_finite().then_some(value)
}

/// A number at the beginning, and what follows it.
fn leading(text: &str) -> Option<(f64, &str)> {
    let mut dot = false;
    let end = text.char_indices().find(|(i, c)| match c {
        '-' | '+' => *i > 0,
        '.' => std::mem::replace(&mut dot, true),
        c => !c.is_ascii_digit(),
    });
    let end = end.map_or(text.len(), |(i, _)| i);
    let value: f64 = text[..end].trim_end_matches('.').parse().ok()?;
    value.is_finite().then_some((value, &text[end..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_as_they_are_written() {
        for (text, value) in [
            ("72", 72.0),
            ("-3.50", -3.5),
            ("+4", 4.0),
            ("$1,234.50", 1234.5),
            ("12 apples", 12.0),
            ("50%", 50.0),
            ("50\\%", 50.0),
            ("3/4", 0.75),
            ("\\frac{1}{2}", 0.5),
            ("-\\frac{1}{2}", -0.5),
            ("1 1/2", 1.5),
            ("2\\dfrac{3}{4}", 2.75),
            ("1{,}000", 1.0),
            ("10.", 10.0),
            (".5", 0.5),
            ("**8**", 8.0),
            ("\u{2212}6", -6.0),
            ("20 km/h", 20.0),
        ] {
            let expected = if text == "1{,}000" { None } else { Some(value) };
            assert_eq!(parse(text), expected, "{text:?}");
        }
        for text in ["", "x", "3 4", "1/0", "-", "nan", "inf", "1e9999 2", "one"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_last_number_counts() {
        for (text, value) in [
            ("3 + 4 = 7.", Some(7.0)),
            ("He pays $1,250 in all", Some(1250.0)),
            ("between 3-5", Some(5.0)),
            ("x = -2", Some(-2.0)),
            ("1/2 of it", Some(0.5)),
            ("none", None),
        ] {
            assert_eq!(last_in(text), value, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[\\\\{}fracboxed0-9 .,/$%+-]{0,40}") {
            let _ = (parse(&text), last_in(&text));
        }

        #[test]
        fn what_is_printed_is_parsed(value in -1e9..1e9f64, places in 0..6usize) {
            let text = format!("{value:.places$}");
            let read = parse(&text).unwrap();
            prop_assert!(equal(read, text.parse().unwrap()));
        }
    }
}
