//! Tasks that are made up, as hard as one wants, each with its solution.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Task, Verifier};

/// What tasks are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Sums and products, from left to right.
    Arithmetic,
    /// Reach a number with others, each used once.
    Countdown,
    /// The last letters of words, joined.
    Letters,
}

/// Everyday words without a meaning for the task.
const WORDS: [&str; 24] = [
    "apple", "river", "cloud", "stone", "garden", "winter", "pencil", "bridge", "candle", "forest",
    "mirror", "butter", "silver", "rocket", "island", "jacket", "violin", "basket", "harbor",
    "kitten", "meadow", "onion", "puzzle", "tunnel",
];

/// `n` tasks of a family, of `difficulty` steps, or of one more number or word. The same arguments give the same tasks, and more of them begin with the same.
pub fn tasks(family: Family, difficulty: u32, n: usize, seed: u64) -> Vec<Task> {
    let difficulty = difficulty.clamp(1, 12);
    let task = |i: usize| {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(i as u64);
        let mut task = match family {
            Family::Arithmetic => arithmetic(difficulty, &mut random),
            Family::Countdown => countdown(difficulty, &mut random),
            Family::Letters => letters(difficulty, &mut random),
        };
        task.level = Some(difficulty);
        task
    };
    (0..n).map(task).collect()
}

fn arithmetic(steps: u32, random: &mut impl Rng) -> Task {
    let mut value: i64 = random.random_range(2..20);
    let mut question = format!("Start with {value}.");
    let mut solution = format!("We start with {value}.");
    for _ in 0..steps {
        let before = value;
        // Products of products leave the range in which anybody can compute.
        let (said, sign, by) = match random.random_range(0..3) {
            0 if value.abs() < 200 => ("Multiply by", '*', random.random_range(2..5)),
            1 => ("Subtract", '-', random.random_range(1..30)),
            _ => ("Add", '+', random.random_range(1..30)),
        };
        value = match sign {
            '*' => value * by,
            '-' => value - by,
            _ => value + by,
        };
        question += &format!(" {said} {by}.");
        solution += &format!(" {before} {sign} {by} = {value}.");
    }
    Task {
        question: format!("{question} What is the result?"),
        answer: value.to_string(),
        solution: Some(format!("{solution} The answer is {value}.")),
        verifier: Verifier::Number,
        level: None,
        user: None,
        tenant: None,
    }
}

fn countdown(steps: u32, random: &mut impl Rng) -> Task {
    let mut value: i64 = random.random_range(1..20);
    let mut numbers = vec![value];
    let mut way = value.to_string();
    for _ in 0..steps {
        let by = random.random_range(1..20);
        let add = value <= by || random.random_bool(0.5);
        value = if add { value + by } else { value - by };
        way += &format!(" {} {by}", if add { '+' } else { '-' });
        numbers.push(by);
    }
    numbers.shuffle(random);
    let listed: Vec<String> = numbers.iter().map(i64::to_string).collect();
    Task {
        question: format!(
            "Reach {value} with the numbers {}, each used once, and plus and minus. Write the expression.",
            listed.join(", ")
        ),
        answer: format!("{value} = {}", listed.join(" ")),
        solution: Some(format!("{way} = {value}. The answer is {way}")),
        verifier: Verifier::Expression,
        level: None,
        user: None,
        tenant: None,
    }
}

fn letters(words: u32, random: &mut impl Rng) -> Task {
    let words: Vec<&str> = WORDS
        .choose_multiple(random, words as usize + 1)
        .copied()
        .collect();
    let last = |word: &&str| word.chars().next_back().unwrap_or_default();
    let answer: String = words.iter().map(last).collect();
    let steps: Vec<String> = words
        .iter()
        .map(|word| format!("The last letter of {word} is {}.", last(word)))
        .collect();
    Task {
        question: format!(
            "Take the last letters of these words and join them: {}.",
            words.join(", ")
        ),
        solution: Some(format!("{} The answer is {answer}", steps.join(" "))),
        answer,
        verifier: Verifier::Exact,
        level: None,
        user: None,
        tenant: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILIES: [Family; 3] = [Family::Arithmetic, Family::Countdown, Family::Letters];

    #[test]
    fn solutions_solve_their_tasks() {
        for family in FAMILIES {
            for difficulty in [1, 4, 12] {
                for task in tasks(family, difficulty, 50, 7) {
                    assert_eq!(task.verifier.problem(&task.answer), None);
                    let solution = task.solution.as_deref().unwrap();
                    assert!(task.is_solved_by(solution), "{task:?}");
                    assert!(!task.is_solved_by("I do not know."), "{task:?}");
                    assert_eq!(task.level, Some(difficulty));
                }
            }
        }
    }

    #[test]
    fn tasks_follow_from_the_seed_and_differ() {
        for family in FAMILIES {
            let many = tasks(family, 3, 60, 1);
            assert_eq!(tasks(family, 3, 20, 1), many[..20]);
            assert_ne!(tasks(family, 3, 20, 2), many[..20]);
            let distinct: std::collections::BTreeSet<&str> =
                many.iter().map(|task| task.question.as_str()).collect();
            assert!(distinct.len() > 50, "{} of 60", distinct.len());
        }
    }
}
