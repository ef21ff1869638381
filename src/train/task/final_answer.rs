//! Where in a text the answer stands.

/// The answer that a text marks as one: the last `\boxed{..}`, else what follows the last `####`, else
/// what follows the last "answer is" or "answer:", up to the end of its sentence.
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
    let marks = ["\\boxed{", "####", "answer is", "answer:"];
    let Some(mark) = marks.iter().filter_map(|m| lower.find(m)).min() else {
        return text.trim_end();
    };
    let way = &text[..mark];
    let line = way.rfind('\n').map_or(0, |at| at + 1);
    let sentence = way.rfind(". ").map_or(0, |at| at + 2);
    way[..line.max(sentence)].trim_end()
}

/// The inside of the last `\boxed{..}` whose braces close.
fn boxed(text: &str) -> Option<&str> {
    const MARK: &str = "\\boxed{";
    let starts = text.rmatch_indices(MARK).map(|(at, _)| at + MARK.len());
    starts.into_iter().find_map(|start| {
        let mut depth = 1;
        let rest = &text[start..];
        let end = rest.char_indices().find(|(_, c)| {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            depth == 0
        })?;
        Some(&rest[..end.0])
    })
}

fn after_hashes(text: &str) -> Option<&str> {
    let rest = text.rsplit_once("####")?.1;
    rest.lines().find(|line| !line.trim().is_empty())
}

fn after_words(text: &str) -> Option<&str> {
    // ASCII letters only change, so that places in both texts are the same.
    let lower = text.to_ascii_lowercase();
    let marks = ["answer is", "answer:"];
    let ends = marks.iter().filter_map(|m| Some(lower.rfind(m)? + m.len()));
    let rest = text[ends.max()?..].trim_start_matches([':', ' ']);
    let line = rest.lines().next()?;
    Some(sentence(line).trim_end_matches(['.', '!', ' ']))
}

/// Up to a full stop that ends a sentence: not one within 3.5.
fn sentence(line: &str) -> &str {
    line.split_once(". ").map_or(line, |(first, _)| first)
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
            ("no mark, 12", None),
            ("", None),
        ] {
            assert_eq!(marked(text), answer, "{text:?}");
        }
    }
}
