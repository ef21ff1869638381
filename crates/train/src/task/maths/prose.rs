//! An answer among words.

use super::surface::surface;
use super::token::{lex, Kind, Token};
use super::{parse, Answer};

/// Words before an answer that say nothing of what it is.
const BEFORE: [&str; 51] = [
    "the",
    "a",
    "an",
    "that",
    "is",
    "are",
    "was",
    "were",
    "be",
    "it",
    "there",
    "he",
    "she",
    "they",
    "we",
    "you",
    "i",
    "has",
    "have",
    "had",
    "will",
    "would",
    "get",
    "gets",
    "makes",
    "equal",
    "equals",
    "to",
    "about",
    "approximately",
    "roughly",
    "exactly",
    "around",
    "simply",
    "just",
    "indeed",
    "therefore",
    "thus",
    "so",
    "value",
    "total",
    "rs",
    "usd",
    "answer",
    "final",
    "result",
    "sum",
    "number",
    "amount",
    "cost",
    "price",
];

/// Where what follows an answer explains it, or says what it is not.
const AFTER: [&str; 20] = [
    ", not ",
    " and not ",
    " not ",
    ", because ",
    " because ",
    ", since ",
    " since ",
    ", as ",
    ", which ",
    ", where ",
    ", rather than ",
    " rather than ",
    ", instead of ",
    " instead of ",
    " (not ",
    " (since ",
    " (because ",
    " (rounded ",
    " (which ",
    ", so ",
];

/// Words that say that the number directly behind them is not the answer: the one before it may be.
const INSTEAD: [&str; 5] = ["not", "than", "t", "of", "never"];
/// Words that say that the number in their clause is not the answer, and none is.
const DENIALS: [&str; 8] = [
    "not",
    "never",
    "cannot",
    "wrong",
    "incorrect",
    "impossible",
    "false",
    "neither",
];
/// Words that begin another clause.
const CLAUSES: [&str; 8] = [
    "but",
    "so",
    "which",
    "and",
    "because",
    "since",
    "then",
    "therefore",
];

/// The answer that a marked text is. It is read whole: a number somewhere in it is no answer.
pub fn marked(text: &str) -> Option<Answer> {
    let whole = Answer::read(text);
    whole.or_else(|| {
        let end = AFTER.iter().filter_map(|mark| text.find(mark)).min();
        let kept = &text[..end.unwrap_or(text.len())];
        Answer::read(kept).or_else(|| Answer::read(without_words(&surface(kept)?)))
    })
}

/// What is left when the words before an answer are gone.
fn without_words(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        let end = text
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(text.len());
        let word = text[..end].to_lowercase();
        if !BEFORE.contains(&word.as_str()) {
            return text;
        }
        text = text[end..].trim_start_matches(['.', ':']);
        if word == "total" {
            text = text.strip_prefix(" of ").unwrap_or(text);
        }
    }
}

/// The last number of a text that marks no answer, with all that belongs to it: `2^{10}`, `12 cm^2`, `-3/4`.
pub fn last(text: &str) -> Option<Answer> {
    let lines = text.lines().rev().take(MAX_LINES);
    lines.into_iter().find_map(last_of_line)?
}

/// Lines that are looked at.
const MAX_LINES: usize = 64;
/// Bytes of a line that are looked at, the last ones.
const MAX_LINE: usize = 1500;

/// `None` if the line has no number, `Some(None)` if its last one is no answer.
fn last_of_line(line: &str) -> Option<Option<Answer>> {
    let start = line.len().saturating_sub(MAX_LINE);
    let start = (start..=line.len()).find(|at| line.is_char_boundary(*at))?;
    let tokens = lex(&surface(&line[start..])?)?;
    let numbers = (0..tokens.len()).rev().filter(|at| is_number(&tokens, *at));
    for at in numbers {
        let (start, end) = window(&tokens, at);
        if is_another(&tokens[..start]) {
            continue;
        }
        if is_range(&tokens[start..end]) || is_denied(&tokens, start, end) {
            return Some(None);
        }
        let read =
            |tokens: &[Token]| parse::answer(tokens).filter(|answer| answer.items.len() == 1);
        let whole = with_unit(&tokens, start, end).or_else(|| read(&tokens[start..end]));
        return Some(whole.or_else(|| read(&tokens[at..=at])));
    }
    None
}

/// A number that stands for itself: no exponent, no index, no part of a name.
fn is_number(tokens: &[Token], at: usize) -> bool {
    let token = &tokens[at];
    let number = matches!(token.kind, Kind::Number(_));
    let before = at.checked_sub(1).map(|at| &tokens[at]);
    let opens = |token: &Token| token.is('{') || token.is('-') || token.is('(');
    let mut outer = at;
    while outer > 0 && opens(&tokens[outer - 1]) && !tokens[outer].spaced {
        outer -= 1;
    }
    let raised = outer > 0 && (tokens[outer - 1].is('^') || tokens[outer - 1].is('_'));
    let name = before.is_some_and(|before| before.letters().is_some() && !token.spaced);
    number && !raised && !name
}

/// The signs, numbers and commands around a number, from behind the last `=`.
fn window(tokens: &[Token], at: usize) -> (usize, usize) {
    let mathematical = |token: &Token| match &token.kind {
        Kind::Number(_) => true,
        Kind::Sign(sign) => "+-*/^()[]{}!\u{2013}\u{3c0}\u{b0}\u{a4}\u{20ac}\u{a3}".contains(*sign),
        Kind::Command(name) => ["frac", "sqrt", "binom"].contains(&name.as_str()),
        Kind::Letters(_) => false,
    };
    // Numbers side by side are two.
    let two = |i: usize| {
        let number = |token: &Token| matches!(token.kind, Kind::Number(_));
        number(&tokens[i])
            && number(&tokens[i + 1])
            && !tokens.get(i + 2).is_some_and(|t| t.is('/'))
    };
    let (mut start, mut end) = (at, at + 1);
    while start > 0 && mathematical(&tokens[start - 1]) && !two(start - 1) {
        start -= 1;
    }
    while end < tokens.len() && mathematical(&tokens[end]) && !two(end - 1) {
        end += 1;
    }
    (start, end)
}

/// The number with the words behind it, as many as make a unit.
fn with_unit(tokens: &[Token], start: usize, end: usize) -> Option<Answer> {
    let words = tokens[end..].iter();
    let words = words.take_while(|t| {
        t.letters().is_some()
            || matches!(t.kind, Kind::Sign('/' | '^' | '%' | '{' | '}'))
            || matches!(t.kind, Kind::Number(_))
    });
    let most = words.count().min(6);
    let lengths = (0..=most).rev();
    lengths.into_iter().find_map(|n| {
        parse::answer(&tokens[start..end + n]).filter(|answer| answer.items.len() == 1)
    })
}

/// Whether the word before a number says that it is the other one.
fn is_another(before: &[Token]) -> bool {
    let last = before.iter().rev().find(|token| !token.is('\''));
    let word = last.and_then(Token::letters).map(str::to_lowercase);
    let instead = before.iter().rev().nth(1).and_then(Token::letters);
    word.is_some_and(|word| match word.as_str() {
        "of" => instead == Some("instead"),
        word => INSTEAD.contains(&word),
    })
}

/// Whether the clause around a number denies it, or what follows takes it back: "It cannot be 9.", "9 is wrong",
/// "It is 9? No."
fn is_denied(tokens: &[Token], start: usize, end: usize) -> bool {
    let ends = |at: &usize| match &tokens[*at].kind {
        Kind::Sign(sign) => ",;.:?!".contains(*sign),
        Kind::Letters(word) => CLAUSES.contains(&word.to_lowercase().as_str()),
        _ => false,
    };
    let is = |at: usize, words: &[&str]| {
        let word = tokens[at].letters().map(str::to_lowercase);
        word.is_some_and(|word| words.contains(&word.as_str()))
    };
    // "can't", and not a variable.
    let contracted = |at: usize| is(at, &["t"]) && at > 0 && tokens[at - 1].is('\'');
    let denies = |at: usize| is(at, &DENIALS) || contracted(at);
    let mut before = (0..start).rev().take_while(|at| !ends(at));
    let mut after = (end..tokens.len()).take_while(|at| !ends(at));
    let next = (end..tokens.len()).find(|at| tokens[*at].letters().is_some());
    before.any(denies) || after.any(denies) || next.is_some_and(|at| is(at, &["no", "wait"]))
}

/// `3-5` among words.
fn is_range(tokens: &[Token]) -> bool {
    matches!(tokens, [a, dash, b]
        if matches!(a.kind, Kind::Number(_)) && matches!(b.kind, Kind::Number(_))
            && (dash.is('-') || dash.is('\u{2013}')) && !dash.spaced && !b.spaced)
}
