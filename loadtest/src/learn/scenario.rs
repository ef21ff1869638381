//! The scenario of a `learn` run: as typed, then checked.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::taste::Taste;
use crate::scenario::{as_seconds, Check, ScenarioError, Seconds, LIMITS};

/// The file as typed; `scenarios/README.md` documents every field with its default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "named and documented as in LearnScenario")]
pub struct RawLearn {
    pub name: Option<String>,
    pub description: Option<String>,
    pub seed: Option<u64>,
    pub model: Option<String>,
    pub max_tokens: Option<usize>,
    pub temperature: Option<f64>,
    pub chats_per_user: Option<usize>,
    pub concurrency: Option<usize>,
    pub timeout: Option<String>,
    pub turn_timeout: Option<String>,
    pub resamples: Option<usize>,
    pub user_name: Option<String>,
    #[serde(default)]
    pub styles: Vec<Style>,
    pub users: RawTastes,
    pub questions: Questions,
    /// Where the file was, for messages.
    #[serde(skip)]
    pub file: PathBuf,
}

/// `[users]`: so many people of each taste.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "named and documented as in Taste")]
pub struct RawTastes {
    pub short: Option<usize>,
    pub long: Option<usize>,
    pub list: Option<usize>,
    pub prose: Option<usize>,
    pub questions: Option<usize>,
}

/// `[[styles]]`: a way in which the app asks for an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Style {
    /// What stands before the question: an instruction, and examples perhaps.
    pub messages: Vec<Message>,
}

/// One message of a style.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

/// `[questions]`: what people ask. No question is in both lists.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Questions {
    /// In chats, whose answers are compared and sent back.
    pub training: Vec<String>,
    /// In the exams alone, so that nothing can be learned by heart.
    pub held_out: Vec<String>,
}

/// A checked scenario.
#[derive(Debug, Clone, Serialize)]
pub struct LearnScenario {
    /// Short name, for the report.
    pub name: String,
    /// One sentence for the reader of the report.
    pub description: String,
    /// Everything random follows from it.
    pub seed: u64,
    /// Sent as `model`.
    pub model: String,
    /// Sent as `max_tokens`, in chats and exams.
    pub max_tokens: usize,
    /// Of chats; exams are greedy.
    pub temperature: f64,
    /// Ways in which the app asks, two of them for each chat; none: it asks for two samples.
    pub styles: Vec<Style>,
    /// Training chats of each person.
    pub chats_per_user: usize,
    /// Requests at a time.
    pub concurrency: usize,
    /// Of one request, from send to last byte.
    #[serde(rename = "timeout_s", serialize_with = "as_seconds")]
    pub timeout: Duration,
    /// So long a new version is waited for, if no command makes one.
    #[serde(rename = "turn_timeout_s", serialize_with = "as_seconds")]
    pub turn_timeout: Duration,
    /// Resamples behind each interval.
    pub resamples: usize,
    /// Who asks.
    pub people: Vec<Person>,
    /// What they ask.
    pub questions: Questions,
}

/// A simulated person.
#[derive(Debug, Clone, Serialize)]
pub struct Person {
    /// Sent as `user`.
    pub name: String,
    /// Never sent.
    pub taste: Taste,
}

impl RawLearn {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// The file cannot be read, or is not a `learn` scenario.
    pub fn read(file: &Path) -> Result<Self, ScenarioError> {
        Ok(Self {
            file: file.to_owned(),
            ..ScenarioError::read(file)?
        })
    }

    /// Parses the text of a scenario file; `file` is for messages only.
    ///
    /// # Errors
    /// The text is not a `learn` scenario.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ScenarioError> {
        Ok(Self {
            file: file.to_owned(),
            ..ScenarioError::parse(text, file)?
        })
    }
}

/// Checks a scenario and fills in defaults.
///
/// # Errors
/// [`ScenarioError::Field`] for the first field that is out of range or does not go with another.
pub fn resolve(raw: &RawLearn) -> Result<LearnScenario, ScenarioError> {
    let check = Check {
        file: raw.file.clone(),
    };
    let stem = raw.file.file_stem();
    let stem = stem.map(|stem| stem.to_string_lossy().into_owned());
    let people = check.people(raw)?;
    let chats = raw.chats_per_user.unwrap_or(20);
    let chats_per_user = check.range("chats_per_user", chats, 1, LIMITS.requests / people.len())?;
    let questions = check.questions(&raw.questions)?;
    let max_tokens = raw.max_tokens.unwrap_or(96);
    let concurrency = raw.concurrency.unwrap_or(8);
    Ok(LearnScenario {
        name: raw.name.clone().or(stem).unwrap_or_default(),
        description: raw.description.clone().unwrap_or_default(),
        seed: raw.seed.unwrap_or(0),
        model: raw.model.clone().unwrap_or_else(|| "attune".to_owned()),
        max_tokens: check.range("max_tokens", max_tokens, 1, LIMITS.tokens)?,
        // At 0 both answers of a chat are the same, and nobody prefers anything.
        temperature: check.range("temperature", raw.temperature.unwrap_or(1.0), 0.01, 2.0)?,
        chats_per_user,
        styles: check.styles(&raw.styles)?,
        concurrency: check.range("concurrency", concurrency, 1, LIMITS.in_flight)?,
        timeout: check.bounded("timeout", raw.timeout.as_deref(), "300s")?,
        turn_timeout: check.bounded("turn_timeout", raw.turn_timeout.as_deref(), "1h")?,
        resamples: check.range("resamples", raw.resamples.unwrap_or(2000), 100, 100_000)?,
        people,
        questions,
    })
}

impl Check {
    fn people(&self, raw: &RawLearn) -> Result<Vec<Person>, ScenarioError> {
        let name = raw.user_name.as_deref().unwrap_or("learner-{i}");
        if !name.contains("{i}") {
            let problem = format!("{name:?} has no {{i}}, so all users would be one");
            return Err(self.field("user_name", problem));
        }
        let mut people = Vec::new();
        for taste in Taste::ALL {
            let given = match taste {
                Taste::Short => raw.users.short,
                Taste::Long => raw.users.long,
                Taste::List => raw.users.list,
                Taste::Prose => raw.users.prose,
                Taste::Questions => raw.users.questions,
            };
            let field = format!("users.{}", taste.name());
            let count = self.range(&field, given.unwrap_or(0), 0, MAX_PEOPLE)?;
            for _ in 0..count {
                let name = name.replace("{i}", &people.len().to_string());
                people.push(Person { name, taste });
            }
        }
        self.not_empty("users", people.len())?;
        Ok(people)
    }

    fn styles(&self, given: &[Style]) -> Result<Vec<Style>, ScenarioError> {
        if given.len() == 1 {
            let problem = "one style has nothing to be compared with; give two, or none".to_owned();
            return Err(self.field("styles", problem));
        }
        self.range("styles", given.len(), 0, MAX_STYLES)?;
        for (i, style) in given.iter().enumerate() {
            let field = format!("styles[{i}].messages");
            self.not_empty(&field, style.messages.len())?;
            self.range(&field, style.messages.len(), 1, MAX_STYLES)?;
            for message in &style.messages {
                if !["system", "user", "assistant"].contains(&message.role.as_str()) {
                    let problem =
                        format!("{:?} is no role: system, user or assistant", message.role);
                    return Err(self.field(&field, problem));
                }
                let length = message.content.trim().chars().count();
                self.range(&format!("{field}: length"), length, 1, MAX_LENGTH)?;
            }
        }
        Ok(given.to_vec())
    }

    fn questions(&self, given: &Questions) -> Result<Questions, ScenarioError> {
        let lists = [
            ("questions.training", &given.training),
            ("questions.held_out", &given.held_out),
        ];
        let mut seen = HashSet::new();
        for (field, texts) in lists {
            self.not_empty(field, texts.len())?;
            self.range(field, texts.len(), 1, MAX_QUESTIONS)?;
            for text in texts {
                let length = text.trim().chars().count();
                self.range(
                    &format!("{field}: length of {text:?}"),
                    length,
                    1,
                    MAX_LENGTH,
                )?;
                if !seen.insert(text.trim().to_lowercase()) {
                    let problem =
                        format!("{text:?} occurs twice; ask each question in one list, once");
                    return Err(self.field(field, problem));
                }
            }
        }
        Ok(given.clone())
    }

    fn bounded(
        &self,
        field: &str,
        given: Option<&str>,
        default: &str,
    ) -> Result<Duration, ScenarioError> {
        let value = Seconds(self.duration(field, given, default)?);
        let [low, high] = [Duration::from_millis(1), MAX_WAIT].map(Seconds);
        Ok(self.range(field, value, low, high)?.0)
    }
}

/// People of one taste.
const MAX_PEOPLE: usize = 10_000;
/// Styles, and messages of one.
const MAX_STYLES: usize = 32;
/// Questions in one list.
const MAX_QUESTIONS: usize = 10_000;
/// Characters of a question.
const MAX_LENGTH: usize = 10_000;
/// The longest training that is waited for.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        [users]
        short = 2
        list = 1
        [questions]
        training = ["Why?", "How?"]
        held_out = ["Who?"]
    "#;

    fn run(text: &str) -> Result<LearnScenario, ScenarioError> {
        RawLearn::parse(text, Path::new("dir/x.toml")).and_then(|raw| resolve(&raw))
    }

    #[test]
    fn defaults_are_filled_in_and_people_numbered() {
        let scenario = run(SMALL).unwrap();
        let people: Vec<(&str, Taste)> = scenario
            .people
            .iter()
            .map(|person| (person.name.as_str(), person.taste))
            .collect();
        let expected = [
            ("learner-0", Taste::Short),
            ("learner-1", Taste::Short),
            ("learner-2", Taste::List),
        ];
        assert_eq!(people, expected);
        assert_eq!(
            (scenario.name.as_str(), scenario.model.as_str()),
            ("x", "attune")
        );
        assert_eq!((scenario.chats_per_user, scenario.concurrency), (20, 8));
        assert_eq!(scenario.turn_timeout, Duration::from_secs(3600));
    }

    #[test]
    fn errors_name_file_and_field() {
        let top = |line: &str| format!("{line}\n{SMALL}");
        let cases = [
            (
                top("chats_per_user = 0"),
                "chats_per_user: 0 is not between 1 and",
            ),
            (top("concurrency = 5000"), "concurrency: 5000 is not"),
            (top("temperature = 0.0"), "temperature: 0 is not between"),
            (top("resamples = 1"), "resamples: 1 is not between"),
            (top("max_tokens = 0"), "max_tokens: 0 is not"),
            (top("timeout = \"25h\""), "timeout: 90000s is not between"),
            (top("turn_timeout = \"soon\""), "turn_timeout: \"soon\""),
            (top("user_name = \"ann\""), "user_name: \"ann\" has no {i}"),
            (
                SMALL.replace("short = 2\n        list = 1", ""),
                "users: empty",
            ),
            (
                SMALL.replace("short = 2", "short = 20000"),
                "users.short: 20000",
            ),
            (
                SMALL.replace("[\"Who?\"]", "[]"),
                "questions.held_out: empty",
            ),
            (
                SMALL.replace("Who?", " how? "),
                "questions.held_out: \" how? \" occurs twice",
            ),
            (
                SMALL.replace("Who?", " "),
                "questions.held_out: length of \" \": 0",
            ),
        ];
        for (text, expected) in cases {
            let message = run(&text).expect_err(expected).to_string();
            let expected = format!("scenario dir/x.toml: {expected}");
            assert!(
                message.starts_with(&expected),
                "{message:?} for {expected:?}"
            );
        }
        let unknown = run(&SMALL.replace("list", "lists"))
            .unwrap_err()
            .to_string();
        assert!(unknown.contains("unknown field `lists`"), "{unknown}");
    }

    #[test]
    fn the_shipped_scenario_resolves() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/learn.toml");
        let scenario = resolve(&RawLearn::read(&file).unwrap()).unwrap();
        for taste in [Taste::Short, Taste::List] {
            assert!(scenario.people.iter().any(|person| person.taste == taste));
        }
        assert_eq!(scenario.styles.len(), 2);
        assert!(scenario.questions.training.len() >= 40);
        assert!(scenario.questions.held_out.len() >= 12);
    }
}
