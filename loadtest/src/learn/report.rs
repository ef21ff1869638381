//! The report of a `learn` run. Written as JSON, with every answer of the exams.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::exam::Exam;
use super::lessons::Lessons;
use super::rates::{mean, rate, win_rate, Rate};
use super::scenario::LearnScenario;
use super::taste::Taste;
use super::turn::Turn;
use crate::report::Server;
use crate::seeds::{rng, Purpose};
use crate::stats::Errors;

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearnReport {
    /// [`crate::report::SCHEMA`].
    pub schema: u32,
    /// Always `learn`.
    pub kind: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// Free text from `--note`.
    pub note: Option<String>,
    /// The scenario with all defaults and flags applied.
    pub scenario: Value,
    /// What was asked.
    pub server: Server,
    /// What asked.
    pub environment: BTreeMap<String, String>,
    /// The first exam.
    pub before: Stage,
    /// The chats between.
    pub lessons: Lessons,
    /// The training between.
    pub turn: Turn,
    /// The second exam.
    pub after: Stage,
    /// One for each taste that somebody has, then `all`.
    pub groups: Vec<Group>,
    /// The people one by one.
    pub people: Vec<PersonNumbers>,
    /// What was answered to each held-out question.
    pub questions: Vec<Asked>,
}

/// How one exam went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Answers by adapter version; `base` where none answered.
    pub versions: BTreeMap<String, u64>,
    /// Failed requests by kind.
    pub errors: BTreeMap<String, Errors>,
    /// How long it took.
    pub seconds: f64,
}

/// Win rates of one person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PersonNumbers {
    /// Sent as `user`.
    pub user: String,
    /// Hidden from the server.
    pub taste: Taste,
    /// Preferences on record.
    pub preferences: u64,
    /// Before, against the generic answers of before.
    pub before: Option<f64>,
    /// After, against the generic answers of after.
    pub after: Option<f64>,
    /// After, against the generic answers of before.
    pub after_against_first: Option<f64>,
}

/// Win rates of the people of one taste, or of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The taste's name, or `all`.
    pub taste: String,
    /// So many people.
    pub people: usize,
    /// Preferences on record.
    pub preferences: u64,
    /// As for [`PersonNumbers`].
    pub before: Option<Rate>,
    /// As for [`PersonNumbers`].
    pub after: Option<Rate>,
    /// As for [`PersonNumbers`].
    pub after_against_first: Option<Rate>,
    /// How much of the taste answers have; none for `all`.
    pub count: Option<Count>,
}

/// Means over answers of what a taste counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// What is counted.
    pub unit: String,
    /// In the people's answers before.
    pub before: Option<f64>,
    /// In the people's answers after.
    pub after: Option<f64>,
    /// In the generic answers before.
    pub generic_before: Option<f64>,
    /// In the generic answers after.
    pub generic_after: Option<f64>,
}

/// One held-out question with its answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The question.
    pub question: String,
    /// The generic answers, before and after.
    pub generic: [Option<String>; 2],
    /// By `user`: their answers, before and after.
    pub answers: BTreeMap<String, [Option<String>; 2]>,
}

impl LearnReport {
    /// Writes the report as JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

impl From<&Exam> for Stage {
    fn from(exam: &Exam) -> Self {
        Self {
            versions: exam.versions.clone(),
            errors: exam.errors.clone(),
            seconds: exam.seconds,
        }
    }
}

/// The win rates of each person.
pub fn people(
    scenario: &LearnScenario,
    before: &Exam,
    after: &Exam,
    lessons: &Lessons,
) -> Vec<PersonNumbers> {
    let numbers = |(place, person): (usize, &super::scenario::Person)| {
        let rate = |exam: &Exam, generic: &Exam| {
            win_rate(person.taste, &exam.answers[place], &generic.generic)
        };
        PersonNumbers {
            user: person.name.clone(),
            taste: person.taste,
            preferences: lessons.by_person[place],
            before: rate(before, before),
            after: rate(after, after),
            after_against_first: rate(after, before),
        }
    };
    scenario.people.iter().enumerate().map(numbers).collect()
}

/// The people by taste, then all of them.
pub fn groups(
    scenario: &LearnScenario,
    people: &[PersonNumbers],
    before: &Exam,
    after: &Exam,
) -> Vec<Group> {
    let tastes = Taste::ALL.into_iter().map(Some).chain([None]);
    let with_people = tastes.enumerate().filter_map(|(number, taste)| {
        let wanted = |person: &&PersonNumbers| taste.is_none_or(|taste| person.taste == taste);
        let of: Vec<&PersonNumbers> = people.iter().filter(wanted).collect();
        let mut group = group(scenario, number, &of)?;
        if let Some(taste) = taste {
            taste.name().clone_into(&mut group.taste);
            group.count = Some(count(scenario, taste, before, after));
        }
        Some(group)
    });
    with_people.collect()
}

/// `None` of nobody.
fn group(scenario: &LearnScenario, number: usize, people: &[&PersonNumbers]) -> Option<Group> {
    if people.is_empty() {
        return None;
    }
    let interval = |column: usize, pick: fn(&PersonNumbers) -> Option<f64>| {
        let values: Vec<f64> = people.iter().filter_map(|person| pick(person)).collect();
        let mut rng = rng(scenario.seed, Purpose::Bootstrap, number, column);
        rate(&values, scenario.resamples, &mut rng)
    };
    Some(Group {
        taste: "all".to_owned(),
        people: people.len(),
        preferences: people.iter().map(|person| person.preferences).sum(),
        before: interval(0, |person| person.before),
        after: interval(1, |person| person.after),
        after_against_first: interval(2, |person| person.after_against_first),
        count: None,
    })
}

fn count(scenario: &LearnScenario, taste: Taste, before: &Exam, after: &Exam) -> Count {
    let of_texts = |texts: &mut dyn Iterator<Item = &Option<String>>| {
        mean(texts.flatten().map(|text| taste.count(text)))
    };
    let of_people = |exam: &Exam| {
        let pairs = scenario.people.iter().zip(&exam.answers);
        let of_taste = pairs.filter(|(person, _)| person.taste == taste);
        of_texts(&mut of_taste.flat_map(|(_, answers)| answers))
    };
    Count {
        unit: taste.unit().to_owned(),
        before: of_people(before),
        after: of_people(after),
        generic_before: of_texts(&mut before.generic.iter()),
        generic_after: of_texts(&mut after.generic.iter()),
    }
}

/// All texts of the exams, by question.
pub fn questions(scenario: &LearnScenario, before: &Exam, after: &Exam) -> Vec<Asked> {
    let asked = |(place, question): (usize, &String)| {
        let answers = scenario.people.iter().enumerate().map(|(number, person)| {
            let both = [before, after].map(|exam| exam.answers[number][place].clone());
            (person.name.clone(), both)
        });
        Asked {
            question: question.clone(),
            generic: [before, after].map(|exam| exam.generic[place].clone()),
            answers: answers.collect(),
        }
    };
    let questions = scenario.questions.held_out.iter();
    questions.enumerate().map(asked).collect()
}
