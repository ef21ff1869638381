//! Held-out questions, asked greedily by everybody, and by nobody for the generic answer.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::bail;
use futures_util::{stream, StreamExt};

use super::ask::Asker;
use crate::progress::Steps;
use crate::stats::{add_error, Errors};

/// The answers of one exam.
#[derive(Debug, Clone, Default)]
pub struct Exam {
    /// To each question, of the generic user; `None` if the request failed.
    pub generic: Vec<Option<String>>,
    /// By person, then by question.
    pub answers: Vec<Vec<Option<String>>>,
    /// Answers by adapter version.
    pub versions: BTreeMap<String, u64>,
    /// Failed requests by kind.
    pub errors: BTreeMap<String, Errors>,
    /// How long it took.
    pub seconds: f64,
}

/// Asks every held-out question once as each person and once as nobody.
///
/// # Errors
/// No request was answered.
pub async fn take(asker: &Asker<'_>, label: &str, quiet: bool) -> anyhow::Result<Exam> {
    let start = Instant::now();
    let (people, questions) = (&asker.scenario.people, &asker.scenario.questions.held_out);
    let nobody_first = std::iter::once(None).chain((0..people.len()).map(Some));
    let requests = nobody_first.flat_map(|person| (0..questions.len()).map(move |q| (person, q)));
    let steps = Steps::new(label, (people.len() + 1) * questions.len(), quiet);
    let mut exam = Exam {
        generic: vec![None; questions.len()],
        answers: vec![vec![None; questions.len()]; people.len()],
        ..Exam::default()
    };
    let mut answers = stream::iter(requests)
        .map(|(person, question)| async move {
            let user = person.map(|person: usize| people[person].name.as_str());
            (
                person,
                question,
                asker.greedy(&questions[question], user).await,
            )
        })
        .buffer_unordered(asker.scenario.concurrency);
    while let Some((person, question, result)) = answers.next().await {
        steps.add();
        match result {
            Ok(answer) => {
                *exam.versions.entry(answer.version).or_default() += 1;
                let text = answer.texts.into_iter().next();
                match person {
                    Some(person) => exam.answers[person][question] = text,
                    None => exam.generic[question] = text,
                }
            }
            Err(failure) => add_error(&mut exam.errors, &failure),
        }
    }
    steps.finish();
    exam.seconds = start.elapsed().as_secs_f64();
    if exam.versions.is_empty() {
        let (kind, first) = exam.errors.first_key_value().unzip();
        let (kind, example) = (
            kind.map_or("", |kind| kind),
            first.map_or("", |e| &e.example),
        );
        bail!("exam {label}: no question was answered ({kind}: {example}); check --model and the server's log");
    }
    Ok(exam)
}
