//! Training questions: two answers each, and the better one goes back as a preference.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::bail;
use futures_util::{stream, StreamExt};
use rand::seq::SliceRandom;
use rand::RngCore;
use serde::{Deserialize, Serialize};

use super::ask::Asker;
use super::scenario::LearnScenario;
use super::taste::{Taste, Verdict};
use crate::outcome::Failure;
use crate::progress::Steps;
use crate::seeds::{rng, Purpose};
use crate::stats::{add_error, Errors};

/// What the chats came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lessons {
    /// Chats with two answers.
    pub chats: u64,
    /// Of these, chats whose answers were as good.
    pub ties: u64,
    /// Preferences on record.
    pub preferences: u64,
    /// The same, by person.
    pub by_person: Vec<u64>,
    /// Failed chats by kind.
    pub chat_errors: BTreeMap<String, Errors>,
    /// Preferences that were not recorded, by kind.
    pub preference_errors: BTreeMap<String, Errors>,
    /// How long it took.
    pub seconds: f64,
}

/// One chat of one person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chat {
    /// Number of the person.
    pub person: usize,
    /// Number of the training question.
    pub question: usize,
    /// Sent as `seed`.
    pub seed: u64,
}

enum Outcome {
    Preferred,
    Tie,
    NoAnswer(Failure),
    NotRecorded(Failure),
}

/// All chats: everybody's first, then everybody's second, and on. Each person goes through the
/// training questions in an order of their own, and starts again where they are used up.
pub fn chats(scenario: &LearnScenario) -> Vec<Chat> {
    let (people, questions) = (scenario.people.len(), scenario.questions.training.len());
    let mut chats = Vec::with_capacity(people * scenario.chats_per_user);
    for person in 0..people {
        for round in 0..scenario.chats_per_user.div_ceil(questions) {
            let mut order: Vec<usize> = (0..questions).collect();
            order.shuffle(&mut rng(scenario.seed, Purpose::Order, person, round));
            let asked = scenario.chats_per_user - round * questions;
            for &question in order.iter().take(asked) {
                let occasion = round * questions + question;
                let mut rng = rng(scenario.seed, Purpose::Chat, person, occasion);
                // Servers take 64 signed bits, and JSON readers 53; the server adds the index.
                let seed = rng.next_u64() >> 12;
                chats.push(Chat {
                    person,
                    question,
                    seed,
                });
            }
        }
    }
    let per_person = scenario.chats_per_user;
    let turn = |place: usize| chats[place % people * per_person + place / people];
    (0..chats.len()).map(turn).collect()
}

/// Asks all training questions and sends the preferences.
///
/// # Errors
/// No preference came of it, so that there is nothing to learn from.
pub async fn teach(asker: &Asker<'_>, quiet: bool) -> anyhow::Result<Lessons> {
    let start = Instant::now();
    let chats = chats(asker.scenario);
    let steps = Steps::new("chats", chats.len(), quiet);
    let mut lessons = Lessons {
        by_person: vec![0; asker.scenario.people.len()],
        ..Lessons::default()
    };
    let mut outcomes = stream::iter(chats)
        .map(|chat| async move { (chat.person, hold(asker, chat).await) })
        .buffer_unordered(asker.scenario.concurrency);
    while let Some((person, outcome)) = outcomes.next().await {
        steps.add();
        lessons.add(person, &outcome);
    }
    steps.finish();
    lessons.seconds = start.elapsed().as_secs_f64();
    if lessons.preferences == 0 {
        let errors = lessons.chat_errors.iter().chain(&lessons.preference_errors);
        let errors: Vec<String> = errors
            .map(|(kind, errors)| format!("{} x {kind}: {}", errors.count, errors.example))
            .collect();
        bail!(
            "no preference came of the chats, so there is nothing to learn: {} with two answers, {} ties; {}",
            lessons.chats, lessons.ties, errors.join("; ")
        );
    }
    Ok(lessons)
}

/// One chat and its preference.
async fn hold(asker: &Asker<'_>, chat: Chat) -> Outcome {
    let person = &asker.scenario.people[chat.person];
    let question = &asker.scenario.questions.training[chat.question];
    let pair = match asker.two(question, &person.name, chat.seed).await {
        Ok(pair) => pair,
        Err(failure) => return Outcome::NoAnswer(failure),
    };
    let Some(chosen) = better(person.taste, &pair.texts) else {
        return Outcome::Tie;
    };
    match asker.prefer(question, &person.name, &pair, chosen).await {
        Ok(()) => Outcome::Preferred,
        Err(failure) => Outcome::NotRecorded(failure),
    }
}

/// The index of the better of two texts.
fn better(taste: Taste, texts: &[String]) -> Option<usize> {
    match taste.judge(&texts[0], &texts[1]) {
        Verdict::Win => Some(0),
        Verdict::Tie => None,
        Verdict::Loss => Some(1),
    }
}

impl Lessons {
    fn add(&mut self, person: usize, outcome: &Outcome) {
        if !matches!(outcome, Outcome::NoAnswer(_)) {
            self.chats += 1;
        }
        match outcome {
            Outcome::Preferred => {
                self.preferences += 1;
                self.by_person[person] += 1;
            }
            Outcome::Tie => self.ties += 1,
            Outcome::NoAnswer(failure) => add_error(&mut self.chat_errors, failure),
            Outcome::NotRecorded(failure) => add_error(&mut self.preference_errors, failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::*;
    use crate::learn::scenario::{resolve, RawLearn};

    fn scenario(head: &str) -> LearnScenario {
        let text = format!(
            "{head}\n[users]\nshort = 2\nlist = 1\n[questions]\n\
             training = [\"a?\", \"b?\", \"c?\", \"d?\"]\nheld_out = [\"e?\"]"
        );
        resolve(&RawLearn::parse(&text, Path::new("t.toml")).unwrap()).unwrap()
    }

    #[test]
    fn everybody_asks_each_question_before_any_again() {
        let chats = chats(&scenario("chats_per_user = 6"));
        let people: Vec<usize> = chats.iter().map(|chat| chat.person).collect();
        assert_eq!(people[..6], [0, 1, 2, 0, 1, 2], "they take turns");
        assert_eq!(chats.len(), 18);
        for person in 0..3 {
            let of = chats.iter().filter(|chat| chat.person == person);
            let asked: Vec<usize> = of.map(|chat| chat.question).collect();
            let first: HashSet<usize> = asked[..4].iter().copied().collect();
            assert_eq!((asked.len(), first.len()), (6, 4), "{asked:?}");
        }
        let seeds: HashSet<u64> = chats.iter().map(|chat| chat.seed).collect();
        assert_eq!(seeds.len(), 18, "a question asked again has another seed");
        assert!(seeds.iter().all(|&seed| seed < 1 << 52));
    }

    #[test]
    fn seeds_follow_from_the_scenario() {
        let same = scenario("seed = 3\nchats_per_user = 4");
        assert_eq!(chats(&same), chats(&same));
        let other = chats(&scenario("seed = 4\nchats_per_user = 4"));
        let mine: HashSet<Chat> = chats(&same).into_iter().collect();
        assert!(other.iter().all(|chat| !mine.contains(chat)));
    }

    #[test]
    fn the_taste_chooses() {
        let texts = ["one two three".to_owned(), "one".to_owned()];
        assert_eq!(better(Taste::Short, &texts), Some(1));
        assert_eq!(better(Taste::Long, &texts), Some(0));
        assert_eq!(better(Taste::List, &texts), None);
    }
}
