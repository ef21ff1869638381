//! Whether an answer is the right one.

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::choice::{chosen, letter};
use super::expression::Goal;
use super::final_answer::marked;
use super::maths::surface::{plain, surface};
use super::maths::{prose, Answer};

/// Bytes that a compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// How an answer is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verifier {
    /// Equal as a number, or as a list, tuple, set or matrix of numbers ([`maths`](super::maths)); without a marked
    /// answer, the last number of the text counts.
    #[default]
    Number,
    /// Equal as mathematics, variables included; what is none, as text.
    Math,
    /// Equal as text, but for case, white space, a full stop and what LaTeX decorates with; the last line counts
    /// where nothing is marked.
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
            Self::Number => numbers(right)
                .is_some_and(|right| numbers_in(text).is_some_and(|said| right.accepts(&said))),
            Self::Math => is_same_mathematics(text, right),
            Self::Exact => {
                let said = said(text);
                normal(said) == normal(right) || decorated(said, right)
            }
            Self::Choice => chosen(text).is_some_and(|said| Some(said) == letter(right)),
            Self::Regex => {
                pattern(right).is_some_and(|pattern| pattern.is_match(said(text).trim()))
            }
            Self::Expression => {
                let said = surface(said(text));
                let goal = Goal::parse(right);
                goal.zip(said)
                    .is_some_and(|(goal, said)| goal.is_reached_by(&said))
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
            Self::Number => numbers_in(text).is_some(),
            Self::Choice => chosen(text).is_some(),
            Self::Json => json_in(text).is_some(),
            Self::Math | Self::Exact | Self::Regex | Self::Expression => {
                !said(text).trim().is_empty()
            }
        }
    }

    /// Why `right` cannot be checked, if it cannot.
    pub fn problem(self, right: &str) -> Option<String> {
        let unreadable = |what: &str| Some(format!("{right:?} is no {what}"));
        match self {
            Self::Number if numbers(right).is_none() => unreadable("number"),
            Self::Math | Self::Exact if normal(right).is_empty() => unreadable("text"),
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

/// The numbers that a right answer is.
fn numbers(right: &str) -> Option<Answer> {
    Answer::read(right).filter(Answer::is_numeric)
}

/// The numbers that a text answers.
fn numbers_in(text: &str) -> Option<Answer> {
    let said = match marked(text) {
        Some(answer) => prose::marked(answer),
        None => prose::last(text),
    };
    said.filter(Answer::is_numeric)
}

fn is_same_mathematics(text: &str, right: &str) -> bool {
    let said = said(text);
    let (a, b) = (plain(right), plain(said));
    let (a, b) = (
        a.as_deref().map(without_article),
        b.as_deref().map(without_article),
    );
    if a == b && a.is_some_and(|text| !text.is_empty()) {
        return true;
    }
    // The letter of a choice, where the gold is one: a capital, or dressed as one.
    let option =
        letter(right).filter(|c| right.trim() == c.to_string() || right.contains("\\text"));
    if option.is_some_and(|c| Some(c) == letter(said) && said.contains(c)) {
        return true;
    }
    Answer::read(right).is_some_and(|right| {
        let said = match marked(text) {
            Some(answer) => prose::marked(answer),
            None => Answer::read(said).or_else(|| prose::last(text)),
        };
        said.is_some_and(|said| right.accepts(&said))
    })
}

/// "a circle" is a circle; a letter alone is no article.
fn without_article(text: &str) -> &str {
    let articles = ["a ", "an ", "the "];
    let after = articles
        .iter()
        .find_map(|article| text.strip_prefix(article));
    after
        .filter(|rest| rest.starts_with(char::is_alphabetic))
        .unwrap_or(text)
}

/// Whether a text is the right one but for what LaTeX decorates with, or for the text of a choice.
fn decorated(said: &str, right: &str) -> bool {
    let lower = |text: &str| plain(text).map(|text| text.to_lowercase());
    let (a, b) = (lower(said), lower(right));
    let choice =
        || right.trim().len() == 1 && said.contains("\\text") && letter(said) == letter(right);
    a == b && a.is_some_and(|text| !text.is_empty()) || choice()
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
        use Verifier::{Choice, Exact, Expression, Json, Number, Regex};
        for (verifier, text, right, accepted) in [
            (Number, "48+24 = 72\n#### 72", "72", true),
            (Number, "so 3 + 4 = 7 apples.", "7", true),
            (Number, "The answer is $1,250.00.", "1250", true),
            (Number, "\\boxed{\\frac{1}{2}} of 8", "0.5", true),
            (Number, "The answer is 8, not 9", "9", false),
            (Number, "The answer is 8, not 9", "8", true),
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
            (Expression, "\\boxed{(9 - 1) \\times 3}", "24 = 1 3 9", true),
            (
                Expression,
                "The answer is $9 \\times 3 - 1$.",
                "24 = 1 3 9",
                false,
            ),
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
