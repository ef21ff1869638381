//! Whether an answer is the right one.

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::expression::Goal;
use super::final_answer::marked;
use super::number;

/// Bytes that a compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// How an answer is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verifier {
    /// Equal as a number; without a marked answer, the last number of the text counts.
    #[default]
    Number,
    /// Equal as text, but for case, white space and a full stop; the last line counts where nothing is marked.
    Exact,
    /// Equal as a letter: `B`, `(b)`, `B.` and `B) seven` are one.
    Choice,
    /// The right answer is a pattern, which must match the whole answer.
    Regex,
    /// The right answer is a goal, `24 = 3 5 9`: an expression that reaches 24 with these numbers, each used
    /// once, is right.
    Expression,
    /// Equal as JSON; without a marked answer, the last object or array of the text counts.
    Json,
}

impl Verifier {
    /// Whether the answer in `text` is `right`.
    pub fn accepts(self, text: &str, right: &str) -> bool {
        match self {
            Self::Number => {
                let pair = number_in(text).zip(number::parse(right));
                pair.is_some_and(|(said, right)| number::equal(said, right))
            }
            Self::Exact => normal(said(text)) == normal(right),
            Self::Choice => chosen(text).is_some_and(|said| Some(said) == letter(right)),
            Self::Regex => {
                pattern(right).is_some_and(|pattern| pattern.is_match(said(text).trim()))
            }
            Self::Expression => {
                Goal::parse(right).is_some_and(|goal| goal.is_reached_by(said(text)))
            }
            Self::Json => {
                let right: Option<Value> = serde_json::from_str(right).ok();
                let said = json_in(text);
                said.is_some() && said == right
            }
        }
    }

    /// Whether `text` has an answer that can be read, right or wrong.
    pub fn reads(self, text: &str) -> bool {
        match self {
            Self::Number => number_in(text).is_some(),
            Self::Choice => chosen(text).is_some(),
            Self::Json => json_in(text).is_some(),
            Self::Exact | Self::Regex | Self::Expression => !said(text).trim().is_empty(),
        }
    }

    /// Why `right` cannot be checked, if it cannot.
    pub fn problem(self, right: &str) -> Option<String> {
        let unreadable = |what: &str| Some(format!("{right:?} is no {what}"));
        match self {
            Self::Number if number::parse(right).is_none() => unreadable("number"),
            Self::Exact if normal(right).is_empty() => unreadable("text"),
            Self::Choice if letter(right).is_none() => unreadable("letter of a choice"),
            Self::Regex if pattern(right).is_none() => unreadable("pattern that can be used"),
            Self::Expression if Goal::parse(right).is_none() => unreadable("goal like 24 = 3 5 9"),
            Self::Json => match serde_json::from_str::<Value>(right) {
                Ok(_) => None,
                Err(error) => Some(format!("{right:?} is no JSON: {error}")),
            },
            _ => None,
        }
    }
}

/// The number that a text answers.
fn number_in(text: &str) -> Option<f64> {
    match marked(text) {
        Some(answer) => number::parse(answer).or_else(|| number::last_in(answer)),
        None => number::last_in(text),
    }
}

/// The JSON that a text answers.
fn json_in(text: &str) -> Option<Value> {
    let said = marked(text).and_then(|answer| serde_json::from_str(answer).ok());
    said.or_else(|| last_json(text))
}

/// The marked answer, else the last line.
fn said(text: &str) -> &str {
    let last = || text.lines().rev().find(|line| !line.trim().is_empty());
    marked(text).or_else(last).unwrap_or_default()
}

fn normal(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let joined = words.join(" ").to_lowercase();
    joined.trim_matches(['.', '*', '"', '$', ' ']).to_owned()
}

/// The letter that a text chooses: the marked one, else the last in parentheses, else a last line that is
/// little more than a letter.
fn chosen(text: &str) -> Option<char> {
    if let Some(answer) = marked(text) {
        return letter(answer);
    }
    let in_parentheses = text.rmatch_indices('(').find_map(|(at, _)| {
        let mut inside = text[at + 1..].chars();
        let letter = inside.next().filter(char::is_ascii_alphabetic)?;
        (inside.next() == Some(')')).then(|| letter.to_ascii_uppercase())
    });
    let line = said(text).trim();
    in_parentheses.or_else(|| (line.len() <= 4).then(|| letter(line))?)
}

/// The letter of a choice: the first letter, if it stands alone.
fn letter(text: &str) -> Option<char> {
    let text = text.trim_start_matches(|c: char| !c.is_alphanumeric());
    let mut chars = text.chars();
    let first = chars.next().filter(char::is_ascii_alphabetic)?;
    let alone = chars.next().is_none_or(|next| !next.is_alphanumeric());
    alone.then(|| first.to_ascii_uppercase())
}

/// A pattern for the whole answer; the crate matches in linear time.
fn pattern(right: &str) -> Option<Regex> {
    let whole = RegexBuilder::new(&format!("^(?:{right})$"))
        .size_limit(MAX_PATTERN_BYTES)
        .build();
    whole.ok()
}

/// The last part of a text that is a JSON object or array.
fn last_json(text: &str) -> Option<Value> {
    let starts = text.rmatch_indices(['{', '[']).map(|(at, _)| at);
    let read = |at: usize| {
        let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>();
        values.next()?.ok()
    };
    // An inner object is found before the one around it: the longest that ends last counts.
    let mut found = None;
    let mut reaches = 0;
    for at in starts {
        if let Some(value) = read(at) {
            let end = at + value.to_string().len();
            if found.is_none() || end >= reaches {
                (found, reaches) = (Some(value), end);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_cannot_be_read_are_known() {
        for (verifier, read, unread) in [
            (
                Verifier::Number,
                "The answer is 7.",
                "The answer is seven-ish.",
            ),
            (Verifier::Choice, "so (b)", "I cannot choose between them"),
            (Verifier::Json, "{\"a\": 1}", "{\"a\": "),
            (Verifier::Exact, "nn", " \n"),
        ] {
            assert!(verifier.reads(read), "{read}");
            assert!(!verifier.reads(unread), "{unread}");
        }
    }

    #[test]
    fn answers_are_checked_by_kind() {
        use Verifier::{Choice, Exact, Json, Number, Regex};
        for (verifier, text, right, accepted) in [
            (Number, "48+24 = 72\n#### 72", "72", true),
            (Number, "so 3 + 4 = 7 apples.", "7", true),
            (Number, "The answer is $1,250.00.", "1250", true),
            (Number, "\\boxed{\\frac{1}{2}} of 8", "0.5", true),
            (Number, "The answer is 8, not 9", "9", true),
            (Number, "the answer is 8", "9", false),
            (Number, "nothing", "9", false),
            (
                Exact,
                "Well.\nThe answer is Lake  Victoria.",
                "lake victoria",
                true,
            ),
            (Exact, "lake", "lake victoria", false),
            (Choice, "I think (b) because", "B", true),
            (Choice, "The answer is **C**.", "(c)", true),
            (Choice, "Because it is B", "B", false),
            (Choice, "I think so", "I", false),
            (Choice, "Hm.\nB.", "b", true),
            (Regex, "answer: ab12", "[a-c]+\\d+", true),
            (Regex, "answer: ab12x", "[a-c]+\\d+", false),
            (Json, "So: {\"a\": [1, 2]} it is", "{\"a\":[1,2]}", true),
            (Json, "\\boxed{[1]}", "[1]", true),
            (Json, "{\"a\": 1}", "{\"a\": 2}", false),
            (Json, "{", "{}", false),
        ] {
            assert_eq!(
                verifier.accepts(text, right),
                accepted,
                "{verifier:?} {text:?}"
            );
        }
    }

    #[test]
    fn answers_that_cannot_be_checked_are_named() {
        use Verifier::{Choice, Exact, Json, Number, Regex};
        for (verifier, right) in [
            (Number, "seven"),
            (Exact, " . "),
            (Choice, "both"),
            (Regex, "("),
            (Regex, "(a{1000}){1000}"),
            (Json, "{"),
        ] {
            let problem = verifier.problem(right);
            assert!(
                problem.is_some_and(|p| p.contains("is no")),
                "{verifier:?} {right:?}"
            );
        }
        for (verifier, right) in [(Number, "1/2"), (Exact, "x"), (Choice, "d"), (Json, "null")] {
            assert_eq!(verifier.problem(right), None);
        }
    }
}
