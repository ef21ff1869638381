//! Letters of choices.

use super::final_answer::marked;
use super::maths::surface::surface;

/// Words before a letter that say that it is one.
const BEFORE: [&str; 5] = ["option", "choice", "answer", "letter", "is"];
/// Words before a letter in parentheses that is chosen; elsewhere it may be the name of something.
const CHOOSES: [&str; 22] = [
    "answer",
    "be",
    "choice",
    "choose",
    "correct",
    "chose",
    "going",
    "hence",
    "is",
    "letter",
    "option",
    "pick",
    "picked",
    "say",
    "select",
    "so",
    "therefore",
    "think",
    "thus",
    "with",
    "believe",
    "s",
];
/// Words behind a letter after which it still is the answer.
const AFTER: [&str; 4] = ["because", "since", "as", "which"];
/// Words between two letters of which neither is the answer.
const BETWEEN: [&str; 10] = [
    "or", "and", "nor", "to", "through", "maybe", "as well", "vs", "possibly", "perhaps",
];
/// Words beside a letter that deny it, or leave it open.
const DOUBTS: [&str; 26] = [
    "not",
    "no",
    "t",
    "cannot",
    "never",
    "neither",
    "wrong",
    "incorrect",
    "incorrectly",
    "false",
    "impossible",
    "unlikely",
    "except",
    "rather",
    "than",
    "wait",
    "possibly",
    "perhaps",
    "maybe",
    "either",
    "also",
    "both",
    "sure",
    "unsure",
    "eliminate",
    "eliminated",
];

/// The letter that a text chooses: the marked one, else the only one in parentheses, else a last line that is
/// little more than a letter.
pub(super) fn chosen(text: &str) -> Option<char> {
    if let Some(answer) = marked(text) {
        return letter(answer);
    }
    let in_parentheses: Vec<(usize, char)> = text
        .match_indices('(')
        .filter_map(|(at, _)| {
            let mut inside = text[at + 1..].chars();
            let letter = inside.next().filter(char::is_ascii_alphabetic)?;
            (inside.next() == Some(')')).then(|| (at, letter.to_ascii_uppercase()))
        })
        .collect();
    if let Some((at, letter)) = in_parentheses.last() {
        let alone = in_parentheses.iter().all(|(_, other)| other == letter);
        return (alone && is_chosen(&text[..*at], &text[at + 3..])).then_some(*letter);
    }
    // Options one below the other are a list of them.
    let short = |line: &&str| (1..=4).contains(&line.trim().len());
    let mut lines = text.lines().rev().filter(|line| !line.trim().is_empty());
    let last = lines.next().filter(short).and_then(letter)?;
    let mut others = lines.filter(short).filter_map(letter);
    others.all(|other| other == last).then_some(last)
}

/// Whether the sentence around a letter in parentheses chooses it.
fn is_chosen(before: &str, after: &str) -> bool {
    let start = before.rfind(['.', '!', '?', '\n']).map_or(0, |at| at + 1);
    let end = after.find(['.', '!', '?', '\n']).unwrap_or(after.len());
    let (before, after) = (&before[start..], explained(&after[..end]));
    let close = before.trim_end();
    let names = close.ends_with(char::is_alphabetic)
        && !words(close).next_back().is_some_and(|word| {
            let word = word.to_ascii_lowercase();
            CHOOSES.contains(&word.as_str())
        });
    let other = |word: &str| word.len() == 1 && word != "I" && word.starts_with(char::is_uppercase);
    !names && !doubts(before) && !doubts(after) && !words(after).any(other)
}

/// A sentence up to where it explains what it says.
fn explained(text: &str) -> &str {
    let lower = text.to_ascii_lowercase();
    let ends = [" because ", " since ", ", as ", ", which "];
    let end = ends.iter().filter_map(|end| lower.find(end)).min();
    &text[..end.unwrap_or(text.len())]
}

fn words(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
}

fn doubts(text: &str) -> bool {
    words(text).any(|word| DOUBTS.contains(&word.to_ascii_lowercase().as_str()))
}

/// The letter that an answer is, alone or with the text of its choice: `B`, `(b)`, `B) seven`, `\textbf{(B)}\ 7`.
/// An article is none, and two letters are none.
pub(super) fn letter(answer: &str) -> Option<char> {
    let surface = surface(answer)?;
    let opening = |c: char| c.is_whitespace() || "([{*\"':.#$".contains(c);
    let mut text = surface.trim_start_matches(opening);
    while let Some(rest) = BEFORE.iter().find_map(|word| after_word(text, word)) {
        text = rest.trim_start_matches(opening);
    }
    let (letter, rest) = alone(text)?;
    let more = rest.trim_start_matches(|c: char| {
        c.is_whitespace() || "()].:,}*\"-\u{2013}\u{2014}".contains(c)
    });
    if !more.contains(char::is_alphanumeric) {
        return Some(letter);
    }
    let capital = |word: &str| word.len() == 1 && word.starts_with(char::is_uppercase);
    let said = explained(more);
    if is_label(rest) {
        // What follows is the text of the choice, which may say anything: "(B) vitamin C", "(B) not known".
        let another = is_letter(more) || is_between(more) && words(said).any(capital);
        return (!another).then_some(letter);
    }
    if is_between(more) || is_letter(more) {
        return None;
    }
    if AFTER.iter().any(|word| after_word(more, word).is_some()) {
        return Some(letter);
    }
    if let Some(other) = after_word(more, "not") {
        // "A, not B"
        return alone(other.trim_start_matches(opening)).map(|_| letter);
    }
    let closed = rest.trim_start_matches(['*', ' ', ')', ']', '}']);
    let closed = !rest.starts_with('(')
        && closed.starts_with(['.', ',', '-', ':', '(', '\u{2013}', '\u{2014}']);
    (closed && !doubts(said) && !words(said).any(capital)).then_some(letter)
}

/// Whether a letter is closed as that of a choice is before its text: `B) seven`, `B: seven`; not `(A), maybe` and not
/// `(A) is wrong`.
fn is_label(rest: &str) -> bool {
    let closes = |c: char| ")]}:*\" ".contains(c);
    let text = rest.trim_start_matches(closes);
    let says = ["is", "isn", "was", "can", "cannot", "could", "may", "might"];
    rest.trim_start_matches('*')
        .starts_with([')', ']', '}', ':'])
        && text.starts_with(|c: char| !",;.(".contains(c))
        && !says.iter().any(|word| after_word(text, word).is_some())
}

/// Whether a text begins by naming another letter beside one.
fn is_between(more: &str) -> bool {
    more.starts_with(['/', '&', '|']) || BETWEEN.iter().any(|word| after_word(more, word).is_some())
}

/// Whether another letter follows, and no text.
fn is_letter(more: &str) -> bool {
    let more = more.trim_start_matches(|c: char| !c.is_alphanumeric());
    alone(more).is_some_and(|(_, rest)| {
        !rest.starts_with(' ') || rest.trim().len() < 2 || is_between(rest.trim_start())
    })
}

/// A letter that stands alone at the beginning, and what follows it.
fn alone(text: &str) -> Option<(char, &str)> {
    let letter = text.chars().next().filter(char::is_ascii_alphabetic)?;
    let rest = &text[1..];
    let ends = rest
        .chars()
        .next()
        .is_none_or(|c| !c.is_alphanumeric() && c != '\'');
    ends.then(|| (letter.to_ascii_uppercase(), rest))
}

/// What follows `word` at the beginning, in whatever case.
fn after_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(word.len())?;
    let ends = rest.chars().next().is_none_or(|c| !c.is_alphanumeric());
    (ends && start.eq_ignore_ascii_case(word)).then_some(rest)
}
