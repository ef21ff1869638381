//! The scenario of `soak` and `kills`: as typed, then checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::scenario::{as_seconds, Check, ScenarioError, Seconds, LIMITS};

/// The file as typed; `scenarios/README.md` documents every field with its default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "named and documented as in Mix")]
pub struct RawMix {
    pub description: Option<String>,
    pub seed: Option<u64>,
    pub model: Option<String>,
    pub clients: Option<usize>,
    pub requests: Option<usize>,
    pub people: Option<usize>,
    pub user_name: Option<String>,
    pub words: Option<usize>,
    pub max_tokens: Option<usize>,
    pub long_tokens: Option<usize>,
    pub timeout: Option<String>,
    pub reload_every: Option<String>,
    pub sample_every: Option<String>,
    pub bundles: Option<Vec<String>>,
    pub weights: Weights,
    /// Where the file was, for messages.
    #[serde(skip)]
    pub file: PathBuf,
}

/// How often what is done; only their ratios matter.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// A short chat, answered at once.
    pub chat: f64,
    /// A short chat that streams.
    pub stream: f64,
    /// A stream whose reader goes away at a random moment.
    pub disconnect: f64,
    /// A reader that hardly reads.
    pub slow: f64,
    /// A chat with `store: true`.
    pub keep: f64,
    /// A rating of a kept answer.
    pub feedback: f64,
    /// Two texts, one of them better.
    pub preference: f64,
    /// All that is recorded of a person goes.
    pub delete: f64,
}

/// Something that a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named and documented as in Weights")]
pub enum Deed {
    Chat,
    Stream,
    Disconnect,
    Slow,
    Keep,
    Feedback,
    Preference,
    Delete,
}

impl Deed {
    /// As in the scenario file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Stream => "stream",
            Self::Disconnect => "disconnect",
            Self::Slow => "slow",
            Self::Keep => "keep",
            Self::Feedback => "feedback",
            Self::Preference => "preference",
            Self::Delete => "delete",
        }
    }
}

/// A checked scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Mix {
    /// One sentence for the reader of the report.
    pub description: String,
    /// Who does what follows from it; when, from the server.
    pub seed: u64,
    /// Sent as `model`.
    pub model: String,
    /// Clients at a time; each has people of its own.
    pub clients: usize,
    /// Deeds of a `soak`, all clients together.
    pub requests: usize,
    /// People.
    pub people: usize,
    /// Template of their ids: `{i}` becomes the number.
    pub user_name: String,
    /// Words of a message.
    pub words: usize,
    /// Tokens of a short answer.
    pub max_tokens: usize,
    /// Tokens of an answer that is not read to its end.
    pub long_tokens: usize,
    /// Of one request, from send to last byte.
    #[serde(rename = "timeout_s", serialize_with = "as_seconds")]
    pub timeout: Duration,
    /// From one change of versions to the next.
    #[serde(rename = "reload_every_s", serialize_with = "as_seconds")]
    pub reload_every: Duration,
    /// From one look at the process to the next.
    #[serde(rename = "sample_every_s", serialize_with = "as_seconds")]
    pub sample_every: Duration,
    /// Names in the bundle folder; without two of them versions stay as they are.
    pub bundles: Vec<String>,
    /// How often what.
    pub weights: Weights,
}

/// Of so many people the first is never deleted, so that old records are there to be lost.
const ONE_STAYS: usize = 8;

impl RawMix {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// The file cannot be read, or is not such a scenario.
    pub fn read(file: &Path) -> Result<Self, ScenarioError> {
        let mut raw: Self = ScenarioError::read(file)?;
        raw.file = file.to_owned();
        Ok(raw)
    }
}

/// Checks a scenario and fills in defaults.
///
/// # Errors
/// [`ScenarioError::Field`] for the first field that is out of range.
pub fn resolve(raw: &RawMix) -> Result<Mix, ScenarioError> {
    let check = Check {
        file: raw.file.clone(),
    };
    let time = |field: &str, given: &Option<String>, default: &str| {
        let value = Seconds(check.duration(field, given.as_deref(), default)?);
        let bounds = [Duration::from_millis(10), Duration::from_secs(3600)].map(Seconds);
        Ok(check.range(field, value, bounds[0], bounds[1])?.0)
    };
    let tokens = |field: &str, given: Option<usize>, default: usize| {
        check.range(field, given.unwrap_or(default), 1, LIMITS.tokens)
    };
    let clients = check.range("clients", raw.clients.unwrap_or(16), 1, LIMITS.in_flight)?;
    let user_name = raw.user_name.clone().unwrap_or_else(|| "soak-{i}".into());
    if !user_name.contains("{i}") {
        let problem = format!("{user_name:?} has no {{i}}, so all people would be one");
        return Err(check.field("user_name", problem));
    }
    Ok(Mix {
        description: raw.description.clone().unwrap_or_default(),
        seed: raw.seed.unwrap_or(0),
        model: raw.model.clone().unwrap_or_else(|| "attune".to_owned()),
        clients,
        requests: check.range("requests", raw.requests.unwrap_or(1000), 1, LIMITS.requests)?,
        // At least one for each client.
        people: check.range("people", raw.people.unwrap_or(64), clients, LIMITS.users)?,
        user_name,
        words: tokens("words", raw.words, 6)?,
        max_tokens: tokens("max_tokens", raw.max_tokens, 8)?,
        long_tokens: tokens("long_tokens", raw.long_tokens, 96)?,
        timeout: time("timeout", &raw.timeout, "60s")?,
        reload_every: time("reload_every", &raw.reload_every, "2s")?,
        sample_every: time("sample_every", &raw.sample_every, "2s")?,
        bundles: raw.bundles.clone().unwrap_or_default(),
        weights: check.weights(raw.weights)?,
    })
}

impl Check {
    fn weights(&self, weights: Weights) -> Result<Weights, ScenarioError> {
        for (deed, weight) in weights.all() {
            self.range(&format!("weights.{}", deed.name()), weight, 0.0, 1e6)?;
        }
        let sum: f64 = weights.all().iter().map(|(_, weight)| weight).sum();
        self.range("weights: their sum", sum, f64::MIN_POSITIVE, f64::MAX)?;
        Ok(weights)
    }
}

impl Weights {
    fn all(&self) -> [(Deed, f64); 8] {
        [
            (Deed::Chat, self.chat),
            (Deed::Stream, self.stream),
            (Deed::Disconnect, self.disconnect),
            (Deed::Slow, self.slow),
            (Deed::Keep, self.keep),
            (Deed::Feedback, self.feedback),
            (Deed::Preference, self.preference),
            (Deed::Delete, self.delete),
        ]
    }

    /// Draws what is done next.
    pub fn draw(&self, rng: &mut impl Rng) -> Deed {
        let all = self.all();
        let sum: f64 = all.iter().map(|(_, weight)| weight).sum();
        let mut left = rng.random_range(0.0..1.0) * sum;
        for (deed, weight) in all {
            if left < weight {
                return deed;
            }
            left -= weight;
        }
        // A rounding slip at the upper end.
        Deed::Chat
    }
}

impl Mix {
    /// The id that is sent for a person.
    pub fn user(&self, person: usize) -> String {
        self.user_name.replace("{i}", &person.to_string())
    }

    /// One of the people of a client.
    pub fn person_of(&self, client: usize, rng: &mut impl Rng) -> usize {
        // At least one each, as `resolve` has checked.
        let each = (self.people - client).div_ceil(self.clients);
        client + self.clients * rng.random_range(0..each)
    }

    /// Whether a person is never deleted.
    pub fn stays(&self, person: usize) -> bool {
        person.is_multiple_of(ONE_STAYS)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn mix(text: &str) -> Result<Mix, ScenarioError> {
        let mut raw: RawMix = toml::from_str(text).unwrap();
        raw.file = "m.toml".into();
        resolve(&raw)
    }

    #[test]
    fn shipped_scenarios_resolve() {
        for name in ["soak.toml", "kills.toml"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
            let raw = RawMix::read(&folder.join(name)).unwrap();
            resolve(&raw).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn every_person_belongs_to_one_client() {
        let mix = mix("clients = 3\npeople = 8\n[weights]\nchat = 1").unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut seen = BTreeSet::new();
        for client in 0..3 {
            for _ in 0..200 {
                let person = mix.person_of(client, &mut rng);
                assert_eq!(person % 3, client);
                seen.insert(person);
            }
        }
        assert_eq!(seen, (0..8).collect());
    }

    #[test]
    fn deeds_come_as_often_as_they_weigh() {
        let weights = mix("[weights]\nchat = 1\ndelete = 3").unwrap().weights;
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let deleted = (0..4000)
            .filter(|_| match weights.draw(&mut rng) {
                Deed::Delete => true,
                Deed::Chat => false,
                other => panic!("{other:?} has no weight"),
            })
            .count();
        assert!((2850..3150).contains(&deleted), "{deleted} of 4000");
    }

    #[test]
    fn slips_are_named() {
        for (text, field) in [
            ("[weights]", "weights: their sum"),
            ("[weights]\nchat = -1", "weights.chat"),
            ("people = 3\n[weights]\nchat = 1", "people"),
            ("timeout = \"0s\"\n[weights]\nchat = 1", "timeout"),
            ("user_name = \"u\"\n[weights]\nchat = 1", "user_name"),
        ] {
            let error = mix(text).unwrap_err().to_string();
            assert!(error.contains(&format!("m.toml: {field}: ")), "{error}");
        }
    }
}
