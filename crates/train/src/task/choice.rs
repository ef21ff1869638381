//! Letters of choices.

use super::final_answer::marked;
use super::maths::surface::surface;

/// Words before a letter that say that it is one.
const BEFORE: [&str; 5] = ["option", "choice", "answer", "letter", "is"];
/// Words behind a letter after which it still is the answer.
const AFTER: [&str; 5] = ["because", "since", "as", "which", "not"];
/// Words between two letters of which neither is the answer.
const BETWEEN: [&str; 6] = ["or", "and", "nor", "to", "through", "maybe"];

/// The letter that a text chooses: the marked one, else the last in parentheses, else a last line that is
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
        let before = text[..*at].trim_end();
        let start = in_parentheses
            .iter()
            .rev()
            .nth(1)
            .map_or(0, |(at, _)| at + 3);
        let between = text.get(start..*at).unwrap_or_default().trim();
        let alternatives = start > 0 && (between.len() < 2 || is_between(between));
        return (!alternatives && !before.ends_with(" not")).then_some(*letter);
    }
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    let line = last.unwrap_or_default().trim();
    (line.len() <= 4).then(|| letter(line))?
}

/// The letter that an answer is, alone or with the text of its choice: `B`, `(b)`, `B) seven`, `\textbf{(B)}\ 7`.
/// An article is none, and two letters are none.
pub(super) fn letter(answer: &str) -> Option<char> {
    let surface = surface(answer)?;
    let mut text = surface.trim_start_matches(|c: char| !c.is_alphanumeric());
    while let Some(rest) = BEFORE.iter().find_map(|word| after_word(text, word)) {
        text = rest.trim_start_matches(|c: char| !c.is_alphanumeric());
    }
    let (letter, rest) = alone(text)?;
    let more = rest.trim_start_matches(|c: char| {
        c.is_whitespace() || "()].:,}*\"-\u{2013}\u{2014}".contains(c)
    });
    let closed = rest.trim_start_matches(' ').starts_with([
        '(', ')', ']', '.', ':', ',', '}', '-', '\u{2013}', '\u{2014}',
    ]);
    let explained = AFTER.iter().any(|word| after_word(more, word).is_some());
    let nothing = !more.contains(char::is_alphanumeric);
    if !(nothing || closed && !is_between(more) && !is_letter(more) || explained) {
        return None;
    }
    Some(letter)
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
