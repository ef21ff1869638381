//! What a model is asked. The paper's own templates are not known; these keep its two conditions: the two
//! prompts differ by little more than the answer, and the final answer can be found by a program.

use crate::task::{Task, Verifier};

/// The question as it is asked in training and in tests: without the answer.
pub fn plain(task: &Task) -> String {
    format!("{}\n{}", task.question.trim(), how(task))
}

/// The question with the answer shown: what an explanation is sampled from.
pub fn with_answer(task: &Task) -> String {
    let plain = plain(task);
    let answer = shown(task);
    format!("{plain} The correct answer is {answer}. Explain step by step how to reach it.")
}

fn how(task: &Task) -> &'static str {
    match task.verifier {
        Verifier::Choice => "Think step by step, then end with \"The answer is\" and the letter.",
        Verifier::Json => "Think step by step, then end with the JSON.",
        _ => "Think step by step, then end with \"The answer is\" and the result.",
    }
}

/// The answer as it can be told: of what is given as a goal or a pattern, a way to it.
pub(super) fn shown(task: &Task) -> &str {
    let of_solution = || {
        let solution = task.solution.as_deref()?;
        crate::task::final_answer::marked(solution)
    };
    match task.verifier {
        Verifier::Expression | Verifier::Regex => of_solution().unwrap_or(&task.answer),
        _ => &task.answer,
    }
}

/// Phrases by which an explanation shows that it was given the answer.
const HINTS: [&str; 8] = [
    "correct answer is",
    "given answer",
    "answer is given",
    "given that the answer",
    "since the answer is",
    "we know that the answer",
    "as stated, the answer",
    "the provided answer",
];

/// An explanation as if nobody had told: sentences that give the hint away are left out, and the answer
/// stands at the end where the text does not end with one. `None` if nothing is left, or the right answer
/// cannot be put there.
pub fn as_response(task: &Task, explanation: &str) -> Option<String> {
    let told = |sentence: &str| {
        let lower = sentence.to_lowercase();
        HINTS.iter().any(|hint| lower.contains(hint))
    };
    let kept: String = sentences(explanation).filter(|s| !told(s)).collect();
    let kept = kept.trim();
    if kept.is_empty() {
        return None;
    }
    if task.is_solved_by(kept) {
        return Some(kept.to_owned());
    }
    // A wrong answer that stays marked above it, or a task whose answer cannot be told, spoils it.
    let text = format!("{kept}\nThe answer is {}.", shown(task));
    task.is_solved_by(&text).then_some(text)
}

/// Pieces that end with a sentence or a line; together they are the text.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n')
        .flat_map(|line| line.split_inclusive(". "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(answer: &str) -> Task {
        Task {
            question: "2 + 3?".into(),
            answer: answer.into(),
            solution: None,
            verifier: Verifier::Number,
            level: None,
            user: None,
            tenant: None,
        }
    }

    #[test]
    fn the_two_prompts_differ_by_the_hint_only() {
        let task = task("5");
        let (plain, told) = (plain(&task), with_answer(&task));
        let hint = told.strip_prefix(&plain).unwrap();
        assert!(hint.contains("correct answer is 5"), "{hint}");
        assert!(!plain.contains('5'), "{plain}");
        let goal = Task {
            answer: "8 = 3 5".into(),
            solution: Some("3 + 5 = 8. The answer is 3 + 5".into()),
            verifier: Verifier::Expression,
            ..task
        };
        assert!(with_answer(&goal).contains("correct answer is 3 + 5."));
    }

    #[test]
    fn an_explanation_does_not_say_that_it_was_told() {
        let task = task("5");
        for (said, kept) in [
            (
                "Since the answer is 5, it must be. 2 plus 3 makes 5.",
                Some("2 plus 3 makes 5."),
            ),
            (
                "We add.\nThe correct answer is 5.",
                Some("We add.\nThe answer is 5."),
            ),
            (
                "2 plus 3 makes 6.",
                Some("2 plus 3 makes 6.\nThe answer is 5."),
            ),
            ("The correct answer is 5.", None),
            (" \n", None),
        ] {
            assert_eq!(as_response(&task, said).as_deref(), kept, "{said:?}");
        }
    }
}
