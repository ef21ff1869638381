//! Where in a text the answer stands.

use std::collections::HashMap;

use super::maths::surface::surface;

/// Characters of a box without braces, at most.
const MAX_BARE: usize = 200;

/// The answer that a text marks as one: the last `\boxed{..}`, else what follows the last `####`, else
/// what follows the last "answer is" or "answer:", up to the end of its sentence. Boxes with nothing but a comma,
/// "and" or "or" between them are one answer. What is taken back behind the mark ("9? No, 8.") is part of the answer,
/// so that nobody can read it as the one or the other.
pub fn marked(text: &str) -> Option<&str> {
    boxed(text)
        .or_else(|| after_hashes(text))
        .or_else(|| after_words(text))
        .map(str::trim)
        .filter(|answer| !answer.is_empty())
}

/// What stands before the sentence of the first mark of an answer: the way to it.
pub fn before(text: &str) -> &str {
    // ASCII letters only change, so that places in both texts are the same.
    let lower = text.to_ascii_lowercase();
    let marks = ["\\boxed", "####", "answer is", "answer:"];
    let Some(mark) = marks.iter().filter_map(|m| lower.find(m)).min() else {
        return text.trim_end();
    };
    let way = &text[..mark];
    let line = way.rfind('\n').map_or(0, |at| at + 1);
    let sentence = way.rfind(". ").map_or(0, |at| at + 2);
    way[..line.max(sentence)].trim_end()
}

/// The inside of the last box, or all of those that are one answer.
fn boxed(text: &str) -> Option<&str> {
    let boxes = boxes(text);
    let last = boxes.last()?;
    if withdraws(&text[last.end..]) {
        return Some(&text[last.start..]);
    }
    let mut first = last;
    let mut same = true;
    for before in boxes.iter().rev().skip(1) {
        let between = text.get(before.end..first.start);
        if !between.is_some_and(joins) {
            break;
        }
        // The same box twice is said twice.
        same &= before.inside.trim() == last.inside.trim() && between.is_some_and(is_blank);
        first = before;
    }
    Some(match same {
        true => last.inside,
        false => &text[first.start..last.end],
    })
}

/// `\boxed{..}` in a text.
struct Boxed<'a> {
    start: usize,
    inside: &'a str,
    end: usize,
}

/// The boxes of a text, in order; those whose braces do not close are none.
fn boxes(text: &str) -> Vec<Boxed<'_>> {
    let closes = closes(text);
    let mut found: Vec<Boxed> = ["\\boxed", "\\fbox"]
        .iter()
        .flat_map(|mark| text.match_indices(mark))
        .filter_map(|(start, mark)| {
            let rest = &text[start + mark.len()..];
            let trimmed = rest.trim_start_matches(' ');
            let open = text.len() - trimmed.len();
            let (inside, end) = match trimmed.starts_with('{') {
                true => {
                    let close = *closes.get(&open)?;
                    (&text[open + 1..close], close + 1)
                }
                false => {
                    let (inside, length) = without_braces(rest)?;
                    (inside, start + mark.len() + length)
                }
            };
            Some(Boxed { start, inside, end })
        })
        .collect();
    found.sort_by_key(|boxed| boxed.start);
    found
}

/// Where the groups of a text close, by where they open.
fn closes(text: &str) -> HashMap<usize, usize> {
    let mut closes = HashMap::new();
    let mut open = Vec::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => open.push(at),
            '}' => closes.extend(open.pop().map(|start| (start, at))),
            _ => {}
        }
    }
    closes
}

/// `\boxed 5`: up to the end of the formula or the sentence, and how far that is.
fn without_braces(rest: &str) -> Option<(&str, usize)> {
    let far = rest.char_indices().nth(MAX_BARE);
    let rest = &rest[..far.map_or(rest.len(), |(at, _)| at)];
    if rest.starts_with(|c: char| c.is_alphabetic()) {
        return None;
    }
    let ends = ["$", "\n", "\\)", "\\]", ". ", ", ", "\\end"];
    let end = ends.iter().filter_map(|end| rest.find(end)).min();
    let end = end.unwrap_or(rest.len());
    let inside = rest[..end].trim().trim_end_matches(['.', ',', ';']);
    (!inside.is_empty()).then_some((inside, end))
}

/// Whether what stands between two boxes makes one answer of them.
fn joins(between: &str) -> bool {
    let Some(between) = surface(between) else {
        return false;
    };
    let word = between.trim_matches(|c: char| c.is_whitespace() || ",;".contains(c));
    ["", "and", "or"].contains(&word)
}

/// Whether nothing but signs of formulas stands there.
fn is_blank(between: &str) -> bool {
    surface(between).is_some_and(|between| between.is_empty())
}

/// Whether what follows an answer takes it back: "No, 8.", "Wait, that is wrong."
fn withdraws(behind: &str) -> bool {
    let behind = behind.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '\\');
    let mut words = behind.splitn(3, |c: char| !c.is_alphabetic());
    let first = words.next().unwrap_or_default().to_ascii_lowercase();
    let second = words.next().unwrap_or_default().to_ascii_lowercase();
    match first.as_str() {
        "no" | "hmm" => second.is_empty() || ["wait", "it", "that", "sorry"].contains(&&*second),
        "hold" => second == "on",
        "scratch" => second == "that",
        "actually" => {
            let other = behind[first.len()..].trim_start_matches([',', ' ']);
            let words = ["it", "the", "that", "no", "not"];
            !other.starts_with(char::is_alphabetic)
                || words.iter().any(|word| other.starts_with(word))
        }
        first => ["wait", "oops", "sorry", "correction"].contains(&first),
    }
}

fn after_hashes(text: &str) -> Option<&str> {
    let rest = text.rsplit_once("####")?.1;
    let rest = rest.trim_start();
    let line = rest.lines().next()?;
    Some(if withdraws(&rest[line.len()..]) {
        rest
    } else {
        line
    })
}

fn after_words(text: &str) -> Option<&str> {
    // ASCII letters only change, so that places in both texts are the same.
    let lower = text.to_ascii_lowercase();
    let marks = ["answer is", "answer:", "answers are"];
    let ends = marks.iter().filter_map(|m| Some(lower.rfind(m)? + m.len()));
    let rest = text[ends.max()?..].trim_start_matches([':', ' ']);
    // "**Answer:** 5"
    let rest = rest.strip_prefix("** ").unwrap_or(rest);
    let rest = rest.trim_start();
    let said = sentence(rest.lines().next()?);
    if withdraws(&rest[said.len()..]) {
        return Some(rest);
    }
    let said = said.trim_end_matches(['.', '!', ' ']);
    Some(instead(said).unwrap_or(said))
}

/// "not 18 but 17" is 17.
fn instead(said: &str) -> Option<&str> {
    let (not, rest) = said.split_at_checked(4)?;
    let (_, other) = rest.split_once(" but ")?;
    not.eq_ignore_ascii_case("not ").then_some(other)
}

/// Up to the end of the sentence: not a point within 3.5, nor one after a word before the number ("Rs. 5").
fn sentence(line: &str) -> &str {
    let ends = line.char_indices().filter(|(_, c)| ".!?".contains(*c));
    let end = ends.map(|(at, _)| at).find(|at| {
        let (first, rest) = (&line[..*at], &line[at + 1..]);
        let after = rest.trim_start().chars().next();
        let point = line[*at..].starts_with('.');
        let digit = |c: char| c.is_ascii_digit();
        let only_words = !first.contains(digit) && after.is_some_and(digit);
        let ends = point || after.is_some_and(char::is_uppercase);
        let dots = first.ends_with('.');
        rest.starts_with(' ') && ends && !only_words && !dots
    });
    &line[..end.unwrap_or(line.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_an_answer_ends_before_its_sentence() {
        for (text, way) in [
            (
                "2 and 3. That is 5. So the answer is 5.",
                "2 and 3. That is 5.",
            ),
            ("We add.\nAnswer: 5", "We add."),
            ("The answer is 5. Or 6. The answer is 6.", ""),
            ("so \\boxed{4}", ""),
            ("It is 5.\n", "It is 5."),
            ("48+24=72\n#### 72", "48+24=72"),
        ] {
            assert_eq!(before(text), way, "{text:?}");
        }
    }

    #[test]
    fn the_last_mark_counts_and_boxes_come_first() {
        for (text, answer) in [
            (
                "so \\boxed{4} or rather \\boxed{\\frac{1}{2}}.",
                Some("\\frac{1}{2}"),
            ),
            ("\\boxed{7} and then \\boxed{8", Some("7")),
            ("48+24=72\n#### 72\n", Some("72")),
            ("#### \n 5 \nx", Some("5")),
            ("The answer is 3.5. I am sure.", Some("3.5")),
            ("The answer is 4. No, the Answer: 5", Some("5")),
            ("answer is **B**!", Some("**B**")),
            ("The answer is", None),
            ("\\boxed{}", None),
            ("so $x = \\boxed 5$.", Some("5")),
            ("which is \\boxed 5, as we said", Some("5")),
            ("\\boxed{\\text{a \\} b}}", Some("\\text{a \\} b}")),
            ("\\fbox{3}", Some("3")),
            (
                "$\\boxed{1}$ and $\\boxed{2}$",
                Some("\\boxed{1}$ and $\\boxed{2}"),
            ),
            ("\\boxed{1} was wrong, \\boxed{2}", Some("2")),
            ("The answer is:\n\n**5**", Some("**5**")),
            ("The answer is Rs. 500. Yes.", Some("Rs. 500")),
            ("The answer is 8! Not 9.", Some("8")),
            ("\\boxed{5}\n\\boxed{5}", Some("5")),
            ("The answer is not 18 but 17.", Some("17")),
            ("The answer is 9? No, 8.", Some("9? No, 8.")),
            ("The answer is 9.\nWait, 8.", Some("9.\nWait, 8.")),
            ("The answer is 9. No units are needed.", Some("9")),
            ("\\boxed{9}. No wait, 8.", Some("\\boxed{9}. No wait, 8.")),
            ("Answer: A... or B", Some("A... or B")),
            ("#### 9\nNo, 8", Some("9\nNo, 8")),
            ("The answer is 9. Actually, 8.", Some("9. Actually, 8.")),
            ("\\boxed{9}. Actually, we need no more.", Some("9")),
            ("no mark, 12", None),
            ("", None),
        ] {
            assert_eq!(marked(text), answer, "{text:?}");
        }
    }
}
